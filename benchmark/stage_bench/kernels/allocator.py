"""The C library's allocator: whether it keeps the memory of freed tensors or gives it back.

A large tensor is otherwise mapped anew each time, and every page of it cleared: on a graph of ogbn-arxiv's size more
than a third of an epoch. Results are the same. What is kept comes to pieces, so the process holds more than its tensors
at their most: where memory is what counts, as for a reversible backbone, it is given back.
"""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of mallopt(3)
_MAPPED = 1 << 20  # bytes from which on a tensor is mapped by itself, if it is to be given back


def keep_memory(keep: bool = True) -> bool:
    """Whether it could be told (glibc only)."""
    settings = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1}
    if not keep:
        settings = {_MMAP_MAX: 65_536, _MMAP_THRESHOLD: _MAPPED, _TRIM_THRESHOLD: _MAPPED}
    try:
        library = ctypes.CDLL("libc.so.6")
        done = [library.mallopt(name, value) for name, value in settings.items()]
        return all(done)
    except (OSError, AttributeError):
        return False


def give_back() -> None:
    """Return what is free now to the system, between two jobs."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return
