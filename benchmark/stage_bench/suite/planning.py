"""Suite -> Plan: the ordered list of frozen jobs that the dry run, the progress and the runner all read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stage_bench import fingerprint, registry
from stage_bench.backbones.spec import BackboneChoice
from stage_bench.datasets import folder
from stage_bench.datasets.folder import DatasetMissing
from stage_bench.datasets.textgraph import TextGraph
from stage_bench.errors import StageBenchError
from stage_bench.features import source
from stage_bench.features.spec import FeatureChoice
from stage_bench.llms.spec import LLMChoice
from stage_bench.suite.choices import Choices
from stage_bench.suite.schema import DatasetEntry, EnsembleEntry

TRAINING_VERSION = 2  # raise when the same options would train other models


@dataclass(frozen=True, kw_only=True)
class Job:
    """One piece of work. `id` hashes `content`: what determines the result, never order, paths or devices.

    dataset, split, features, llm, instruction and backbone are what the leaderboard shows.
    """

    id: str
    content: dict[str, Any]
    dataset: str
    split: str = ""
    features: str
    llm: str
    instruction: str
    backbone: str = ""

    kind = "job"

    @property
    def title(self) -> str:
        parts = (self.kind, self.dataset, self.llm or self.features, self.instruction, self.backbone)
        return " ".join(part for part in parts if part and part != "none")


@dataclass(frozen=True, kw_only=True)
class EmbedJob(Job):
    """Turn a dataset's texts into features."""

    choice: LLMChoice | FeatureChoice
    nodes: int
    kind = "embed"


@dataclass(frozen=True, kw_only=True)
class TuneJob(Job):
    """An Optuna study; `seeds` are pairs (split, initialisation)."""

    embedding_id: str
    choice: BackboneChoice
    seeds: tuple[tuple[int, int], ...]
    kind = "tune"


@dataclass(frozen=True, kw_only=True)
class TrainJob(Job):
    """Train one model on one split with one initialisation."""

    embedding_id: str
    study_id: str
    choice: BackboneChoice
    split_seed: int | None
    init_seed: int
    kind = "train"

    @property
    def title(self) -> str:
        return f"{super().title} seed {self.init_seed if self.split_seed is None else self.split_seed}"


@dataclass(frozen=True, kw_only=True)
class EnsembleJob(Job):
    """Combine the saved predictions of several runs."""

    members: tuple[str, ...]
    combine: str
    split_seed: int | None
    init_seed: int
    kind = "ensemble"

    @property
    def title(self) -> str:
        return f"{super().title} seed {self.init_seed if self.split_seed is None else self.split_seed}"


RunJob = TrainJob | EnsembleJob


@dataclass(frozen=True)
class Plan:
    """Every job of a suite in the order in which to do them, and the datasets they need.

    left_out: one line for each optional dataset whose files are absent.
    load_seconds: what reading each dataset took.
    """

    choices: Choices
    graphs: dict[str, TextGraph]
    jobs: tuple[Job, ...]
    left_out: tuple[str, ...] = ()
    load_seconds: dict[str, float] = field(default_factory=dict)

    @property
    def runs(self) -> list[RunJob]:
        return [job for job in self.jobs if isinstance(job, (TrainJob, EnsembleJob))]


def make(choices: Choices, data: Path, note: Callable[[str], None] = lambda line: None) -> Plan:
    """Load the datasets and list the jobs. Writes nothing.

    Raises:
        StageBenchError: a dataset is absent or wrong, or lacks what a model needs; with the place in the suite.
    """
    graphs: dict[str, TextGraph] = {}
    protocols: dict[str, str] = {}
    load_seconds: dict[str, float] = {}
    left_out: list[str] = []
    jobs: list[Job] = []
    for position, entry in enumerate(choices.datasets):
        try:
            note(f"reading dataset {entry.name}")
            begin = time.perf_counter()
            graph = _load(entry, choices.document.folder(["datasets", position, "path"]), data)
            load_seconds[entry.name] = round(time.perf_counter() - begin, 4)
        except DatasetMissing as error:
            if entry.optional:
                left_out.append(_absence(entry))
                continue
            raise choices.document.error(["datasets", position], str(error)) from None
        except StageBenchError as error:
            # The message names the place in the dataset's own files, which is where the mistake is.
            raise StageBenchError(f"{error} (dataset '{entry.name}')") from None
        _check_uses(choices, position, graph)
        try:
            protocol = _protocol(entry, choices, graph)
            graph.split(protocol, choices.seeds[0][0])
        except StageBenchError as error:
            raise choices.document.error(["datasets", position, "split"], str(error)) from None
        for name, other in graphs.items():
            if other.fingerprint == graph.fingerprint and protocols[name] == protocol:
                problem = f"'{entry.name}' holds the same data as '{name}'; keep one of them"
                raise choices.document.error(["datasets", position], problem)
        graphs[entry.name] = graph
        protocols[entry.name] = protocol
        placed: list[tuple[str, int, LLMChoice | FeatureChoice]] = [
            *(("llms", place, llm) for place, llm in enumerate(choices.llms)),
            *(("features", place, feature) for place, feature in enumerate(choices.features)),
        ]
        for kind, place, choice in placed:
            try:
                content = source.identity(graph, choice)
            except StageBenchError as error:
                raise choices.document.error([kind, place], str(error)) from None
            jobs += _jobs(choices, graph, entry.name, protocol, choice, content)
    if not graphs:
        raise choices.document.error(["datasets"], "no dataset is left: " + "; ".join(left_out))
    plan = Plan(choices, graphs, tuple(jobs), tuple(left_out), load_seconds)
    known: dict[str, RunJob] = {}
    for job in plan.runs:
        same = known.setdefault(job.id, job)
        if same is not job:
            raise choices.document.error([], f"'{same.title}' and '{job.title}' are the same run; keep one of them")
    return plan


