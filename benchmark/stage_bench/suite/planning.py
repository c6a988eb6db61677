"""Suite -> Plan: the ordered list of frozen jobs that the dry run, the progress and the runner all read."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from stage_bench import registry
from stage_bench.datasets import folder
from stage_bench.datasets.folder import DatasetMissing
from stage_bench.datasets.textgraph import TextGraph
from stage_bench.errors import StageBenchError
from stage_bench.features import source
from stage_bench.features.spec import FeatureChoice
from stage_bench.llms.spec import LLMChoice
from stage_bench.located_yaml import Document
from stage_bench.suite import expansion
from stage_bench.suite.choices import Choices, input_names
from stage_bench.suite.expansion import Inputs
from stage_bench.suite.jobs import EnsembleJob, Job, RunJob, TrainJob
from stage_bench.suite.schema import DatasetEntry

Lack = Callable[[LLMChoice | FeatureChoice, Sequence[str]], str]


@dataclass(frozen=True)
class Plan:
    """Every job of a suite in the order in which to do them, and the datasets they need.

    left_out: one line for each dataset, input and ensemble that is not there, though the suite names it.
    load_seconds: what reading each dataset took.
    """

    choices: Choices
    graphs: dict[str, TextGraph]
    jobs: tuple[Job, ...]
    left_out: tuple[str, ...] = ()
    load_seconds: dict[str, float] = field(default_factory=dict)

    @cached_property
    def runs(self) -> list[RunJob]:
        return [job for job in self.jobs if isinstance(job, (TrainJob, EnsembleJob))]


def make(
    choices: Choices,
    data: Path,
    note: Callable[[str], None] = lambda line: None,
    lack: Lack | None = None,
) -> Plan:
    """Load the datasets and list the jobs. Writes nothing.

    lack: given, what is not at hand is left out, with a word; it says what a choice lacks to make the features of
    those ids, or nothing.

    Raises:
        StageBenchError: a dataset is absent or wrong, or lacks what a model needs; with the place in the suite.
    """
    graphs: dict[str, TextGraph] = {}
    protocols: dict[str, str] = {}
    load_seconds: dict[str, float] = {}
    left_out: list[str] = []
    inputs: list[Inputs] = []
    for position, entry in enumerate(choices.datasets):
        try:
            note(f"reading dataset {entry.name}")
            begin = time.perf_counter()
            graph = _load(entry, choices.document, position, data)
            load_seconds[entry.name] = round(time.perf_counter() - begin, 4)
        except DatasetMissing as error:
            if entry.optional or lack is not None:
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
        # First, so that its runs are there for ensembles beside those of others.
        inputs += [Inputs(entry.name, graph, protocol, None, source.NONE)] if _reads_nothing(choices) else []
        for location, name, choice in _placed(choices):
            found = Inputs(entry.name, graph, protocol, choice, name)
            try:
                ids = [found.embed_job(seed).id for seed, _ in found.pairs(choices.seeds)]
                absent = lack(choice, ids) if lack is not None else ""
            except StageBenchError as error:
                if lack is None:
                    raise choices.document.error(location, str(error)) from None
                absent = str(error)
            if absent:
                left_out.append(f"{choice.label} on {entry.name} is left out: {absent}")
            else:
                inputs.append(found)
    if not graphs:
        raise choices.document.error(["datasets"], "no dataset is left: " + "; ".join(left_out))
    if not inputs:
        raise choices.document.error(
            ["llms" if choices.llms else "features"], "nothing is left: " + "; ".join(left_out)
        )
    jobs, unmade = expansion.expand(choices, inputs)
    plan = Plan(choices, graphs, tuple(jobs), tuple(dict.fromkeys([*left_out, *unmade])), load_seconds)
    known: dict[str, RunJob] = {}
    for job in plan.runs:
        same = known.setdefault(job.id, job)
        if same is not job:
            problem = (
                f"'{same.title}' and '{job.title}' are the same run; keep one of them (where one is of a bundle's set, "
                "leave the other entry out: ensembles can name the set)"
            )
            raise choices.document.error(["features"], problem)
    return plan


def _placed(choices: Choices) -> list[tuple[list[str | int], str, LLMChoice | FeatureChoice]]:
    """What models see, each with its place in the suite and what an ensemble calls it."""
    names = input_names(choices.llms, choices.features)
    places: list[list[str | int]] = [["llms", place] for place in range(len(choices.llms))]
    places += [["features", place] for place in choices.feature_places]
    return list(zip(places, names, [*choices.llms, *choices.features], strict=True))


def _reads_nothing(choices: Choices) -> bool:
    return any(registry.get("backbones", backbone.name).reads == "nothing" for backbone in choices.backbones)


def _absence(entry: DatasetEntry) -> str:
    """Why an optional dataset is left out; goes into reports, so it names no folder of this machine."""
    if entry.path is not None:
        return f"{entry.name} is left out: there is no dataset.yaml in {entry.path}"
    spec = registry.get("datasets", entry.name)
    return f"{entry.name} is left out: it is not in the data folder (--data or $STAGE_BENCH_DATA); {spec.how_to_get}"


def _load(entry: DatasetEntry, document: Document, position: int, data: Path) -> TextGraph:
    if entry.path is not None:
        path = document.beside(["datasets", position, "path"], entry.path)
        spec = registry.specs("datasets").get(entry.name)
        instructions = spec.instructions if spec else None
        return folder.load(path, entry.name, instructions=instructions, undirected=entry.undirected)
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
