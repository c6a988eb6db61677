"""Whether a process is at work on something in a results folder: it holds a lock on it then."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

CLAIMS = "claims"
"""The folder of execution/claims.py."""


@contextlib.contextmanager
def alone(results: Path, kind: str, id_: str) -> Iterator[bool]:
    """Whether no process is at work on it; none begins to meanwhile, where there are locks."""
    with contextlib.ExitStack() as held:
        try:
            for path in _locks(results, kind, id_):
                held.enter_context(FileLock(path, timeout=0))
        except Timeout:
            yield False
            return
        yield True


def _locks(results: Path, kind: str, id_: str) -> list[Path]:
    """The locks of all who work on it, as far as they are there."""
    found = [results / CLAIMS / id_]
    if kind in ("embeddings", "diffusion"):
        folder = results / kind / id_
        found += [folder / "lock", *sorted((folder / "locks").glob("*"))]
    elif kind == "answers":
        found.append((results / kind / id_).parent / "lock")
    elif kind == "studies":
        folder = results / kind
        found += [folder / f"{id_}.lock", *sorted((folder / f"{id_}.workers").glob("*"))]
    return [path for path in found if path.is_file()]


def is_free(lock: Path) -> bool:
    """Whether no process holds it."""
    if not lock.is_file():
        return True
    try:
        with FileLock(lock, timeout=0):
            return True
    except (Timeout, OSError):
        return False


def is_idle(results: Path, kind: str, id_: str) -> bool:
    with alone(results, kind, id_) as is_alone:
        return is_alone
