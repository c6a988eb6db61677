"""Compiled loops over rows, spread over torch's number of threads.

The blocks do not depend on how many threads there are, and sums over blocks are added in order: so neither do results.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import torch

ROWS = 4096  # in a block: some MB, and enough blocks to share


def count(num_rows: int) -> int:
    """Blocks of that many rows."""
    return max(1, -(-num_rows // ROWS))


def run(kernel: Callable[..., None], num_rows: int, *arguments: Any) -> None:
    """Call `kernel(block, begin, end, *arguments)` for every block; the kernel must release the GIL."""
    blocks = count(num_rows)
    threads = min(torch.get_num_threads(), blocks)

    def work(first: int) -> None:
        for block in range(first, blocks, threads):
            kernel(block, block * ROWS, min(num_rows, (block + 1) * ROWS), *arguments)

    if threads == 1:
        work(0)
        return
    pool = _pool(torch.get_num_threads() - 1)
    others = [pool.submit(work, first) for first in range(1, threads)]
    work(0)
    for other in others:
        other.result()


@lru_cache(1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="kernels")
