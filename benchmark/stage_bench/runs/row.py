"""A record as a row of runs.csv. Knows nothing of torch."""

from __future__ import annotations

from typing import Any

from stage_bench.runs.clock import PHASES
from stage_bench.runs.record import RunRecord

NAMES = (
    *("id", "dataset", "split", "features", "llm", "instruction", "backbone", "kind", "split_seed", "init_seed"),
    *("status", "answers_id", "embedding_id", "diffusion_id", "study_id", "peak_memory_mb", "hardware"),
    *("split_fingerprint", "dataset_fingerprint", "error", "note", "energy_joules"),
)
"""What a record and a row call the same."""


def from_record(record: RunRecord) -> dict[str, Any]:
    """What a record alone says: every column but the sizes of the split's parts (leaderboard/rows.py RUN_COLUMNS)."""
    metrics = record.metrics
    return {
        **{name: _text(getattr(record, name)) for name in NAMES},
        **{key: metrics.get(key) for key in ("test_accuracy", "val_accuracy", "train_accuracy")},
        **{key: metrics.get(key) for key in ("best_epoch", "epochs", "parameters")},
        **{f"{phase}_seconds": record.seconds.get(phase) for phase in PHASES},
        "answer_tokens": record.answers.get("tokens"),
        "answer_dollars": record.answers.get("dollars"),
        **{f"embed_{key}": record.embedding.get(key) for key in ("tokens", "dollars", "joules")},
        "version": _text(str(record.versions.get("stage-bench", ""))),
        "commit": _text(str(record.commit.get("commit", "")) + ("-dirty" if record.commit.get("dirty") else "")),
    }


def _text(value: Any) -> Any:
    """A broken character, as a failed program may print it, becomes its escape: tables are UTF-8."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
