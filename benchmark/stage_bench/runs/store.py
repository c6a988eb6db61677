"""The store: `<results>/runs/<id>/run.json` and `predictions.npz`, each written whole."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import UnionType
from typing import get_args, get_origin, get_type_hints

import numpy as np

from stage_bench import array_files, files
from stage_bench.errors import StageBenchError, brief, shown
from stage_bench.runs.record import Newer, RunRecord

_WORTH_A_WAIT = 1.0  # seconds of work


class Store:
    """The runs of one results folder.

    warn: called with one line where something on disk is damaged and will be redone.
    """

    def __init__(self, results: Path, warn: Callable[[str], None] = lambda line: None) -> None:
        self.results = results
        self.warn = warn

    def folder(self, id_: str) -> Path:
        return self.results / "runs" / id_

    def read(self, id_: str) -> RunRecord | None:
        """The record, failed ones too; None where there is none.

        Raises:
            StageBenchError: what is there cannot be trusted; the message names the file, and why.
            Newer: a newer stage-bench wrote it.
        """
        if Path(id_).name != id_ or id_ == "..":  # as the members of an ensemble that somebody else made may be called
            raise StageBenchError(f"{self.results / 'runs'}: '{brief(id_)}' can be no run's id")
        path = self.folder(id_) / "run.json"
        try:
            record = RunRecord.from_json(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except Newer as error:
            raise Newer(f"{path}: {error}") from None
        except (OSError, ValueError, RecursionError, StageBenchError) as error:
            raise StageBenchError(f"{path}: {error}") from None
        for name, types in _types().items():
            if not isinstance(getattr(record, name), types):
                raise StageBenchError(f"{path}: not a run record: {name} is of the wrong type")
        if record.id != id_:
            raise StageBenchError(f"{path}: holds the record of {shown(record.id)}")
        if record.status == "ok" and not self._sound(record):
            raise StageBenchError(f"{path.parent / 'predictions.npz'}: damaged or absent")
        return record

    def get(self, id_: str) -> RunRecord | None:
        """The record, failed ones too; None where there is none, or none that can be trusted."""
        try:
            return self.read(id_)
        except StageBenchError as error:
            self.warn(f"{error}; it will be run again")
            return None

    def done(self, id_: str) -> RunRecord | None:
        """The record of a run that succeeded."""
        record = self.get(id_)
        return record if record is not None and record.status == "ok" else None

    def put(self, record: RunRecord, predictions: dict[str, np.ndarray] | None = None) -> RunRecord:
        """Write a run; the record goes last, so that it is there only when all of it is."""
        folder = self.folder(record.id)
        # Shorter ones are not worth a wait for the disk: if the machine fails, checksums tell, and they are made again.
        spent = (record.seconds.get(phase) for phase in ("train", "infer"))
        sync = sum(value for value in spent if isinstance(value, (int, float))) >= _WORTH_A_WAIT
        if predictions is not None:
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **predictions)  # type: ignore[arg-type]
            data = buffer.getvalue()
            files.write_bytes(folder / "predictions.npz", data, sync)
            record = replace(record, predictions_sha256=hashlib.sha256(data).hexdigest())
        files.write_json(folder / "run.json", record.to_json(), sync)
        return record

    def predictions(self, id_: str) -> dict[str, np.ndarray]:
        """`probabilities` and `logits`, float16 [num_nodes, num_classes], and `split_fingerprint`.

        Where `nodes` (int64, sorted) is there as well, the rows are those of these nodes (training/ensembles.py).

        Raises:
            StageBenchError: they are absent or damaged.
        """
        path = self.folder(id_) / "predictions.npz"
        try:
            said = array_files.read(path)
        except (OSError, ValueError) as error:
            raise StageBenchError(f"{path}: cannot be read: {error}") from None
        if "probabilities" not in said:
            raise StageBenchError(f"{path}: holds no probabilities")
        return said

    def _sound(self, record: RunRecord) -> bool:
        try:
            return files.sha256(self.folder(record.id) / "predictions.npz") == record.predictions_sha256
        except OSError:
            return False


@cache
def _types() -> dict[str, tuple[type, ...]]:
    """What each field of a record may be as JSON has it: a whole number may stand for a fraction."""
    found = {}
    for name, hint in get_type_hints(RunRecord).items():
        parts = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        types = [get_origin(part) or part for part in parts]
        found[name] = (*types, int) if float in types else tuple(types)
    return found