def _absence(entry: DatasetEntry) -> str:
    """Why an optional dataset is left out; goes into reports, so it names no folder of this machine."""
    if entry.path is not None:
        return f"{entry.name} is left out: there is no dataset.yaml in {entry.path}"
    spec = registry.get("datasets", entry.name)
    return f"{entry.name} is left out: it is not in the data folder (--data or $STAGE_BENCH_DATA); {spec.how_to_get}"


def _load(entry: DatasetEntry, here: Path, data: Path) -> TextGraph:
    """`here` is what the entry's path is relative to."""
    if entry.path is not None:
        spec = registry.specs("datasets").get(entry.name)
        instructions = spec.instructions if spec else None
        return folder.load(here / entry.path, entry.name, instructions=instructions, undirected=entry.undirected)
    spec = registry.get("datasets", entry.name)
    graph: TextGraph = registry.resolve(spec.loader)(spec, data, undirected=entry.undirected)
    return graph


def _check_uses(choices: Choices, position: int, graph: TextGraph) -> None:
    """Whether there is in a graph what training, and each backbone, needs."""
    dataset = choices.datasets[position].name
    if not graph.has_labels:
        problem = f"dataset '{dataset}' has no labels: nothing can be trained on it"
        raise choices.document.error(["datasets", position], problem)
    for place, backbone in enumerate(choices.backbones):
        if not graph.num_edges and registry.get("backbones", backbone.name).needs_edges:
            problem = f"backbone '{backbone.label}' needs edges, but dataset '{dataset}' has none"
            raise choices.document.error(["backbones", place], problem)


def _protocol(entry: DatasetEntry, choices: Choices, graph: TextGraph) -> str:
    """The entry's own split, else the dataset's official one, else the suite's rule."""
    if entry.split is not None:
        return entry.split
    if graph.default_split in graph.fixed_splits:
        return graph.default_split
    return choices.suite.splits or graph.default_split


def _jobs(
    choices: Choices,
    graph: TextGraph,
    dataset: str,
    protocol: str,
    choice: LLMChoice | FeatureChoice,
    embedding: dict[str, Any],
) -> Iterator[Job]:
    """The jobs of one dataset under one set of features."""
    embedding_id = fingerprint.of_json(embedding)
    shown = _shown(dataset, choice)
    yield EmbedJob(id=embedding_id, content=embedding, choice=choice, nodes=graph.num_nodes, **shown)
    random = graph.is_random(protocol)
    pairs = choices.seeds if random else tuple(dict.fromkeys((None, init) for _, init in choices.seeds))
    base = {
        "graph": graph.graph_fingerprint,
        "labels": graph.label_fingerprint,
        "features": embedding_id,
        "version": TRAINING_VERSION,
    }
    runs: dict[tuple[str, int | None, int], TrainJob] = {}
    for backbone in choices.backbones:
        model = {
            **base,
            "backbone": [backbone.name, backbone.version],
            "options": backbone.options,
            "training": backbone.training,
        }
        study: dict[str, Any] = {}
        study_id = ""
        if backbone.trials:
            seeds = tuple((seed, seed) for seed in backbone.tuning_seeds)
            content = {
                **model,
                "kind": "tune",
                "space": backbone.space,
                "sampler": backbone.sampler,
                "splits": [graph.split(protocol, split).fingerprint for split, _ in seeds],
                "inits": [init for _, init in seeds],
            }
            study_id = fingerprint.of_json(content)
            study = {"study": study_id, "trials": backbone.trials}
            yield TuneJob(
                id=study_id,
                content=content,
                embedding_id=embedding_id,
                choice=backbone,
                seeds=seeds,
                split=protocol,
                backbone=backbone.label,
                **shown,
            )
        for split_seed, init_seed in pairs:
            split = graph.split(protocol, split_seed or 0)
            content = {**model, **study, "kind": "train", "split": split.fingerprint, "init": init_seed}
            job = TrainJob(
                id=fingerprint.of_json(content),
                content=content,
                embedding_id=embedding_id,
                study_id=study_id,
                choice=backbone,
                split_seed=split_seed,
                init_seed=init_seed,
                split=protocol,
                backbone=backbone.label,
                **shown,
            )
            runs[backbone.label, split_seed, init_seed] = job
            yield job
    for ensemble in choices.ensembles:
        for split_seed, init_seed in pairs:
            members = [runs[member, split_seed, init_seed] for member in ensemble.members]
            yield _ensemble(ensemble, members, shown)


def _ensemble(entry: EnsembleEntry, members: list[TrainJob], shown: dict[str, str]) -> EnsembleJob:
    content = {"kind": "ensemble", "members": sorted(job.id for job in members), "combine": entry.combine}
    return EnsembleJob(
        id=fingerprint.of_json(content),
        content=content,
        members=tuple(job.id for job in members),
        combine=entry.combine,
        split_seed=members[0].split_seed,
        init_seed=members[0].init_seed,
        split=members[0].split,
        backbone=entry.name,
        **shown,
    )


def _shown(dataset: str, choice: LLMChoice | FeatureChoice) -> dict[str, str]:
    if isinstance(choice, LLMChoice):
        instruction = " ".join(choice.instruction.split())
        return {"dataset": dataset, "features": source.ZERO_SHOT, "llm": choice.label, "instruction": instruction}
    return {"dataset": dataset, "features": choice.label, "llm": "", "instruction": ""}
