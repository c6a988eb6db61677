"""The store: `<results>/runs/<id>/run.json` and `predictions.npz`, each written whole."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from stage_bench import files
from stage_bench.errors import StageBenchError
from stage_bench.runs.record import RunRecord


class Store:
    """The runs of one results folder.

    warn: called with one line where something on disk is damaged and will be redone.
    """

    def __init__(self, results: Path, warn: Callable[[str], None] = lambda line: None) -> None:
        self.results = results
        self.warn = warn

    def folder(self, id_: str) -> Path:
        return self.results / "runs" / id_

    def get(self, id_: str) -> RunRecord | None:
        """The record, failed ones too; None where there is none, or none that can be trusted."""
        path = self.folder(id_) / "run.json"
        try:
            record = RunRecord.from_json(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, StageBenchError) as error:
            self.warn(f"{path}: {error}; it will be run again")
            return None
        if record.id != id_:
            self.warn(f"{path}: holds the record of {record.id}; it will be run again")
            return None
        if record.status == "ok" and not self._sound(record):
            self.warn(f"{path.parent / 'predictions.npz'}: damaged or absent; it will be run again")
            return None
        return record

    def done(self, id_: str) -> RunRecord | None:
        """The record of a run that succeeded."""
        record = self.get(id_)
        return record if record is not None and record.status == "ok" else None

    def put(self, record: RunRecord, predictions: dict[str, np.ndarray] | None = None) -> RunRecord:
        """Write a run; the record goes last, so that it is there only when all of it is."""
        folder = self.folder(record.id)
        if predictions is not None:
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **predictions)  # type: ignore[arg-type]
            files.write_bytes(folder / "predictions.npz", buffer.getvalue())
            record = replace(record, predictions_sha256=files.sha256(folder / "predictions.npz"))
        files.write_json(folder / "run.json", record.to_json())
        return record

    def predictions(self, id_: str) -> dict[str, np.ndarray]:
        """`probabilities` and `logits`, float16 [num_nodes, num_classes], and `split_fingerprint`.

        Where `nodes` (int64, sorted) is there as well, the rows are those of these nodes (training/ensembles.py).

        Raises:
            StageBenchError: they are absent or damaged.
        """
        path = self.folder(id_) / "predictions.npz"
        try:
            with np.load(path, allow_pickle=False) as archive:
                return {key: archive[key] for key in archive.files}
        except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise StageBenchError(f"{path}: cannot be read: {error}") from None

    def _sound(self, record: RunRecord) -> bool:
        try:
            return files.sha256(self.folder(record.id) / "predictions.npz") == record.predictions_sha256
        except OSError:
            return False
