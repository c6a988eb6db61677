"""From a plan and the store to a report: the rows, and what stands beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stage_bench import registry
from stage_bench.runs.clock import PHASES
from stage_bench.runs.record import RunRecord
from stage_bench.runs.store import Store
from stage_bench.suite.folders import folder
from stage_bench.suite.jobs import EnsembleJob, RunJob, TuneJob
from stage_bench.suite.planning import Plan
from stage_bench.training import tuning

if TYPE_CHECKING:
    import pandas as pd

    from stage_bench.llms.spec import LLMSpec


def rows(plan: Plan, store: Store) -> list[dict[str, Any]]:
    """One row of runs.csv for each run of the plan. Names are the plan's: a run may serve two suites."""
    labels = {job.id: job.backbone for job in plan.runs}
    found = []
    for job in plan.runs:
        record = store.get(job.id)
        row = _row(job, record) if record is not None else _missing(job)
        if isinstance(job, EnsembleJob):
            row["note"] = _combined(job, labels, {run.id: place for place, run in enumerate(plan.runs)})
        found.append(row)
    return found


def _combined(job: EnsembleJob, labels: dict[str, str], places: dict[str, int]) -> str:
    """How many members, and which, in the plan's order: a backbone on several inputs is named once."""
    members = sorted(job.members, key=lambda member: places[member])
    if job.weights is not None:
        weights = dict(zip(job.members, job.weights, strict=True))
        return f"weighted, of {', '.join(f'{labels[member]} {weights[member]:g}' for member in members)}"
    names = list(dict.fromkeys(labels[member] for member in members))
    times = f", each on {len(job.members) // len(names)} inputs" if len(job.members) > len(names) else ""
    return f"{job.combine} of {', '.join(names)}{times}"


def _missing(job: RunJob) -> dict[str, Any]:
    """The row of a run that is planned and not there yet."""
    names = ("id", "dataset", "split", "features", "llm", "instruction", "backbone", "kind", "split_seed", "init_seed")
    return {"status": "missing", **{name: getattr(job, name) for name in names}}


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
        "answers_id": record.answers_id,
        "answer_tokens": record.answers.get("tokens"),
        "answer_dollars": record.answers.get("dollars"),
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


def studies(plan: Plan, results: Path) -> list[dict[str, Any]]:
    """What is known of each finished study of the plan, under the names that the leaderboard has for it."""
    found = []
    for job in plan.jobs:
        summary = tuning.summary(results / "studies", job.id, job.tuning) if isinstance(job, TuneJob) else None
        if summary is not None:
            names = ("dataset", "split", "features", "llm", "instruction", "backbone")
            found.append({**summary, **{name: getattr(job, name) for name in names}})
    return found


def write(plan: Plan, rows: Sequence[dict[str, Any]], reports: Path, results: Path) -> tuple[pd.DataFrame, list[Path]]:
    """Write `<reports>/<suite>/` from what `rows` gave; the board, and the paths of what was written."""
    import pandas as pd

    from stage_bench.leaderboard import board as boards
    from stage_bench.leaderboard import published, writing
    from stage_bench.leaderboard.rows import RUN_COLUMNS

    suite = plan.choices.suite
    runs = pd.DataFrame(list(rows), columns=list(RUN_COLUMNS))
    numbers = folder("baselines") / "published"
    names = {spec.hub_id: name for name, spec in registry.specs("llms").items() if spec.hub_id}
    compared = published.load(suite.compare, numbers, names) if suite.compare else None
    paths = writing.write(
        reports / suite.name,
        suite.name,
        runs,
        compared,
        configuration=_configuration(plan),
        left_out=[*plan.left_out, *_comparable(plan, compared)],
        published_times=published.times(numbers) if suite.compare else None,
        studies=studies(plan, results),
        models=[_model(spec) for spec in _models(plan)],
    )
    return boards.read(reports / suite.name / "leaderboard.csv"), paths


def _models(plan: Plan) -> list[LLMSpec]:
    """The language models that embed, or are trained to."""
    llms = [*plan.choices.llms, *(choice.llm for choice in plan.choices.features if choice.llm is not None)]
    return list({choice.spec.name: choice.spec for choice in llms}.values())


def _model(spec: LLMSpec) -> dict[str, str]:
    """Facts as the leaderboard shows them; an empty one is not known."""
    revision = f" at {spec.revision[:8]}" if spec.revision else ""
    return {
        "name": spec.name,
        "source": f"{spec.hub_id}{revision}" if spec.hub_id else "a plug-in",
        "dimension": str(spec.dimension or ""),
        "parameters": f"{spec.parameters:,}" if spec.parameters else "",
        "released": spec.released,
        "licence": spec.licence,
        "trained_on": spec.trained_on,
    }


def _comparable(plan: Plan, numbers: pd.DataFrame | None) -> list[str]:
    """A line for each dataset on which nothing was published, or whose graph is another than the published one."""
    if numbers is None:
        return []
    notes = []
    for name, graph in plan.graphs.items():
        spec = registry.specs("datasets").get(name)
        if spec is not None and spec.nodes not in (None, graph.num_nodes):
            notes.append(
                f"{name} has {graph.num_nodes:,} nodes here and {spec.nodes:,} where numbers were published: other data"
            )
        elif not (numbers["dataset"] == name).any():
            notes.append(f"{', '.join(plan.choices.suite.compare)} published nothing on {name}")
    return notes


def _configuration(plan: Plan) -> list[str]:
    """What holds for every row: data, hyperparameters, seeds."""
    suite = plan.choices.suite
    lines: list[str] = []
    for name, graph in plan.graphs.items():
        protocol = next((job.split for job in plan.runs if job.dataset == name), None)
        if protocol is None:  # nothing that is at hand suits it
            continue
        sizes = graph.split(protocol, plan.choices.seeds[0][0]).sizes
        lines.append(
            f"{name}: {graph.num_nodes:,} nodes, {graph.num_edges:,} directed edges, {graph.num_classes} classes; "
            f"train / val / test: {' / '.join(f'{size:,}' for size in sizes)}"
        )
    training = ", ".join(f"{key}={value}" for key, value in suite.training.items())
    lines.append(
        f"hyperparameters: recipe {suite.recipe}" + (f", but {training} for every backbone" if training else "")
    )
    if suite.tuning is not None:
        metric = "validation accuracy" if suite.tuning.metric == "val_accuracy" else "validation loss"
        lines.append(
            f"every backbone with something to search is tuned: {suite.tuning.trials} trials a study on {metric}, "
            "unless its own entry says otherwise"
        )
    for bundle in plan.choices.bundles:
        lines.append(f"{bundle.label}: {bundle.combine} of one model on each of {', '.join(bundle.members)}")
    pairs = [str(split) if split == init else f"{split}/{init}" for split, init in plan.choices.seeds]
    lines.append(f"seeds (split/initialisation where they differ): {', '.join(pairs)}")
    return lines


def counts(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """How many runs are done, failed and missing."""
    found = Counter(row["status"] for row in rows)
    return {"done": found["ok"], "failed": found["failed"], "missing": found["missing"]}
