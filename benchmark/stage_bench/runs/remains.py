"""What processes that were killed have left in a results folder."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from stage_bench.runs import holdings, working
from stage_bench.runs.findings import Remains, counted

OLD_SECONDS = 3600.0
"""What nobody has written to for so long belongs to no process that is at work."""

_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}")  # files.py
_MERGING = ".merging"


def find(results: Path) -> Iterator[Remains]:
    temporary = [path for name in holdings.FOLDERS for path in _temporary(results / name) if _is_old(path)]
    if temporary:
        megabytes = sum(path.lstat().st_size for path in temporary) / 1e6
        yield Remains(f"{counted(len(temporary), 'temporary file')} ({megabytes:,.1f} MB)", tuple(temporary))
    merged = [path for name in holdings.FOLDERS for path in (results / name).glob(f".*{_MERGING}") if _is_old(path)]
    if merged and working.is_free(results / f"{_MERGING}.lock"):
        yield Remains(f"{counted(len(merged), 'half-filled folder')} of a merge", tuple(merged))
    interrupted = [path for path in _interrupted(results / "runs") if _is_old(path)]
    if interrupted:
        yield Remains(f"{counted(len(interrupted), 'folder')} of interrupted runs", tuple(interrupted))
    for kind, name in (("embeddings", "work"), ("diffusion", "parts")):
        inner = [path.with_name(name) for path in (results / kind).glob("*/manifest.json")]
        old = [path for path in inner if path.is_dir() and _is_old(path)]
        idle = [path for path in old if working.is_idle(results, kind, path.parent.name)]
        if idle:
            yield Remains(f"{counted(len(idle), 'folder')} {name}/ of finished {kind}", tuple(idle))
    workers = [path for path in (results / "studies").glob("*.workers/*") if working.is_free(path)]
    claims = [path for path in (results / working.CLAIMS).glob("*") if working.is_free(path)]
    if marks := [*workers, *claims]:
        yield Remains(f"{counted(len(marks), 'mark')} of processes at work", tuple(marks))


def remove(remains: Remains) -> str:
    """Empty, or why that went wrong."""
    for path in remains.paths:
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            return f"{error.filename or path}: {error.strerror or error}"
    return ""


def _temporary(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        yield from (Path(place) / name for name in names if _TEMPORARY.fullmatch(name))


def _interrupted(runs: Path) -> Iterator[Path]:
    """Folders of runs with nothing in them but, perhaps, predictions."""
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(runs):
            named = entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
            if named and {inner.name for inner in os.scandir(entry.path)} <= {"predictions.npz"}:
                yield Path(entry.path)


def _is_old(path: Path) -> bool:
    return time.time() - changed(path) > OLD_SECONDS


def changed(path: Path) -> float:
    """When it, or a file in it, was last written to; 0 where it is not there."""
    try:
        inside = [entry.stat().st_mtime for entry in path.iterdir()] if path.is_dir() else []
        return max([path.stat().st_mtime, *inside])
    except OSError:
        return 0.0
