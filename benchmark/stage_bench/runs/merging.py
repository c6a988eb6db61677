"""Unites results folders of several machines: all of it is looked at first, and only what fits together is copied."""

from __future__ import annotations

import errno
import filecmp
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from stage_bench import files
from stage_bench.errors import StageBenchError
from stage_bench.runs import holdings
from stage_bench.runs.holdings import DONE, FAILED, PARTIAL, Holding, Kind
from stage_bench.runs.row_files import Damaged

Step = Callable[[int, int, str], None]
"""Told (done, total, what) as it goes on."""

MOST = 20
"""Lines of a sort that are shown; of more there is a count."""

_CHUNK = 1 << 20
_ENDING = ".merging"  # of a folder that is being filled, and of one that is being replaced; both begin with a dot
_ORDER = {DONE: 0, FAILED: 1, PARTIAL: 2}


@dataclass(frozen=True)
class Copy:
    """files: from where to where. folder: the one that they make, where it is to be there as a whole or not at all."""

    files: tuple[tuple[Path, Path], ...]
    folder: Path | None = None

    @property
    def bytes(self) -> int:
        return sum(source.stat().st_size for source, _ in self.files)


@dataclass
class Counts:
    """Of one kind. total: what `target` holds at the end. in_several: of these, those that more than one folder had.

    left_out: what was damaged, unfinished or failed, where another folder had better or nobody had it.
    """

    total: int = 0
    copied: int = 0
    in_several: int = 0
    left_out: int = 0


@dataclass(frozen=True)
class Merge:
    """What is to be done. notes: lines about what was left out, and what was preferred to what."""

    target: Path
    copies: tuple[Copy, ...]
    counts: dict[str, Counts]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, dict[str, int]]:
        return {kind: asdict(counts) for kind, counts in self.counts.items()}

    def table(self) -> list[dict[str, str | int]]:
        """A row for each kind of which there is something."""
        rows = {kind: counts for kind, counts in self.to_json().items() if any(counts.values())}
        return [{"": kind, **{key.replace("_", " "): row[key] for key in row}} for kind, row in rows.items()]


def plan(folders: Sequence[Path], target: Path, step: Step = lambda done, total, what: None) -> Merge:
    """Look at results folders, and at the one that is to hold all of it, which comes first. Writes nothing.

    Raises:
        StageBenchError: a folder is not there or is no results folder, links are in it, or two of them hold different
            things under one id; a line for each.
    """
    try:
        places = _places(folders, target)
        problems = [line for place in places for line in holdings.refused(place)]
        if problems:
            raise StageBenchError(*_few(problems))
        return _Union(places, target, step).merge()
    except OSError as error:
        raise StageBenchError(f"{error.filename or target} cannot be read: {error.strerror or error}") from None


def carry_out(merge: Merge, step: Step = lambda done, total, what: None) -> None:
    """Copy what is missing. Interrupted or killed at any moment, merging again does the rest.

    Raises:
        StageBenchError: the target cannot be written or has not the room, or another process merges into it.
        OSError: the disk is full.
    """
    if not merge.copies:
        return
    target = merge.target
    try:
        _check_room(target, merge.copies)
        target.mkdir(parents=True, exist_ok=True)
        with _alone(target):
            total, done = sum(copy.bytes for copy in merge.copies), 0
            for number, copy in enumerate(merge.copies):

                def told(more: int, number: int = number) -> None:
                    nonlocal done
                    done += more
                    step(number, len(merge.copies), f"copied, {_size(done)} of {_size(total)}")

                _carry_out(copy, told)
            step(len(merge.copies), len(merge.copies), "copied")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = error.filename or target
        raise StageBenchError(
            f"{where}: {error.strerror or error}; what was copied before is kept, merge again for the rest"
        ) from None


