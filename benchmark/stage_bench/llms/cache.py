"""The embedding cache: vectors under a content address, checked when they are read, mapped rather than copied.

    <root>/<id>/vectors.npy         float32 [rows, dimension], filled in shard by shard, in place
    <root>/<id>/shards/00000.json   written after its rows are on the disk: their sha256, and what they cost
    <root>/<id>/manifest.json       written last: all shards are there

A shard without its note was not finished, one whose rows have another sha256 is damaged: both are computed again, and
nothing else is. Manifest and notes carry checksums of their own, so that no other cost than the real one is told. What
is damaged is named. Killed at any moment, the next call goes on from there; which texts share a batch depends on the
texts alone, so the result is byte-identical to an undisturbed one. Several processes share the shards out among
themselves.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from stage_bench import files, seals
from stage_bench.errors import DiskFull, JobError, shown

SCHEMA_VERSION = 3
_READ = (2, 3)
_SEALED_SINCE = 3


@dataclass(frozen=True)
class Shard:
    """One part of an embedding: rows `start` to `stop`."""

    number: int
    start: int
    stop: int

    @property
    def stem(self) -> str:
        return f"{self.number:05d}"


Computed = tuple[Shard, np.ndarray, dict[str, float]]
"""A shard, its rows float32 [stop - start, dimension], and what they cost.

