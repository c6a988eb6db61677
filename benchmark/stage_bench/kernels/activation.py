"""Batch norm, ReLU and dropout in one pass over memory.

The mask of the backward pass is read off the result, which is above zero where the activation was positive and kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from stage_bench.kernels import choice, masks, row_blocks
from stage_bench.kernels.compiling import njit

_MOMENTUM = 0.1  # of the running statistics, torch's default


def norm_relu_dropout(
    x: Tensor,
    norm: nn.BatchNorm1d | None,
    dropout: float,
    training: bool,
    key: int | None = None,
    update_statistics: bool = True,
) -> Tensor:
    """dropout(relu(norm(x))): float32 [num_nodes, dim] to the same shape.

    key: of the dropout mask; calls with equal keys and shapes share their mask. None: a new one.
    update_statistics: whether the running mean and variance take this batch in (in training).
    """
    if choice.fused(x):
        x = x.contiguous()  # each kernel is compiled for one layout
        if norm is None:
            shift, scale = _identity(x.shape[1])
            statistics = None
        elif training:
            shift, scale, statistics = norm.bias, norm.weight, (norm if update_statistics else None)
        else:
            # the running statistics folded into one product and one sum a column
            mean, var = _running(norm)
            scale = norm.weight * (var + norm.eps).rsqrt()
            shift = norm.bias - mean * scale
            statistics = None
        drop = dropout if training else 0.0
        key = (masks.draw_key() if key is None else key) if drop else 0
        by_batch = training and norm is not None
        out: Tensor = _NormReluDropout.apply(
            x, scale, shift, by_batch, norm.eps if norm else 0.0, statistics, drop, key
        )
        return out
    if norm is not None:
        running = (norm.running_mean, norm.running_var) if update_statistics or not training else (None, None)
        x = F.batch_norm(x, *running, norm.weight, norm.bias, training, _MOMENTUM, norm.eps)
    x = F.relu(x)
    if key is None or not training or dropout == 0:
        return F.dropout(x, dropout, training)
    generator = torch.Generator(x.device).manual_seed(key)
    return x * (torch.rand(x.shape, generator=generator, device=x.device) >= dropout) / (1 - dropout)


def dropout(x: Tensor, probability: float, training: bool) -> Tensor:
    """`torch.nn.functional.dropout`, float32 [num_nodes, dim]."""
    if not training or probability == 0:
        return x
    if not choice.fused(x):
        return F.dropout(x, probability)
    out: Tensor = _Dropout.apply(x, probability, masks.draw_key())
    return out


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, probability: float, key: int) -> Tensor:
        ctx.probability, ctx.key = probability, key
        return _dropped(x, probability, key)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _dropped(grad, ctx.probability, ctx.key), None, None


def _dropped(x: Tensor, probability: float, key: int) -> Tensor:
    x = x.contiguous()
    out = torch.empty_like(x)
    keep = np.float32(1 / (1 - probability))
    arguments = (x.detach().numpy(), keep, np.uint64(key), masks.threshold(probability), out.numpy())
    row_blocks.run(_drop, len(x), *arguments)
    return out


def _running(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, norm.running_var


def _identity(dim: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(dim), torch.ones(dim)


class _NormReluDropout(torch.autograd.Function):
    """out = keep / (1 - p) * relu(normalised(x) * scale + shift), normalised by the batch or not at all."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor,
        shift: Tensor,
        by_batch: bool,
        eps: float,
        statistics: nn.BatchNorm1d | None,
        drop: float,
        key: int,
    ) -> Tensor:
        rows, dim = x.shape
        mean, deviation = np.zeros(dim, np.float32), np.ones(dim, np.float32)
        if by_batch:
            if rows < 2:
                raise ValueError("batch norm needs more than one node in training")
            sums = np.empty((row_blocks.count(rows), 2, dim))
            array = x.detach().numpy()
            origin = array[:: max(1, rows // 64)].mean(axis=0, dtype=np.float64).astype(np.float32)
            row_blocks.run(_moments, rows, array, origin, sums)
            first, second = sums.sum(axis=0) / rows
            variance = np.maximum(second - first**2, 0)
            mean = (first + origin).astype(np.float32)
            deviation = (1 / np.sqrt(variance + eps)).astype(np.float32)
            if statistics is not None:
                unbiased = (variance * (rows / (rows - 1))).astype(np.float32)
                for running, now in zip(_running(statistics), (mean, unbiased), strict=True):
                    running.lerp_(torch.from_numpy(now), _MOMENTUM)
        factor = deviation * scale.detach().numpy()
        offset = shift.detach().numpy() - mean * factor
        out = torch.empty_like(x)
        arguments = (
            x.detach().numpy(),
            factor,
            offset,
            np.float32(1 / (1 - drop)),
            np.uint64(key),
            masks.threshold(drop),
        )
        row_blocks.run(_forward, rows, *arguments, out.numpy())
        ctx.save_for_backward(x, scale, out)
        ctx.mean, ctx.deviation, ctx.keep, ctx.by_batch = mean, deviation, np.float32(1 / (1 - drop)), by_batch
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, out = ctx.saved_tensors
        rows, dim = x.shape
        needs_x, needs_scale, needs_shift = ctx.needs_input_grad[:3]
        arrays = (grad.contiguous().numpy(), x.detach().numpy(), out.detach().numpy(), ctx.keep)
        first = second = np.zeros(dim)
        if needs_scale or needs_shift or ctx.by_batch:
            sums = np.empty((row_blocks.count(rows), 2, dim))
            row_blocks.run(_backward_sums, rows, *arrays, ctx.mean, ctx.deviation, sums)
            first, second = sums.sum(axis=0)
        grad_x = None
        if needs_x:
            grad_x = torch.empty_like(x)
            factor = ctx.deviation * scale.detach().numpy()
            share = np.float64(ctx.by_batch) / rows
            row_blocks.run(
                _backward,
                rows,
                *arrays,
                ctx.mean,
                ctx.deviation,
                factor,
                (first * share).astype(np.float32),
                (second * share).astype(np.float32),
                grad_x.numpy(),
            )
        grad_scale = torch.from_numpy(second.astype(np.float32)) if needs_scale else None
        grad_shift = torch.from_numpy(first.astype(np.float32)) if needs_shift else None
        return grad_x, grad_scale, grad_shift, None, None, None, None, None


@njit(nogil=True, cache=True)
def _drop(block: int, begin: int, end: int, x: np.ndarray, keep: Any, key: Any, least: Any, out: np.ndarray) -> None:
    dim = x.shape[1]
    for i in range(begin, end):
        for j in range(dim):
            out[i, j] = x[i, j] * keep if masks.hashed(key, i * dim + j) >= least else np.float32(0)


_INNER = 256  # rows summed in float32 before the sum goes to float64


@njit(nogil=True, cache=True, fastmath={"contract"})
def _moments(block: int, begin: int, end: int, x: np.ndarray, origin: np.ndarray, sums: np.ndarray) -> None:
    """Sums over a block of (x - origin) and its square; an origin near the mean keeps digits."""
    dim = x.shape[1]
    sums[block, :, :] = 0
    first, second = np.empty(dim, np.float32), np.empty(dim, np.float32)
    for start in range(begin, end, _INNER):
        first[:] = 0
        second[:] = 0
        for i in range(start, min(start + _INNER, end)):
            for j in range(dim):
                value = x[i, j] - origin[j]
                first[j] += value
                second[j] += value * value
        for j in range(dim):
            sums[block, 0, j] += first[j]
            sums[block, 1, j] += second[j]


@njit(nogil=True, cache=True, fastmath={"contract"})
def _forward(
    block: int,
    begin: int,
    end: int,
    x: np.ndarray,
    factor: np.ndarray,
    offset: np.ndarray,
    keep: Any,
    key: Any,
    least: Any,
    out: np.ndarray,
) -> None:
    dim = x.shape[1]
    for i in range(begin, end):
        if least > 0:
            for j in range(dim):
                value = x[i, j] * factor[j] + offset[j]
                dropped = value < 0 or masks.hashed(key, i * dim + j) < least  # what is no number stays so
                out[i, j] = np.float32(0) if dropped else value * keep
        else:
            for j in range(dim):
                value = x[i, j] * factor[j] + offset[j]
                out[i, j] = np.float32(0) if value < 0 else value


@njit(nogil=True, cache=True, fastmath={"contract"})
def _backward_sums(
    block: int,
    begin: int,
    end: int,
    grad: np.ndarray,
    x: np.ndarray,
    out: np.ndarray,
    keep: Any,
    mean: np.ndarray,
    deviation: np.ndarray,
    sums: np.ndarray,
) -> None:
    dim = x.shape[1]
    sums[block, :, :] = 0
    first, second = np.empty(dim, np.float32), np.empty(dim, np.float32)
    for start in range(begin, end, _INNER):
        first[:] = 0
        second[:] = 0
        for i in range(start, min(start + _INNER, end)):
            for j in range(dim):
                value = grad[i, j] * keep if out[i, j] > 0 else np.float32(0)
                first[j] += value
                second[j] += value * ((x[i, j] - mean[j]) * deviation[j])
        for j in range(dim):
            sums[block, 0, j] += first[j]
            sums[block, 1, j] += second[j]


@njit(nogil=True, cache=True, fastmath={"contract"})
def _backward(
    block: int,
    begin: int,
    end: int,
    grad: np.ndarray,
    x: np.ndarray,
    out: np.ndarray,
    keep: Any,
    mean: np.ndarray,
    deviation: np.ndarray,
    factor: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    grad_x: np.ndarray,
) -> None:
    dim = x.shape[1]
    for i in range(begin, end):
        for j in range(dim):
            value = grad[i, j] * keep if out[i, j] > 0 else np.float32(0)
            normalised = (x[i, j] - mean[j]) * deviation[j]
            grad_x[i, j] = factor[j] * (value - first[j] - normalised * second[j])
