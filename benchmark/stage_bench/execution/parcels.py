"""Files of a results folder on their way to another machine: cut into parts, and whole or not there when they arrive.

What goes: a run, an embedding, a study, answers, each as `runs.holdings` finds it. Who sends decides what a part is
made into (`put`: an object of Ray's store, say), who receives how it is had again (`get`); nothing here knows Ray.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from stage_bench import files
from stage_bench.errors import StageBenchError
from stage_bench.llms.cache import EmbeddingCache
from stage_bench.runs import holdings
from stage_bench.runs.holdings import DONE, Holding
from stage_bench.runs.row_files import Damaged
from stage_bench.training.studies import RUNNING, Study

PART_BYTES = 64 << 20

_KINDS = {kind.name: kind for kind in holdings.KINDS}
_JOURNAL = ".trials.jsonl"
_ARRIVING = ".arriving"  # the end of a folder's name while it is filled; it begins with a dot


@dataclass(frozen=True)
class Parcel:
    """Some files, one after another, in parts.

    kind, id: what it is, as `runs.holdings` has it. files: names below the results folder and sizes, in the order in
    which they are to be written: the last one makes the thing whole. folder: the one that they make, where it is to be
    there as a whole or not at all; else empty.
    """

    kind: str
    id: str
    files: tuple[tuple[str, int], ...]
    folder: str
    parts: tuple[Any, ...]

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.files)


def find(results: Path, kind: str, id_: str) -> Holding | None:
    """What there is under an id, finished or not; None where there is nothing that can be used."""
    try:
        return _KINDS[kind].look(results, id_)
    except Damaged:
        return None


def is_done(results: Path, kind: str, id_: str) -> bool:
    if kind == "embeddings":
        return EmbeddingCache(results / kind).manifest(id_) is not None
    found = find(results, kind, id_)
    return found is not None and found.state == DONE


def of_holding(holding: Holding, put: Callable[[bytes], Any], part_bytes: int = PART_BYTES) -> Parcel:
    """What is held, as it is now; a journal that grows meanwhile is sent as far as it was."""
    folder = f"{holding.kind.name}/{holding.id}" if holding.kind.whole else ""
    return pack(holding.results, holding.kind.name, holding.id, holding.files, folder, put, part_bytes)


def pack(
    root: Path,
    kind: str,
    id_: str,
    names: Sequence[str],
    folder: str,
    put: Callable[[bytes], Any],
    part_bytes: int = PART_BYTES,
) -> Parcel:
    """names: of files below `root`."""
    sizes = [(name, (root / name).stat().st_size) for name in names]
    parts = tuple(put(part) for part in _parts(_content(root, sizes), part_bytes))
    return Parcel(kind, id_, tuple(sizes), folder, parts)


def unpack(parcel: Parcel, results: Path, get: Callable[[Any], bytes]) -> None:
    """Write what is in it below `results`.

    What is there and done stays as it is; so does a study that has more trials than the one that comes.

    Raises:
        StageBenchError: not all of it has arrived.
    """
    for name, _ in parcel.files:
        _check(name)
    content = (get(part) for part in parcel.parts)
    if parcel.kind == "studies":
        _unpack_study(parcel, results, content)
    elif not parcel.folder:
        for name, chunks in _cut(parcel, content):
            _write(results / name, chunks)
    elif not (parcel.kind in _KINDS and is_done(results, parcel.kind, parcel.id)):
        _unpack_folder(parcel, results, content)


def receive_journal(results: Path, id_: str, journal: bytes) -> None:
    """The trials of a study that goes on elsewhere, so that they are here whatever becomes of that machine."""
    study = Study(results / "studies", id_)
    path = results / "studies" / f"{id_}{_JOURNAL}"
    with study.locked():
        known = path.read_bytes() if path.exists() else b""
        if ended(journal) >= ended(known) and journal != known:
            files.write_bytes(path, journal)


def ended(journal: bytes) -> int:
    """How many trials of a journal have ended."""
    numbers = set()
    for line in journal.split(b"\n")[:-1]:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            row = json.loads(line)
            if row["state"] != RUNNING:
                numbers.add(row["number"])
    return len(numbers)


def _unpack_folder(parcel: Parcel, results: Path, content: Iterator[bytes]) -> None:
    target = results / parcel.folder
    filled = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}{_ARRIVING}")
    try:
        for name, chunks in _cut(parcel, content):
            _write(filled / PurePosixPath(name).relative_to(parcel.folder), chunks)
        if target.exists():  # unfinished
            old = target.with_name(f"{filled.name}.old")
            os.replace(target, old)
            os.replace(filled, target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(filled, target)
    except BaseException:
        shutil.rmtree(filled, ignore_errors=True)
        raise


def _unpack_study(parcel: Parcel, results: Path, content: Iterator[bytes]) -> None:
    for name, chunks in _cut(parcel, content):
        data = b"".join(chunks)
        if name.endswith(_JOURNAL):
            receive_journal(results, parcel.id, data)
        else:
            files.write_bytes(results / name, data)


def _content(root: Path, sizes: Sequence[tuple[str, int]]) -> Iterator[bytes]:
    """Every file's bytes as far as its size was, in pieces."""
    for name, size in sizes:
        with (root / name).open("rb") as file:
            left = size
            while left:
                chunk = file.read(min(left, 1 << 20))
                if not chunk:
                    raise StageBenchError(f"{root / name} became shorter while it was sent")
                left -= len(chunk)
                yield chunk


def _parts(content: Iterator[bytes], most: int) -> Iterator[bytes]:
    held = bytearray()
    for chunk in content:
        held += chunk
        while len(held) >= most:
            yield bytes(held[:most])
            del held[:most]
    if held:
        yield bytes(held)


def _cut(parcel: Parcel, content: Iterator[bytes]) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Each file's name and its bytes, which are to be taken before the next file is asked for."""
    rest = b""

    def of_file(name: str, size: int) -> Iterator[bytes]:
        nonlocal rest
        while size:
            rest = rest or next(content, b"")
            if not rest:
                raise StageBenchError(f"{name} did not arrive whole")
            taken, rest = rest[:size], rest[size:]
            size -= len(taken)
            yield taken

    for name, size in parcel.files:
        yield name, of_file(name, size)


def _write(path: Path, chunks: Iterator[bytes]) -> None:
    with files.writing(path) as file:
        for chunk in chunks:
            file.write(chunk)


def _check(name: str) -> None:
    """Raises StageBenchError: a name that leads out of the folder."""
    place = PurePosixPath(name)
    if place.is_absolute() or ".." in place.parts:
        raise StageBenchError(f"a parcel names {name}, which is no file of a results folder")