That is `seconds`, perhaps `tokens`, `dollars`, `joules`.
"""


class EmbeddingCache:
    """The embeddings of one results folder."""

    def __init__(self, root: Path, say: Callable[[str], None] = lambda line: None) -> None:
        """say: is told of what is damaged, once each, and when other processes have the rest in their hands."""
        self.root = root
        self.say = say
        self._told: set[str] = set()

    def manifest(self, id_: str) -> dict[str, Any] | None:
        """What is known of a finished embedding; None where it is absent, unfinished or damaged."""
        manifest, problem = self.look(id_)
        if problem:
            self._tell(f"{self.root / id_ / 'manifest.json'}: {problem}; it is made again where a run needs it")
        return manifest

    def look(self, id_: str) -> tuple[dict[str, Any] | None, str]:
        """The manifest, and what is wrong with it where it is there and cannot be used."""
        try:
            value = json.loads((self.root / id_ / "manifest.json").read_bytes())
        except FileNotFoundError:
            return None, ""
        except OSError as error:
            return None, error.strerror or "cannot be read"
        except (ValueError, RecursionError):
            return None, "no JSON"
        problem = _problem(value, id_)
        return None if problem else value, problem

    def read(self, id_: str) -> np.ndarray | None:
        """float32 [rows, dimension], memory-mapped (changes stay in memory).

        None where it is absent, unfinished or damaged; the next `write` mends it.
        """
        manifest = self.manifest(id_)
        if manifest is None:
            return None
        vectors = self._vectors(id_, manifest["rows"])
        if vectors is None or any(self.damaged(id_, manifest, vectors)):
            return None
        try:
            return np.load(self.root / id_ / "vectors.npy", mmap_mode="c", allow_pickle=False)
        except OSError:  # larger than memory and swap together: then nobody may write to it, not even for himself
            return vectors

    def damaged(self, id_: str, manifest: dict[str, Any], vectors: np.ndarray | None = None) -> Iterator[Shard]:
        """The parts of a finished embedding that are not what was written; all of it is read.

        Every part, where the file is absent or no matrix of that many rows and columns.
        """
        vectors = self._vectors(id_, manifest["rows"]) if vectors is None else vectors
        whole = vectors is not None and vectors.shape[1] == manifest["dimension"]
        for shard in _shards(manifest["rows"], manifest["shard_rows"]):
            if not whole or not self._is_sound(id_, shard, vectors):
                yield shard

    def write(
        self,
        id_: str,
        rows: int,
        shard_rows: int,
        compute: Callable[[Iterable[Shard]], Iterator[Computed]],
        facts: dict[str, Any],
    ) -> dict[str, Any]:
        """Fill in what is missing: `compute` takes the shards to do, one after another, and yields each when done.

        Returns the manifest; what each shard cost when it was computed is added up in it. `joules` are there only where
        every shard's were measured, and no other process was computing shards meanwhile: each would count both.

        Raises:
            DiskFull: what was written before is kept.
        """
        folder = self.root / id_
        shards = list(_shards(rows, shard_rows))
        try:
            (folder / "shards").mkdir(parents=True, exist_ok=True)
            (folder / "locks").mkdir(exist_ok=True)
            held: dict[int, FileLock] = {}
            busy: list[Shard] = []
            while True:
                try:
                    for shard, vectors, spent in compute(self._claims(id_, rows, shards, held, busy)):
                        known = {key: value for key, value in spent.items() if not busy or key != "joules"}
                        self._write_shard(id_, rows, shard, vectors, known)
                        held.pop(shard.number).release()
                finally:
                    for lock in held.values():
                        lock.release()
                    held.clear()
                if not busy:
                    break
                # Nothing is held here while we wait, or two processes might wait for each other.
                self.say("waiting for another process that embeds the same texts")
                with FileLock(folder / "locks" / busy[0].stem):
                    busy.clear()
            return self._finish(id_, rows, shard_rows, shards, facts)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            done = sum(_json(folder / "shards" / f"{shard.stem}.json") is not None for shard in shards)
            raise DiskFull(
                f"the disk with {self.root} is full: make room and run again ({done} of {len(shards)} parts of this "
                "embedding are kept)"
            ) from None

    def keep(
        self, id_: str, rows: int, make: Callable[[], tuple[np.ndarray, dict[str, float]]], facts: dict[str, Any]
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """What is there, else what `make` gives, (float32 [rows, dimension], what it cost); and the manifest."""
        known = self.found(id_)
        if known is not None:
            return known

        def compute(shards: Iterable[Shard]) -> Iterator[Computed]:
            for shard in shards:
                yield shard, *make()

        self.write(id_, rows, rows, compute, facts)
        return self.read_back(id_)

    def found(self, id_: str) -> tuple[np.ndarray, dict[str, Any]] | None:
        """What `read` gives, and the manifest; None where one of them is not there."""
        manifest, vectors = self.manifest(id_), self.read(id_)
        return None if manifest is None or vectors is None else (vectors, manifest)

    def read_back(self, id_: str) -> tuple[np.ndarray, dict[str, Any]]:
        """What was just written, and its manifest.

        Raises:
            JobError: it is not there.
        """
        known = self.found(id_)
        if known is None:
            raise JobError(f"the embedding {id_} could not be read back; is the disk sound?")
        return known

    def _claims(
        self, id_: str, rows: int, shards: list[Shard], held: dict[int, FileLock], busy: list[Shard]
    ) -> Iterator[Shard]:
        """The shards that are to be computed here, each locked; those in another process's hands go to `busy`."""
        for shard in shards:
            vectors = self._vectors(id_, rows)
            if self._is_sound(id_, shard, vectors):
                continue
            self._tell_damage(id_, shard, vectors)
            lock = FileLock(self.root / id_ / "locks" / shard.stem)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                busy.append(shard)
                continue
            if self._is_sound(id_, shard, self._vectors(id_, rows)):  # done while we looked
                lock.release()
                continue
            held[shard.number] = lock
            yield shard

    def _finish(
        self, id_: str, rows: int, shard_rows: int, shards: list[Shard], facts: dict[str, Any]
    ) -> dict[str, Any]:
        folder = self.root / id_
        notes = [json.loads((folder / "shards" / f"{shard.stem}.json").read_text()) for shard in shards]
        spent: Counter[str] = Counter()
        for note in notes:
            spent.update(note["spent"])
        if not all("joules" in note["spent"] for note in notes):
            del spent["joules"]
        vectors = self._vectors(id_, rows)
        assert vectors is not None
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "id": id_,
            "rows": rows,
            "shard_rows": shard_rows,
            "dimension": int(vectors.shape[1]),
            "seconds": 0.0,
            **{key: round(value, 6) for key, value in spent.items()},
            "rows_per_second": round(rows / spent["seconds"], 3) if spent["seconds"] else None,
            **facts,
        }
        files.write_json(folder / "manifest.json", seals.sealed(manifest))
        return manifest

    def _write_shard(self, id_: str, rows: int, shard: Shard, vectors: np.ndarray, spent: dict[str, float]) -> None:
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        path = self.root / id_ / "vectors.npy"
        with FileLock(self.root / id_ / "locks" / "vectors"):
            whole = self._vectors(id_, rows)
            if whole is None:
                _create(path, (rows, vectors.shape[1]))
            elif whole.shape[1] != vectors.shape[1]:
                raise JobError(
                    f"{vectors.shape[1]} dimensions, where earlier parts of this embedding have {whole.shape[1]}: "
                    f"another model? Delete {path.parent} to begin anew"
                )
        # Written, not mapped: a full disk is then an error here and not a signal that kills the process.
        with path.open("r+b") as file:
            file.seek(_header_size(path) + shard.start * vectors.shape[1] * 4)
            file.write(vectors.tobytes())
            file.flush()
            os.fsync(file.fileno())
        # With its first row in it, no other shard's note can stand in for it.
        note = {
            "start": shard.start,
            "sha256": _sha256(vectors),
            "spent": {key: round(value, 6) for key, value in spent.items()},
        }
        files.write_json(self.root / id_ / "shards" / f"{shard.stem}.json", seals.sealed(note, id_))

    def _vectors(self, id_: str, rows: int) -> np.ndarray | None:
        """The whole array, whatever is in it yet; None where there is no such file or it is not what it should be.

        Raises:
            OSError: the file is there and cannot be read; it must not be taken for absent and made anew.
        """
        path = self.root / id_ / "vectors.npy"
        try:
            vectors = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            return None
        except OSError:
            raise
        except Exception:  # a damaged header: whatever numpy's parser makes of it
            return None
        good = vectors.ndim == 2 and vectors.shape[0] == rows and vectors.dtype == np.dtype("<f4")
        whole = vectors.offset + vectors.nbytes == path.stat().st_size
        return vectors if good and whole and vectors.flags.c_contiguous else None

    def _is_sound(self, id_: str, shard: Shard, vectors: np.ndarray | None) -> bool:
        note = _json(self.root / id_ / "shards" / f"{shard.stem}.json")
        if note is None or vectors is None or not isinstance(note.get("spent"), dict):
            return False
        if seals.problem(note, needed=False, context=id_):
            return False
        return note.get("start") == shard.start and note.get("sha256") == _sha256(vectors[shard.start : shard.stop])

    def _tell_damage(self, id_: str, shard: Shard, vectors: np.ndarray | None) -> None:
        """Of a shard that is not sound: was it once?"""
        if not (self.root / id_ / "shards" / f"{shard.stem}.json").exists():
            return
        path = self.root / id_ / "vectors.npy"
        if vectors is None:
            self._tell(f"{path}: absent or damaged; all of it is made again")
        else:
            rows = f"rows {shard.start:,} to {shard.stop - 1:,}"
            self._tell(f"{path}: {rows} are not what was written, or their note is not; they are made again")

    def _tell(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            self.say(line)


def _problem(manifest: Any, id_: str) -> str:
    """What is wrong with a manifest; empty where nothing is."""
    if not isinstance(manifest, dict):
        return "no manifest"
    version = manifest.get("schema_version")
    if version not in _READ:
        return f"of version {shown(version)}, which this stage-bench does not read"
    if manifest.get("id") != id_:
        return f"holds that of {shown(manifest.get('id'))}"
    counts = [manifest.get(key) for key in ("rows", "shard_rows", "dimension")]
    measured = isinstance(manifest.get("seconds"), (int, float))
    if not measured or not all(isinstance(count, int) and count > 0 for count in counts):
        return "no manifest"
    return seals.problem(manifest, needed=version >= _SEALED_SINCE)


def _create(path: Path, shape: tuple[int, int]) -> None:
    """An .npy file of that shape, all zeros, in one step; the zeros take no room on the disk yet."""
    with files.writing(path) as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        file.truncate(file.tell() + shape[0] * shape[1] * 4)


def _header_size(path: Path) -> int:
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        return file.tell()


def _sha256(vectors: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(vectors).data).hexdigest()


def _json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _shards(rows: int, shard_rows: int) -> Iterator[Shard]:
    for number, start in enumerate(range(0, rows, shard_rows)):
        yield Shard(number, start, min(start + shard_rows, rows))
