"""From a plan and the store to a report: the rows, and what stands beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stage_bench import registry
from stage_bench.execution import costs
from stage_bench.llms.cache import EmbeddingCache
from stage_bench.runs import scoring
from stage_bench.runs.record import RunRecord
from stage_bench.runs.row import from_record
from stage_bench.runs.store import Store
from stage_bench.suite.jobs import EnsembleJob, RunJob, TuneJob
from stage_bench.suite.planning import Plan
from stage_bench.training import tuning
from stage_bench.training.studies import problem

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from stage_bench.leaderboard.report import Report
    from stage_bench.llms.spec import LLMSpec


_DETAILED = 2000
"""Runs up to which a page holds configurations and curves; beyond, it would be too large to open."""


def records(plan: Plan, store: Store) -> dict[str, RunRecord]:
    """The records of the plan's runs that are there, failed ones too, by id."""
    found = {job.id: store.get(job.id) for job in plan.runs}
    return {id_: record for id_, record in found.items() if record is not None}


def rows(plan: Plan, store: Store, found_records: Mapping[str, RunRecord] | None = None) -> list[dict[str, Any]]:
    """One row of runs.csv for each run of the plan. Names are the plan's: a run may serve two suites.

    found_records: what `records` gave; None: they are read.
    """
    if found_records is None:
        found_records = records(plan, store)
    labels = {job.id: job.backbone for job in plan.runs}
    manifest = cache(EmbeddingCache(store.results / "embeddings", store.warn).manifest)
    found = []
    for job in plan.runs:
        record = found_records.get(job.id)
        row = _row(job, record, manifest) if record is not None else _missing(job)
        sizes = plan.graphs[job.dataset].split(job.split, job.split_seed or 0).sizes
        row |= dict(zip(("train_nodes", "val_nodes", "test_nodes"), sizes, strict=True))
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


def _row(job: RunJob, record: RunRecord, manifest: Callable[[str], dict[str, Any] | None]) -> dict[str, Any]:
    named = ("dataset", "split", "features", "llm", "instruction", "backbone", "kind", "split_seed", "init_seed")
    embedding = costs.embedding_of(record, manifest)
    return {
        **from_record(record),
        **{name: getattr(job, name) for name in named},
        **{f"embed_{key}": embedding.get(key) for key in ("tokens", "dollars", "joules")},
    }


def studies(
    plan: Plan, results: Path, tuned: Collection[str] = (), warn: Callable[[str], None] = lambda line: None
) -> list[dict[str, Any]]:
    """What is known of each finished study of the plan, under the names that the leaderboard has for it.

    tuned: ids of studies that finished runs were tuned by; warn: told of those that cannot be shown all the same.
    """
    found = []
    for job in plan.jobs:
        if not isinstance(job, TuneJob):
            continue
        folder = results / "studies"
        summary = tuning.summary(folder, job.id, job.tuning)
        if summary is None and job.id in tuned:
            damage = problem(folder, job.id)
            end = "does not show this study until `stage-bench run` has made it again" if damage else "cannot show it"
            warn(f"{folder / job.id}.json: {damage or 'absent'}; the report {end}")
        if summary is not None:
            names = ("dataset", "split", "features", "llm", "instruction", "backbone")
            found.append({**summary, **{name: getattr(job, name) for name in names}})
    return found


def write(
    plan: Plan, found_rows: Sequence[dict[str, Any]], reports: Path, results: Path
) -> tuple[pd.DataFrame, list[Path]]:
    """Write `<reports>/<suite>/` from what `rows` gave; the board, and the paths of what was written."""
    from stage_bench.leaderboard import writing
    from stage_bench.leaderboard.files import file_stem

    store = Store(results)
    report = make(plan, found_rows, records(plan, store), store)
    return report.board, writing.write(reports / file_stem(report.facts.suite), report)


