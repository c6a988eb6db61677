"""The embedding cache: shards under a content address, whole or not there, checked when they are read.

    <root>/<id>/shard-00000.npy    float32 [rows, dimension]
    <root>/<id>/shard-00000.json   its sha256, rows and seconds
    <root>/<id>/manifest.json      written last: all shards are there

Killed at any moment, the next call goes on after the last whole shard. Which texts share a batch depends on the
texts alone, so a resumed embedding is byte-identical to an undisturbed one.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from stage_bench import files

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Shard:
    """One part of an embedding: rows `start` to `stop`."""

    number: int
    start: int
    stop: int

    @property
    def stem(self) -> str:
        return f"shard-{self.number:05d}"


class EmbeddingCache:
    """The embeddings of one results folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def manifest(self, id_: str) -> dict[str, Any] | None:
        """What is known of a finished embedding; None where it is absent or unfinished."""
        try:
            manifest = json.loads((self.root / id_ / "manifest.json").read_text())
        except (OSError, ValueError):
            return None
        if not isinstance(manifest, dict) or manifest.get("schema_version") != SCHEMA_VERSION:
            return None
        return manifest

    def read(self, id_: str) -> np.ndarray | None:
        """float32 [rows, dimension]; None where it is absent, unfinished or damaged (the next `write` mends it)."""
        manifest = self.manifest(id_)
        if manifest is None:
            return None
        parts = []
        for shard in _shards(manifest["rows"], manifest["shard_rows"]):
            part = self._read_shard(id_, shard)
            if part is None:
                (self.root / id_ / "manifest.json").unlink(missing_ok=True)
                return None
            parts.append(part)
        return np.concatenate(parts)

    def write(
        self,
        id_: str,
        rows: int,
        shard_rows: int,
        compute: Callable[[int, int], tuple[np.ndarray, float]],
        facts: dict[str, Any],
    ) -> dict[str, Any]:
        """Fill in the missing shards with `compute(start, stop) -> (float32 [stop - start, dim], seconds)`.

        Returns the manifest. `seconds` in it adds up what each shard took when it was computed.
        """
        folder = self.root / id_
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            shards = list(_shards(rows, shard_rows))
            for shard in shards:
                if self._read_shard(id_, shard) is None:
                    vectors, seconds = compute(shard.start, shard.stop)
                    self._write_shard(id_, shard, vectors, seconds)
            notes = [self._note(id_, shard) for shard in shards]
            manifest = {
                "schema_version": SCHEMA_VERSION,
                "id": id_,
                "rows": rows,
                "shard_rows": shard_rows,
                "dimension": int(notes[0]["dimension"]),
                "seconds": round(sum(note["seconds"] for note in notes), 3),
                "sha256": [note["sha256"] for note in notes],
                **facts,
            }
            files.write_json(folder / "manifest.json", manifest)
        return manifest

    def _write_shard(self, id_: str, shard: Shard, vectors: np.ndarray, seconds: float) -> None:
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(vectors, dtype=np.float32), allow_pickle=False)
        path = self.root / id_ / f"{shard.stem}.npy"
        files.write_bytes(path, buffer.getvalue())
        note = {"sha256": files.sha256(path), "dimension": vectors.shape[1], "seconds": round(seconds, 4)}
        files.write_json(path.with_suffix(".json"), note)

    def _note(self, id_: str, shard: Shard) -> dict[str, Any]:
        note: dict[str, Any] = json.loads((self.root / id_ / f"{shard.stem}.json").read_text())
        return note

    def _read_shard(self, id_: str, shard: Shard) -> np.ndarray | None:
        path = self.root / id_ / f"{shard.stem}.npy"
        try:
            if files.sha256(path) != self._note(id_, shard)["sha256"]:
                return None
            vectors = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, KeyError):
            return None
        return vectors if vectors.shape[0] == shard.stop - shard.start else None


def _shards(rows: int, shard_rows: int) -> Iterator[Shard]:
    for number, start in enumerate(range(0, rows, shard_rows)):
        yield Shard(number, start, min(start + shard_rows, rows))
