"""What a run does to its files, as the system tells it: inotify, in time to kill it in the middle of a write."""

from __future__ import annotations

import ctypes
import os
import re
import select
import struct
import time
from dataclasses import dataclass
from pathlib import Path

_MODIFY, _MOVED, _CREATED = 0x2, 0x80, 0x100
_ASKED = _MODIFY | _MOVED | _CREATED
_IS_FOLDER = 0x40000000
_KINDS = {_MODIFY: "written to", _MOVED: "renamed to", _CREATED: "made"}
_EVENT = struct.Struct("iIII")

PHASES = ("starting", "embedding", "diffusing", "tuning", "training", "writing", "reporting")
_OF_FOLDER = {
    "embeddings": "embedding",
    "diffusion": "diffusing",
    "studies": "tuning",
    "claims": "training",
    "runs": "writing",
}


@dataclass(frozen=True)
class Event:
    """kind: a value of _KINDS. path: below the root."""

    kind: str
    path: str

    @property
    def phase(self) -> str:
        first, _, rest = self.path.partition("/")
        return "reporting" if first == "reports" else _OF_FOLDER.get(rest.partition("/")[0], "starting")

    def __str__(self) -> str:
        return f"{self.path} {self.kind}"


@dataclass(frozen=True)
class Moment:
    """When a run is to be disturbed: `seconds` after the `count`-th event that fits, or after its start."""

    phase: str
    kind: str = ""
    path: str = ""  # a regular expression
    count: int = 1
    seconds: float = 0.0

    def fits(self, event: Event) -> bool:
        return self.kind == event.kind and re.fullmatch(self.path, event.path) is not None


class Watch:
    """All that happens below a folder from now on. Use as a context manager."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor: int = self._libc.inotify_init1(os.O_NONBLOCK)
        self._folders: dict[int, str] = {}
        self.events: list[Event] = []
        self._follow("")
        self.events.clear()  # that was there before

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._descriptor)

    def _follow(self, folder: str) -> None:
        """Look at a folder and those in it; what came before we did is an event as well."""
        path = self._root / folder
        number = self._libc.inotify_add_watch(self._descriptor, os.fsencode(path), _ASKED)
        if number < 0:  # gone already
            return
        known = number in self._folders
        self._folders[number] = folder
        for name in () if known or not path.is_dir() else os.listdir(path):
            inner = f"{folder}/{name}".lstrip("/")
            if (self._root / inner).is_dir():
                self._follow(inner)
            elif folder:
                self.events.append(Event("made", inner))

    def listen(self, seconds: float) -> list[Event]:
        """What happens within so many seconds: returns with the first news."""
        before = len(self.events)
        if select.select([self._descriptor], [], [], max(0.0, seconds))[0]:
            data = os.read(self._descriptor, 1 << 16)
            place = 0
            while place < len(data):
                number, mask, _, length = _EVENT.unpack_from(data, place)
                place += _EVENT.size
                name = data[place : place + length].rstrip(b"\0").decode(errors="replace")
                place += length
                if number not in self._folders:
                    continue
                path = f"{self._folders[number]}/{name}".lstrip("/")
                if mask & _IS_FOLDER:
                    self._follow(path)
                elif (kind := _KINDS.get(mask & _ASKED)) and self._folders[number]:  # beside them it is the test's own
                    self.events.append(Event(kind, path))
        return self.events[before:]

    def until(self, moment: Moment, is_over: object, limit: float) -> bool:
        """Wait for a moment; False: the run was over before. is_over: asked now and then."""
        assert callable(is_over)
        begun = time.monotonic()
        due = begun + moment.seconds if not moment.kind else None
        left = moment.count
        while True:
            now = time.monotonic()
            assert now - begun < limit, f"neither the end nor {moment} within {limit:g} s"
            if due is not None and now >= due:
                return not is_over()
            for event in self.listen(0.05 if due is None else min(0.05, due - now)):
                if due is None and moment.fits(event):
                    left -= 1
                    if left == 0:
                        due = time.monotonic() + moment.seconds
            if is_over():
                return False
