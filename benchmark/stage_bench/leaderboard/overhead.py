"""Less work beside the work while a report is made."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def less() -> Iterator[None]:
    """Python looks for cycles of objects rarely, and BLAS keeps to one thread; both are as before after it.

    What a report makes, a million small objects, stays and is in no cycle. Its products are small, and already divided
    among the cores (statistics.each): BLAS' own threads would only wait for each other. Also a decorator. The settings
    are the whole process's: for one thread at a time.
    """
    before = gc.get_threshold()
    gc.set_threshold(100_000, 50, 100)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        gc.set_threshold(*before)
