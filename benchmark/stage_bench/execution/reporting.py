"""From a plan and the store to a report: the rows, and what stands beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stage_bench import registry
from stage_bench.runs.clock import PHASES
from stage_bench.runs.record import RunRecord
from stage_bench.runs.store import Store
from stage_bench.suite.folders import folder
from stage_bench.suite.planning import Plan, RunJob

if TYPE_CHECKING:
    import pandas as pd


def rows(plan: Plan, store: Store) -> list[dict[str, Any]]:
    """One row of runs.csv for each run of the plan that was tried. Names are the plan's: a run may serve two suites."""
    found = []
    for job in plan.runs:
        record = store.get(job.id)
        if record is not None:
            found.append(_row(job, record))
    return found


def _row(job: RunJob, record: RunRecord) -> dict[str, Any]:
    metrics = record.metrics
    return {
        "id": record.id,
        "dataset": job.dataset,
        "split": job.split,
        "features": job.features,
        "llm": job.llm,
        "instruction": job.instruction,
        "backbone": job.backbone,
        "kind": job.kind,
        "split_seed": job.split_seed,
        "init_seed": job.init_seed,
        "status": record.status,
        **{key: metrics.get(key) for key in ("test_accuracy", "val_accuracy", "train_accuracy")},
        **{key: metrics.get(key) for key in ("best_epoch", "epochs", "parameters")},
        **{f"{phase}_seconds": record.seconds.get(phase) for phase in PHASES},
        "embedding_id": record.embedding_id,
        "diffusion_id": record.diffusion_id,
        "study_id": record.study_id,
        "peak_memory_mb": record.peak_memory_mb,
        "hardware": record.hardware,
        "split_fingerprint": record.split_fingerprint,
        "dataset_fingerprint": record.dataset_fingerprint,
        "version": record.versions.get("stage-bench", ""),
        "commit": record.commit.get("commit", "") + ("-dirty" if record.commit.get("dirty") else ""),
        "error": record.error,
        "note": record.note,
    }


def write(plan: Plan, store: Store, reports: Path) -> tuple[pd.DataFrame, list[Path]]:
    """Write `<reports>/<suite>/`; the board, and the paths of what was written."""
    import pandas as pd

    from stage_bench.leaderboard import board as boards
    from stage_bench.leaderboard import published, writing
    from stage_bench.leaderboard.rows import RUN_COLUMNS

    suite = plan.choices.suite
    runs = pd.DataFrame(rows(plan, store), columns=list(RUN_COLUMNS))
    numbers = folder("baselines") / "published"
    names = {spec.hub_id: name for name, spec in registry.specs("llms").items() if spec.hub_id}
    paths = writing.write(
        reports / suite.name,
        suite.name,
        runs,
        published.load(suite.compare, numbers, names) if suite.compare else None,
        left_out=[*plan.left_out, *_unfinished(plan, runs)],
        published_times=published.times(numbers) if suite.compare else None,
    )
    return boards.read(reports / suite.name / "leaderboard.csv"), paths


def _unfinished(plan: Plan, runs: pd.DataFrame) -> list[str]:
    missing = len(plan.runs) - len(runs)
    return [f"{missing} of {len(plan.runs)} runs are not there yet; rows show those that are"] if missing else []


def counts(plan: Plan, store: Store) -> dict[str, int]:
    """How many runs are done, failed and missing."""
    records: Sequence[RunRecord | None] = [store.get(job.id) for job in plan.runs]
    return {
        "done": sum(record is not None and record.status == "ok" for record in records),
        "failed": sum(record is not None and record.status == "failed" for record in records),
        "missing": sum(record is None for record in records),
    }
