"""Compiling the kernels: once on a machine, before anything is on a clock, by one process at a time.

numba writes a compiled function's index before the function. Two processes that compile the same at once could mix them
up, and every later one would run the wrong code: so all of it happens here, behind a lock. A process that is killed in
between, or finds no room on the disk, leaves an index that points to whatever function of that name was there before.
Nor does numba see that a function in another file, which is part of a compiled one, has changed. So each state of the
sources has a folder of its own, in which there is no older function.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import tempfile
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

SOURCES = ("kernels/activation.py", "kernels/attention.py", "kernels/masks.py", "training/blocks.py")
"""The files with compiled functions, below the package."""


def _state() -> str:
    """Of the sources, as numba tells them apart, and of what compiles them."""
    package = Path(__file__).parents[1]
    stamps = [(name, status.st_mtime_ns, status.st_size) for name in SOURCES for status in [(package / name).stat()]]
    return hashlib.sha256(repr((str(package), version("numba"), stamps)).encode()).hexdigest()[:16]


def _cache() -> Path:
    """A folder of this user's alone: what numba finds in its cache it runs."""
    folder = user_cache_path("stage-bench") / "kernels" / _state()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:  # no home, or one that cannot be written: compiled anew by every process
        own = Path(tempfile.mkdtemp(prefix="stage-bench-kernels-"))
        atexit.register(shutil.rmtree, own, ignore_errors=True)
        return own


if "NUMBA_CACHE_DIR" not in os.environ:  # numba reads it once, when it is imported
    os.environ["NUMBA_CACHE_DIR"] = str(_cache())

from numba import njit  # noqa: E402

__all__ = ["compile_all", "is_first_time", "njit"]


def is_first_time() -> bool:
    """Whether nothing was compiled on this machine yet."""
    return not any(Path(os.environ["NUMBA_CACHE_DIR"]).rglob("*.nbi"))


@lru_cache(1)
def compile_all() -> None:
    """Run every kernel on a few nodes, for both widths of ids: long the first time, then a fraction of a second."""
    folder = Path(os.environ["NUMBA_CACHE_DIR"])
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "compiling.lock"):
        _run_all()


def _run_all() -> None:
    import torch

    from stage_bench.dgl_library import dgl
    from stage_bench.kernels import activation, attention, masks
    from stage_bench.training.blocks import Blocks

    state = torch.get_rng_state()
    masks.keep_mask(2, 0.5, 0)
    x = torch.ones(4, 2, requires_grad=True)
    activation.dropout(x, 0.5, True).sum().backward()
    for norm in (None, torch.nn.BatchNorm1d(2)):
        activation.norm_relu_dropout(x, norm, 0.5, True).sum().backward()
    ends = torch.tensor([0, 1, 2, 3, 0]), torch.tensor([1, 2, 3, 0, 0])
    hidden, attn = torch.ones(4, 1, 2, requires_grad=True), torch.ones(1, 1, 2)
    for graph in (dgl.graph(ends, num_nodes=4).int(), dgl.graph(ends, num_nodes=4)):
        for edge_mask in (None, torch.ones(5, dtype=torch.bool)):
            for receiving in (None, torch.ones(4, 1, 1, requires_grad=True)):
                attention.attend(graph, hidden, attn, receiving, edge_mask).sum().backward()
        for looped in (graph, dgl.remove_self_loop(graph)):
            blocks = Blocks(looped)
            block, _ = blocks.make(torch.tensor([0, 1]), 1)
            attention.attend(block, hidden[: block.num_src_nodes()], attn, None, None)
            blocks.senders(torch.tensor([0]))
    torch.set_rng_state(state)