def _places(folders: Sequence[Path], target: Path) -> list[Path]:
    """The folders to look at, each once, the target first."""
    if target.exists() and not target.is_dir():
        raise StageBenchError(f"--results {target}: there is a file in the way")
    places = {target.resolve(): target} if target.is_dir() else {}
    for folder in folders:
        holdings.check(folder)
        places.setdefault(folder.resolve(), folder)
    return list(places.values())


class _Union:
    """One look at all folders."""

    def __init__(self, places: list[Path], target: Path, step: Step) -> None:
        self.places, self.target, self.step = places, target, step
        self.copies: list[Copy] = []
        self.conflicts: list[str] = []
        self.counts = {name: Counts() for name in holdings.FOLDERS}
        self.notes: dict[str, list[str]] = defaultdict(list)  # by sort

    def merge(self) -> Merge:
        ids = [(kind, id_) for kind in holdings.KINDS for id_ in self._ids(kind)]
        for number, (kind, id_) in enumerate(ids):
            self._one(kind, id_)
            self.step(number + 1, len(ids), "checked")
        self._logs()
        for place in self.places:
            for path in holdings.strangers(place) if place != self.target else []:
                self._note("stranger", f"{path}: no part of a results folder, not copied")
        if self.conflicts:
            many = f"{len(self.conflicts):,} conflicts" if len(self.conflicts) > 1 else "a conflict"
            head = f"{many}; nothing was copied. Remove one of each two, and merge again:"
            raise StageBenchError(head, *_few(self.conflicts))
        notes = tuple(line for lines in self.notes.values() for line in _few(lines))
        return Merge(self.target, tuple(self.copies), self.counts, notes)

    def _ids(self, kind: Kind) -> list[str]:
        return list(dict.fromkeys(id_ for place in self.places for id_ in kind.ids(place)))

    def _note(self, sort: str, line: str) -> None:
        self.notes[sort].append(line)

    def _one(self, kind: Kind, id_: str) -> None:
        """Decide which folder's is kept."""
        found: list[Holding] = []
        damaged: list[tuple[Path, str]] = []
        for place in self.places:
            try:
                holding = kind.look(place, id_)
            except Damaged as error:
                damaged.append((place, str(error)))
                continue
            if holding is not None:
                found.append(holding)
        # What is done is better than what failed or goes on; of equals the first is kept.
        held = sorted(found, key=lambda holding: _ORDER[holding.state])
        winner = self._pick(kind, held, damaged)
        counts = self.counts[kind.name]
        for place, why in damaged:
            counts.left_out += 1
            end = "left out"
            if place == self.target:
                end = "replaced" if winner is not None else "left as it is"
            self._note("damaged", f"{kind.path(place, id_)}: {why}; {end}")
        if winner is None:
            return
        counts.total += 1
        alike = [holding for holding in held if holding.state == winner.state]
        counts.in_several += len(alike) > 1 and winner.state != PARTIAL
        for holding in held:
            if holding is not winner and (holding.state != DONE):
                self._passed_over(holding, winner)
        if winner.results != self.target:
            counts.copied += 1
            pairs = tuple((winner.results / name, self.target / name) for name in winner.files)
            self.copies.append(Copy(pairs, kind.path(self.target, id_) if kind.whole else None))

    def _passed_over(self, holding: Holding, winner: Holding) -> None:
        if holding.state == FAILED:
            if winner.state == DONE:
                self.counts[holding.kind.name].left_out += 1
                self._note("failed", f"{holding.title}: failed; that of {winner.results} is done, and is kept")
            return
        self.counts[holding.kind.name].left_out += 1
        better = "not finished either, and is kept" if winner.state == PARTIAL else "done, and is kept"
        self._note("partial", f"{holding.path}: not finished, left out; that of {winner.results} is {better}")

    def _pick(self, kind: Kind, held: list[Holding], damaged: list[tuple[Path, str]]) -> Holding | None:
        """The one to keep: the first, or one that goes on from it. What proves damaged is moved from `held`."""
        while held:
            winner = self._agreed(kind, held, damaged)
            if winner is not None and (winner.results == self.target or self._is_sound(winner, held, damaged)):
                return winner
        return None

    def _agreed(self, kind: Kind, held: list[Holding], damaged: list[tuple[Path, str]]) -> Holding | None:
        """The one that all others agree with; None where one of them is damaged, and that is to be asked again."""
        winner = held[0]
        conflicts, notes = [], []
        for other in held[1:]:
            if winner.state != DONE or other.state != DONE or kind.same(winner, other):
                continue
            if not (self._is_sound(winner, held, damaged) and self._is_sound(other, held, damaged)):
                return None
            if kind.continues(winner, other):
                notes.append(f"{other.title}: goes on from that of {winner.results}, and is kept")
                winner = other
            elif not kind.continues(other, winner) and (what := kind.difference(winner, other)):
                conflicts.append(f"{winner.title} and {other.path}: {what}")
        self.conflicts += conflicts
        self.notes["longer"] += notes
        return winner

    def _is_sound(self, holding: Holding, held: list[Holding], damaged: list[tuple[Path, str]]) -> bool:
        why = holding.kind.damage(holding)
        if why:
            held.remove(holding)
            damaged.append((holding.results, why))
        return not why

    def _logs(self) -> None:
        """Every file is kept; of two of one name and other content the later one has a number behind its name."""
        taken: dict[str, Path] = {}
        counts = self.counts["logs"]
        for place in self.places:
            for path in holdings.logs(place):
                name, number = path.name, 1
                while name in taken and not filecmp.cmp(taken[name], path, shallow=False):
                    number += 1
                    name = f"{path.stem}-{number}{path.suffix}"
                if name in taken:
                    counts.in_several += 1
                    continue
                taken[name] = path
                counts.total += 1
                if place != self.target:
                    counts.copied += 1
                    self.copies.append(Copy(((path, self.target / "logs" / name),)))


