"""What one job may take, watched from outside its process: whatever it is in the middle of, it can be ended.

Memory is what the system could not take back: resident memory without a file behind it, shared memory, and what was
swapped out, as /proc/<pid>/status has them. Mapped files (embeddings, libraries) are not in it, nor is a GPU's memory.
"""

from __future__ import annotations

import time
from pathlib import Path

from stage_bench.diffusion.budget import shown
from stage_bench.errors import StageBenchError
from stage_bench.execution.executor import Options

_HELD = ("RssAnon:", "RssShmem:", "VmSwap:")


def held_bytes(pid: int | str) -> int | None:
    """What a process holds; None where that cannot be told: it is gone, or this is not Linux."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith(_HELD)]
    return sum(found) if found else None


def check(options: Options) -> None:
    """Raises StageBenchError where a limit could not be watched."""
    if options.memory is not None and held_bytes("self") is None:
        raise StageBenchError("--job-memory: what a process holds is read in /proc, which is not here; leave it out")


def too_long(options: Options, began: float | None) -> str:
    """Why a job that began then (`time.monotonic`) is to be ended; empty where it is not."""
    if options.seconds is None or began is None or time.monotonic() - began < options.seconds:
        return ""
    return f"stopped after {options.seconds:g} s, the time limit of a job (--job-time, or limits: in the suite)"


def too_much(options: Options, pid: int) -> str:
    """Why a process is to be ended; empty where it is not."""
    if options.memory is None or (held := held_bytes(pid)) is None or held <= options.memory:
        return ""
    limit = f"the memory limit of a job, {shown(options.memory)} (--job-memory, or limits: in the suite)"
    return f"out of memory: stopped at {shown(held)}, above {limit}"
