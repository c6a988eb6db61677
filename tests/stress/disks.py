"""Disks that are small, or that nothing can be written to, for one process and those it starts: mounts of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


class Namespace:
    """A mount namespace, held by a process that sleeps in it. `inside`: a command that runs another one there."""

    def __init__(self, holder: int) -> None:
        self._holder = holder
        self.inside = ["nsenter", f"--target={holder}", "--user", "--mount", "--preserve-credentials", "--"]

    def seen(self, path: Path) -> Path:
        """Where what lies there at `path` is to be found from here."""
        return Path(f"/proc/{self._holder}/root") / path.relative_to("/")

    def mount(self, *arguments: str | Path) -> None:
        subprocess.run([*self.inside, "mount", *map(str, arguments)], check=True, capture_output=True)


@contextlib.contextmanager
def namespace() -> Iterator[Namespace]:
    """Skips the test where this machine lets nobody mount anything."""
    missing = [name for name in ("unshare", "nsenter", "mount") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no disk of one's own: {', '.join(missing)} not installed")
    command = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        "mount -t tmpfs none /mnt && echo ready && cat",
    ]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        if holder.stdout.readline() != b"ready\n":
            assert holder.stderr is not None
            pytest.skip(f"no disk of one's own: this machine allows no mount namespaces ({holder.stderr.read()!r})")
        yield Namespace(holder.pid)
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()


class SmallDisk:
    """A tmpfs of `megabytes`, mounted over a folder in a namespace."""

    def __init__(self, there: Namespace, folder: Path, megabytes: int) -> None:
        folder.mkdir(parents=True)
        there.mount("-t", "tmpfs", "-o", f"size={megabytes}m", "none", folder)
        self.folder = there.seen(folder)
        self._ballast = self.folder / "ballast"

    def fill(self, leave: int = 0) -> None:
        """Take all room but `leave` bytes; again, what has become free since."""
        with contextlib.suppress(OSError), self._ballast.open("ab", buffering=0) as file:
            while True:
                status = os.statvfs(self.folder)
                free = status.f_bavail * status.f_frsize - leave
                if free <= 0:
                    return
                file.write(bytes(min(free, 1 << 20)))

    def make_room(self) -> None:
        self._ballast.unlink()
