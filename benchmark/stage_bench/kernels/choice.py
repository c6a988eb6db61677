"""Which kernels are used: ours, fused for the CPU, or torch's and DGL's own.

Ours take float32 on the CPU; whatever else comes (CUDA, float64) goes to torch's, which compute the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Choice:
    """fused: our kernels where they can be used; bfloat16: dense products in bfloat16 (another result)."""

    fused: bool = True
    bfloat16: bool = False


_current: ContextVar[Choice] = ContextVar("kernels", default=Choice())  # noqa: B039 (it is frozen)


@contextmanager
def using(choice: Choice) -> Iterator[None]:
    """Within it, models compute as `choice` says."""
    token = _current.set(choice)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Choice:
    return _current.get()


def fused(*tensors: Tensor | None) -> bool:
    """Whether our kernels are to be used, and can be, for these."""
    return _current.get().fused and all(
        tensor is None or (tensor.device.type == "cpu" and tensor.dtype == torch.float32) for tensor in tensors
    )