def _carry_out(copy: Copy, told: Callable[[int], None]) -> None:
    if copy.folder is None:
        for source, target in copy.files:
            _copy(source, target, told)
        return
    filled = copy.folder.with_name(f".{copy.folder.name}{_ENDING}")
    for source, target in copy.files:
        _copy(source, filled / target.relative_to(copy.folder), told)
    if copy.folder.exists():  # unfinished or damaged
        os.replace(copy.folder, copy.folder.with_name(f".{copy.folder.name}.old{_ENDING}"))
    os.replace(filled, copy.folder)
    shutil.rmtree(copy.folder.with_name(f".{copy.folder.name}.old{_ENDING}"), ignore_errors=True)


def _copy(source: Path, target: Path, told: Callable[[int], None]) -> None:
    """Whole or not there. A link that took the file's place since it was looked at is not followed."""
    descriptor = os.open(source, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    with os.fdopen(descriptor, "rb") as content, files.writing(target) as file:
        while chunk := content.read(_CHUNK):
            file.write(chunk)
            told(len(chunk))


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """No other process merges into the folder meanwhile; what one that was killed left half done is removed."""
    lock = FileLock(target / f"{_ENDING}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise StageBenchError(f"another process merges into {target}: wait for its end") from None
    try:
        for kind in holdings.KINDS:
            for left_over in (target / kind.name).glob(f".*{_ENDING}"):
                shutil.rmtree(left_over)
        yield
    finally:
        lock.release()


def _check_room(target: Path, copies: Sequence[Copy]) -> None:
    above = next(place for place in (target, *target.absolute().parents) if place.exists())
    needed, free = sum(copy.bytes for copy in copies), shutil.disk_usage(above).free
    if needed > free:
        raise StageBenchError(f"{target}: {_size(needed)} are to be copied, and the disk has {_size(free)} free")


def _few(lines: Sequence[str]) -> list[str]:
    more = [f"... and {len(lines) - MOST:,} more like these"] if len(lines) > MOST else []
    return [*lines[:MOST], *more]


def _size(count: float) -> str:
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
