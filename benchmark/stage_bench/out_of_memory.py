"""Out of memory: what it looks like, and work on rows that goes on with fewer of them at once."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_noted: dict[str, int] = {}
_noting = threading.Lock()


def happened(error: BaseException) -> bool:
    """Whether an error says that there was no room: Python's and numpy's, CUDA's, that of torch on a CPU."""
    if isinstance(error, MemoryError):
        return True
    said = str(error).lower()
    return "memory" in said and ("alloc" in said or "out of memory" in said)


def in_parts(do: Callable[[int, int], T], count: int, what: str) -> list[T]:
    """`do(0, count)`, or where there is no memory for that, its halves, their halves, ..., down to one row: in order.

    do: makes something of the rows from the first number to the second, each for itself.
    what: the rows' name, for `taken`.
    """
    return _parts(do, 0, count, what)


def _parts(do: Callable[[int, int], T], start: int, stop: int, what: str) -> list[T]:
    try:
        return [do(start, stop)]
    except Exception as error:
        if stop - start < 2 or not happened(error):
            raise
    # Out here the error is gone, and with it what its frames held.
    _give_back()
    middle = (start + stop) // 2
    with _noting:
        _noted[what] = min(_noted.get(what, stop), middle - start)
    return [*_parts(do, start, middle, what), *_parts(do, middle, stop, what)]


def taken() -> str:
    """What `in_parts` had to do since the last call, in a few words; empty where nothing was out of memory."""
    with _noting:
        said = ", ".join(f"{size:,} {what}" for what, size in sorted(_noted.items()))
        _noted.clear()
    return f"out of memory, so at last {said} at once" if said else ""


def _give_back() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
