"""Chains of grouped additive couplings, with ordinary autograd or rebuilt from their output.

A layer splits its input into groups x_1 ... x_C of columns and computes (Li et al. 2021, arXiv 2106.07476, eq. 5 to 9)

    x'_0 = x_2 + ... + x_C        x'_i = x_i + f_i(x'_{i-1})        i = 1 ... C,

from which x_i = x'_i - f_i(x'_{i-1}) follows. The f_i must be pure functions of their argument: whatever is random
in them is drawn beforehand.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class Branch:
    """One f_i, bound to all it needs but its input, and the parameters inside it.

    `function(x, update_statistics)` maps [num_nodes, dim / groups] to the same shape; it is called a second time,
    with False, in the backward pass of a reversible chain, and must not move batch-norm statistics then.
    """

    function: Callable[[Tensor, bool], Tensor]
    parameters: tuple[Tensor, ...]


def couple(x: Tensor, layers: Sequence[Sequence[Branch]], reversible: bool) -> Tensor:
    """Send `x` [num_nodes, dim] through `layers` (each a branch a group); the result has the shape of `x`.

    `reversible` keeps only the last output for the backward pass and rebuilds each layer's input from its output with
    one evaluation of each branch; what the branches hold (edge masks, a byte an edge) stays. Gradients agree to
    rounding, except where it carries a single activation across the kink of a ReLU (2e-3 of the norm was seen).
    """
    if reversible and torch.is_grad_enabled():
        parameters = [parameter for layer in layers for branch in layer for parameter in branch.parameters]
        out: Tensor = _ReversibleChain.apply(layers, x, *parameters)
        return out
    return _run(x, layers)


def _run(x: Tensor, layers: Sequence[Sequence[Branch]]) -> Tensor:
    parts = list(x.chunk(len(layers[0]), dim=1))
    for layer in layers:
        argument = reduce(add, parts[1:])
        for i, branch in enumerate(layer):
            parts[i] = argument = parts[i] + branch.function(argument, True)
    return torch.cat(parts, dim=1)


class _ReversibleChain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, layers: Sequence[Sequence[Branch]], x: Tensor, *parameters: Tensor) -> Tensor:
        out = _run(x, layers)
        ctx.layers = layers
        ctx.save_for_backward(out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (out,) = ctx.saved_tensors
        groups = len(ctx.layers[0])
        parts, grads = list(out.chunk(groups, dim=1)), list(grad.chunk(groups, dim=1))
        parameter_grads: list[Tensor | None] = []  # last layer and last group first; turned round at the end
        for layer in reversed(ctx.layers):
            # from the last group on: parts[i] turns from x'_i into x_i, after its successor has used it
            for i in reversed(range(groups)):
                argument = parts[i - 1] if i > 0 else reduce(add, parts[1:])
                argument = argument.detach().requires_grad_()
                trained = [parameter for parameter in layer[i].parameters if parameter.requires_grad]
                with torch.enable_grad():
                    value = layer[i].function(argument, False)
                argument_grad, *found = torch.autograd.grad(value, [argument, *trained], grads[i], allow_unused=True)
                parts[i] = parts[i] - value.detach()
                for j in [i - 1] if i > 0 else range(1, groups):
                    grads[j] = grads[j] + argument_grad
                by_id = dict(zip(map(id, trained), found, strict=True))
                parameter_grads += [by_id.get(id(parameter)) for parameter in reversed(layer[i].parameters)]
        return None, torch.cat(grads, dim=1), *reversed(parameter_grads)
