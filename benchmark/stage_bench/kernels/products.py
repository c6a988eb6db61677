"""Dense products for training on a CPU: oneDNN in the place of MKL, and bfloat16 on request.

MKL, which torch calls for float32, keeps to AVX2 on processors that are not Intel's; oneDNN, which torch brings along,
uses what the processor has. Results agree to the rounding of the sums.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from stage_bench.kernels import choice

_ROWS = 8192  # of a block in a product over all rows: its transposes stay in the cache


@lru_cache(1)
def has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b: [num_nodes, in_dim], [out_dim, in_dim], [out_dim] to [num_nodes, out_dim]."""
    if choice.current().bfloat16 or (choice.fused(x, weight, bias) and has_onednn()):
        out: Tensor = _Linear.apply(x, weight, bias, None, choice.current().bfloat16)
        return out
    return F.linear(x, weight, bias)


class Linear(nn.Linear):
    """`torch.nn.Linear` through `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


class FixedInput:
    """x W^T + b of an x that stays the same: the product of an evaluation serves the next training step as well.

    Between the two the weights do not change, and the product over a graph's raw features is the dearest of an epoch.
    """

    def __init__(self) -> None:
        self._input: Tensor | None = None
        self._state: tuple[Any, ...] = ()
        self._product: Tensor | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> FixedInput:
        return FixedInput()

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None, *parameters: Tensor) -> Tensor:
        """`linear(x, weight, bias)`; `parameters`: what weight and bias are made of, by default themselves."""
        if x.requires_grad or not choice.current().fused:
            return linear(x, weight, bias)
        parameters = parameters or tuple(tensor for tensor in (weight, bias) if tensor is not None)
        bfloat16 = choice.current().bfloat16
        # a tensor's version counts its changes in place, such as an optimiser's steps
        state = (bfloat16, x._version, *((id(parameter), parameter._version) for parameter in parameters))
        if x is not self._input or state != self._state:
            self._product = None
        out: Tensor = _Linear.apply(x, weight, bias, self._product, bfloat16)
        self._input, self._state, self._product = x, state, out.detach()
        return out


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, known: Tensor | None, bfloat16: bool
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias, ctx.bfloat16 = bias is not None, bfloat16
        if known is not None:
            return known.view_as(known)
        return _product(x, weight, bias, bfloat16)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        grad_x = _product(grad, weight.t(), None, ctx.bfloat16) if needs_x else None
        grad_weight = _over_rows(grad, x, ctx.bfloat16) if needs_weight else None
        grad_bias = grad.sum(dim=0) if needs_bias and ctx.has_bias else None
        return grad_x, grad_weight, grad_bias, None, None


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, bfloat16: bool) -> Tensor:
    if bfloat16:
        narrow = None if bias is None else bias.bfloat16()
        return F.linear(x.bfloat16(), weight.bfloat16(), narrow).float()
    if x.device.type != "cpu" or x.dtype != torch.float32 or not has_onednn():
        return F.linear(x, weight, bias)
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


def _over_rows(grad: Tensor, x: Tensor, bfloat16: bool) -> Tensor:
    """grad^T x: [out_dim, in_dim], summed over blocks of rows."""
    total: Tensor | None = None
    for rows, others in zip(grad.split(_ROWS), x.split(_ROWS), strict=True):
        # contiguous: for columns of a wider matrix oneDNN is several hundred times slower
        part = _product(rows.contiguous().t(), others.contiguous().t(), None, bfloat16)
        total = part if total is None else total.add_(part)
    assert total is not None
    return total