def make(
    plan: Plan,
    found_rows: Sequence[dict[str, Any]],
    found_records: Mapping[str, RunRecord],
    store: Store,
    wanted: Mapping[str, Sequence[str]] | None = None,
) -> Report:
    """The report of a plan from what `rows` and `records` gave.

    wanted: keep only runs with these values, by column (leaderboard.selecting). Raises StageBenchError: none is left.
    """
    import pandas as pd

    from stage_bench.execution import published_numbers
    from stage_bench.leaderboard import report, selecting
    from stage_bench.leaderboard.rows import RUN_COLUMNS, check_runs

    suite = plan.choices.suite
    compared, times = published_numbers.load(suite.compare)
    tuned = {record.study_id for record in found_records.values() if record.status == "ok"}
    other_data = _other_data(plan)
    facts = report.Facts(
        suite=suite.name,
        description=suite.description,
        configuration=_configuration(plan),
        left_out=[*plan.left_out, *_incomparable(plan, compared, other_data)],
        compare=suite.compare,
        models=[_model(spec) for spec in _models(plan)],
        studies=studies(plan, store.results, tuned, store.warn),
        other_data=[name for name in other_data if name in _mistaken(plan)],
    )
    runs = check_runs(pd.DataFrame(list(found_rows), columns=list(RUN_COLUMNS)))
    facts, runs = selecting.select(facts, runs, wanted or {})
    kept = set(runs["id"])
    labels = {job.id: f"{job.inputs} {job.backbone}".strip() for job in plan.runs}
    details = {id_: _detail(record, labels) for id_, record in found_records.items() if id_ in kept}
    return report.make(
        facts,
        runs,
        compared,
        times,
        _hits(plan, found_records, store, kept),
        details if len(kept) <= _DETAILED else {},
        checked=True,
    )


def _hits(
    plan: Plan, found_records: Mapping[str, RunRecord], store: Store, kept: set[str]
) -> dict[str, npt.NDArray[np.bool_]]:
    """Where the split is fixed: which test nodes each run was right about."""
    seeds: dict[tuple[str, str], set[int | None]] = {}
    for job in plan.runs:
        seeds.setdefault((job.dataset, job.split), set()).add(job.split_seed)
    found = {}
    for job in plan.runs:
        record = found_records.get(job.id)
        drawn = len(seeds[job.dataset, job.split]) > 1
        if drawn or record is None or record.status != "ok" or job.id not in kept:
            continue
        graph = plan.graphs[job.dataset]
        said = store.predictions(job.id)
        split = graph.split(job.split, job.split_seed or 0)
        found[job.id] = scoring.hits(said["probabilities"], graph.labels, split, said.get("nodes"))
    return found


def _detail(record: RunRecord, labels: Mapping[str, str]) -> dict[str, Any]:
    """What the page says of one run beyond its row. labels: of the plan's runs, by id."""
    environment = {"versions": record.versions, "hardware": record.hardware, "commit": record.commit}
    return {
        "configuration": record.content,
        "environment": {**environment, "finished": record.finished},
        "curve": [round(value, 4) for value in record.curve],
        "weights": {labels.get(id_, id_): weight for id_, weight in record.weights.items()},
    }


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


def _other_data(plan: Plan) -> dict[str, str]:
    """Datasets whose graph is another than the one that numbers were published on, each with a sentence."""
    found = {}
    for name, graph in plan.graphs.items():
        spec = registry.specs("datasets").get(name)
        if spec is not None and spec.nodes not in (None, graph.num_nodes):
            found[name] = (
                f"{name} has {graph.num_nodes:,} nodes here and {spec.nodes:,} where numbers were published: other data"
            )
    return found


def _mistaken(plan: Plan) -> list[str]:
    """Datasets that have the size of another registered one, such as TAPE's subset under the full graph's name."""
    sizes = {spec.nodes: name for name, spec in registry.specs("datasets").items() if spec.nodes is not None}
    return [name for name, graph in plan.graphs.items() if sizes.get(graph.num_nodes, name) != name]


def _incomparable(plan: Plan, numbers: pd.DataFrame, other_data: Mapping[str, str]) -> list[str]:
    """A line for each dataset without published numbers, where the suite asks for some."""
    if not plan.choices.suite.compare:
        return []
    named = ", ".join(plan.choices.suite.compare)
    return [
        other_data.get(name) or f"{named} published nothing on {name}"
        for name in plan.graphs
        if name in other_data or not (numbers["dataset"] == name).any()
    ]


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
