"""What a number was made with: versions, hardware, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = (
    "stage-bench", "torch", "dgl", "transformers", "sentence-transformers", "tokenizers", "optuna", "numpy", "scipy",
    "scikit-learn", "networkx", "pandas",
)  # fmt: skip


@lru_cache(1)
def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@lru_cache(1)
def commit() -> dict[str, Any]:
    """The commit of the checkout this code runs from, and whether it was changed; empty where it is no checkout."""
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, timeout=20)
        if done.returncode:
            raise OSError(done.stderr)
        return done.stdout.strip()

    try:
        if not git("ls-files", "--", "provenance.py"):
            return {}
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--", str(here.parent)))}
    except (OSError, subprocess.TimeoutExpired):
        return {}


_granted: int | None = None


def use_cores(count: int | None) -> None:
    """From now on this process uses so many cores at most: a cluster gives others to others. None: all that it may."""
    global _granted
    _granted = count


def cores() -> int:
    """Processor cores that this process is to use."""
    return min(_granted or _cores(), _cores())


def _cores() -> int:
    """Those of the machine that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@lru_cache(1)
def cpu() -> str:
    """The processor's name, cores and memory, such as `AMD EPYC, 2 cores, 24 GiB`."""
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = " ".join(line.partition(":")[2].split())
                break
    except OSError:
        pass
    try:
        memory = f", {round(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30)} GiB"
    except (ValueError, OSError, AttributeError):
        memory = ""
    return f"{name}, {_cores()} core{'s' if _cores() > 1 else ''}{memory}"


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 by itself; without, it is slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return any(flag in flags for flag in ("avx512_bf16", "amx_bf16", " bf16"))
