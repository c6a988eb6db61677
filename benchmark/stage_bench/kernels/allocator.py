"""The C library's allocator, told to keep the memory of freed tensors instead of giving it back.

A large tensor is otherwise mapped anew each time, and every page of it cleared: on a graph of ogbn-arxiv's size more
than a third of an epoch. Results are the same; the process stays as large as it was at its largest.
"""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of mallopt(3)


def keep_memory() -> bool:
    """Whether it could be told (glibc only)."""
    try:
        library = ctypes.CDLL("libc.so.6")
        return bool(library.mallopt(_MMAP_MAX, 0)) and bool(library.mallopt(_TRIM_THRESHOLD, -1))
    except (OSError, AttributeError):
        return False


def give_back() -> None:
    """Return what is free now to the system, between two jobs."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return
