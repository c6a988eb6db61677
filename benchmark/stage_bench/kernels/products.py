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
    """Whether this torch has the product that we call."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b: [num_nodes, in_dim], [out_dim, in_dim], [out_dim] to [num_nodes, out_dim].

    Raises:
        ValueError: x has another number of columns than W, of which oneDNN would not say so much.
    """
    if x.shape[-1] != weight.shape[1]:
        raise ValueError(f"a layer for {weight.shape[1]} columns is given {x.shape[-1]}")
    if choice.current().bfloat16 or choice.fused(x, weight, bias):
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
        self._input_version = 0
        self._weights: list[Tensor] = []
        self._product: Tensor | None = None
        self._product_version = 0
        self._bfloat16 = False

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return FixedInput, ()  # a copy of a model, in memory or in a file, does not carry the product along

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """`linear(x, weight, bias)`; the result must not be changed in place."""
        if x.requires_grad or not choice.current().fused or torch.is_inference_mode_enabled():
            return linear(x, weight, bias)
        bfloat16 = choice.current().bfloat16
        known = self._product if self._is_known(x, weight, bias, bfloat16) else None
        self._product = None  # before another one is made
        out: Tensor = _Linear.apply(x, weight, bias, known, bfloat16)
        if known is None:
            self._weights = [tensor.detach().clone() for tensor in (weight, bias) if tensor is not None]
            self._input, self._input_version, self._bfloat16 = x, x._version, bfloat16
        self._product = out.detach()
        self._product_version = self._product._version
        return out

    def _is_known(self, x: Tensor, weight: Tensor, bias: Tensor | None, bfloat16: bool) -> bool:
        """Whether the product is that of these. Weights are compared by value: not every optimiser counts its steps."""
        if self._product is None or x is not self._input or bfloat16 != self._bfloat16:
            return False
        if (x._version, self._product._version) != (self._input_version, self._product_version):
            return False
        given = [tensor for tensor in (weight, bias) if tensor is not None]
        return len(given) == len(self._weights) and all(map(torch.equal, given, self._weights))


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
    if x.device.type != "cpu" or x.dtype != torch.float32 or not has_onednn() or 0 in x.shape:
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
