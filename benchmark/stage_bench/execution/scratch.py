"""A folder of this machine's own for one run on a cluster, shared by its processes here, and gone when they are.

    <place>/stage-bench-<user>/<run>/alive/<name>  locked by each process that works there, for as long as it lives
                                     results/      a results folder, where the run's own is not to be seen from here

What a killed run left behind is removed by the next one on this machine.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import tempfile
import uuid
from pathlib import Path

from filelock import FileLock, Timeout

from stage_bench.errors import JobError

PLACE = "STAGE_BENCH_SCRATCH"
"""The environment variable that names the place; else the system's own for temporary files."""


class Scratch:
    """This process's share of a run's folder, from now until `close` or its death."""

    def __init__(self, run: str) -> None:
        """run: 32 hexadecimal digits.

        Raises:
            JobError: the place is another user's.
        """
        top = _top()
        top.mkdir(mode=0o700, parents=True, exist_ok=True)
        if top.stat().st_uid != os.getuid():
            raise JobError(f"{top} belongs to another user; name another place with ${PLACE}")
        self.folder = top / run
        self.results = self.folder / "results"
        self._alive = FileLock(self.folder / "alive" / uuid.uuid4().hex)
        with FileLock(top / "lock"):  # nobody sweeps between our folder and our lock
            _sweep(top, run)
            (self.folder / "alive").mkdir(parents=True, exist_ok=True)
            self._alive.acquire()

    def close(self) -> None:
        """Let go of it; the last process removes it."""
        self._alive.release()
        with FileLock(_top() / "lock"):
            _sweep(_top(), "")


def remove(run: str) -> None:
    """A run's folder, whoever is still at home there."""
    with FileLock(_top() / "lock"):
        shutil.rmtree(_top() / run, ignore_errors=True)


def _top() -> Path:
    return Path(os.environ.get(PLACE) or tempfile.gettempdir()) / f"stage-bench-{_user()}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        return str(os.getuid())


def _sweep(top: Path, run: str) -> None:
    """Remove the folders of other runs that no living process is at work in."""
    for folder in top.iterdir():
        is_run = re.fullmatch("[0-9a-f]{32}", folder.name) and folder.is_dir()
        if is_run and folder.name != run and not _is_alive(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(folder: Path) -> bool:
    try:
        locks = list((folder / "alive").iterdir())
    except OSError:
        return False
    for path in locks:
        try:
            with FileLock(path, timeout=0):
                pass
        except Timeout:
            return True
    return False
