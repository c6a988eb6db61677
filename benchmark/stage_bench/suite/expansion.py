"""From a suite's choices and what models see to the jobs, in the order in which to do them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from stage_bench import fingerprint, registry
from stage_bench.backbones.spec import BackboneChoice
from stage_bench.datasets.splits import Split
from stage_bench.datasets.textgraph import TextGraph
from stage_bench.errors import StageBenchError
from stage_bench.features import source
from stage_bench.features.spec import FeatureChoice
from stage_bench.llms.spec import LLMChoice
from stage_bench.suite.choices import Choices
from stage_bench.suite.feature_choices import BundleChoice
from stage_bench.suite.jobs import Cell, EmbedJob, EnsembleJob, Job, TrainJob, TuneJob
from stage_bench.suite.schema import EnsembleEntry
from stage_bench.training.options import TuningChoice

TRAINING_VERSION = 2  # raise when the same options would train other models

Pairs = Sequence[tuple[int | None, int]]


@dataclass(frozen=True, eq=False)
class Inputs:
    """What models see on one dataset: an LLM's embeddings, other features, or (choice None) nothing but the graph.

    name: what a suite's ensembles call it.
    """

    dataset: str
    graph: TextGraph
    protocol: str
    choice: LLMChoice | FeatureChoice | None
    name: str
    _embeddings: dict[int | None, EmbedJob] = field(default_factory=dict)
    _splits: dict[int | None, str] = field(default_factory=dict)

    def pairs(self, seeds: Sequence[tuple[int, int]]) -> Pairs:
        """Seeds (split, initialisation); a split that is fixed has none."""
        if self.graph.is_random(self.protocol):
            return seeds
        return tuple(dict.fromkeys((None, init) for _, init in seeds))

    def split(self, seed: int | None) -> Split:
        return self.graph.split(self.protocol, seed or 0)

    def split_fingerprint(self, seed: int | None) -> str:
        """Drawn once: every backbone asks for the same ones."""
        if seed not in self._splits:
            self._splits[seed] = self.split(seed).fingerprint
        return self._splits[seed]

    def embed_job(self, split_seed: int | None) -> EmbedJob:
        """The job that makes the features for a split.

        Raises:
            StageBenchError: the dataset lacks what they are made of.
        """
        assert self.choice is not None
        apart = source.per_split(self.choice)
        key = split_seed if apart else None
        if key not in self._embeddings:
            content = source.identity(self.graph, self.choice, self.split(key) if apart else None)
            self._embeddings[key] = EmbedJob(
                id=fingerprint.of_json(content),
                content=content,
                choice=self.choice,
                nodes=self.graph.num_nodes,
                split=self.protocol if apart else "",
                split_seed=key,
                **self.shown,
            )
        return self._embeddings[key]

    def cell(self, split_seed: int | None, init_seed: int) -> Cell:
        embedding = "" if self.choice is None else self.embed_job(split_seed).id
        return Cell(self.dataset, self.graph.graph_fingerprint, embedding, self.protocol, split_seed, init_seed)

    @property
    def shown(self) -> dict[str, str]:
        """What the leaderboard calls it."""
        if self.choice is None:
            return {"dataset": self.dataset, "features": source.NONE, "llm": "", "instruction": ""}
        llm = self.choice if isinstance(self.choice, LLMChoice) else self.choice.llm
        return {
            "dataset": self.dataset,
            "features": source.ZERO_SHOT if isinstance(self.choice, LLMChoice) else self.choice.label,
            "llm": llm.label if llm is not None else "",
            "instruction": " ".join(llm.instruction.split()) if llm is not None else "",
        }

    def suits(self, backbone: BackboneChoice) -> bool:
        """Whether a backbone reads what this is."""
        reads = registry.get("backbones", backbone.name).reads
        if self.choice is None or reads == "nothing":
            return self.choice is None and reads == "nothing"
        return reads == "features" or source.predicts(self.choice)


def expand(choices: Choices, inputs: Sequence[Inputs]) -> tuple[list[Job], list[str]]:
    """The jobs, and a line for each ensemble that cannot be because something of it was left out."""
    expansion = _Expansion(choices, inputs)
    return list(expansion.jobs()), expansion.absent


class _Expansion:
    def __init__(self, choices: Choices, inputs: Sequence[Inputs]) -> None:
        self.choices, self.inputs = choices, inputs
        self.absent: list[str] = []
        self.planned: set[tuple[str, str]] = set()  # embeddings and studies
        self.runs: dict[tuple[Any, ...], TrainJob] = {}

    def jobs(self) -> Iterator[Job]:
        for dataset, group in itertools.groupby(self.inputs, key=lambda item: item.dataset):
            items = list(group)
            made: set[str] = set()
            for item in items:
                for backbone in self.choices.backbones:
                    if item.suits(backbone):
                        yield from self._trained(item, backbone)
                for entry in self.choices.ensembles:
                    if entry.inputs == "each" and item.choice is not None:
                        for job in self._ensemble(entry, entry.members, [item], items, item.shown, entry.name):
                            made.add(entry.name)
                            yield job
            for entry in self.choices.ensembles:
                if entry.inputs == "each" and entry.name not in made:
                    self.absent.append(f"ensemble {entry.name} on {dataset} is left out: no inputs suit all members")
            for bundle in self.choices.bundles:
                yield from self._bundled(bundle, items, dataset)
            for entry in self.choices.ensembles:
                if entry.inputs != "each":
                    yield from self._across(entry, items, dataset)

    def _once(self, job: Job, more: str = "") -> Iterator[Job]:
        if (job.id, more) not in self.planned:
            self.planned.add((job.id, more))
            yield job

    def _trained(self, item: Inputs, backbone: BackboneChoice) -> Iterator[Job]:
        """The runs of a backbone, after the features and the study that they need."""
        study: dict[str, Any] = {}
        if backbone.tuning is not None:
            tune, embeddings = self._study(item, backbone, backbone.tuning)
            for embedding in embeddings:
                yield from self._once(embedding)
            # More trials, or more seconds, are another job on the same study.
            yield from self._once(tune, f"{backbone.tuning.trials} {backbone.tuning.timeout}")
            study = {"study": tune.id, "trials": backbone.tuning.trials, "timeout": backbone.tuning.timeout}
        for split_seed, init_seed in item.pairs(self.choices.seeds):
            if item.choice is not None:
                yield from self._once(item.embed_job(split_seed))
            cell = item.cell(split_seed, init_seed)
            content = {
                **_model(backbone),
                "graph": cell.graph,
                "labels": item.graph.label_fingerprint,
                "features": _features(cell, backbone),
                **study,
                "kind": "train",
                "split": item.split_fingerprint(split_seed),
                "init": init_seed,
            }
            job = TrainJob(
                id=fingerprint.of_json(content),
                content=content,
                cell=cell,
                study_id=study.get("study", ""),
                choice=backbone,
                split=item.protocol,
                backbone=backbone.label,
                **item.shown,
            )
            self.runs[item.dataset, item.name, backbone.label, split_seed, init_seed] = job
            yield job

    def _study(self, item: Inputs, backbone: BackboneChoice, tuning: TuningChoice) -> tuple[TuneJob, list[EmbedJob]]:
        """The study whose winner a backbone has on these inputs, and the features that it needs.

        Several inputs share one where its scope says so.
        """
        among = [item]
        shown, protocol = item.shown, item.protocol
        if tuning.scope != "per-dataset-llm":
            everywhere = tuning.scope == "shared"
            among = [other for other in self.inputs if other.suits(backbone)]
            among = [other for other in among if everywhere or other.dataset == item.dataset]
            largest = max(among, key=lambda other: other.graph.num_nodes)
            features = "all features" + (" of every dataset" if everywhere else "")
            shown = {"dataset": largest.dataset, "features": features, "llm": "", "instruction": ""}
            protocol = largest.protocol
        cells, described, embeddings = [], [], []
        for other in among:
            for seed in tuning.seeds:
                split_seed = seed if other.graph.is_random(other.protocol) else None
                try:
                    cell = other.cell(split_seed, seed)
                except StageBenchError as error:
                    problem = f"tuning {backbone.label}: {error}; name seeds under tuning: {{seeds: [...]}}"
                    raise self.choices.document.error(["tuning"], problem) from None
                cells.append(cell)
                if other.choice is not None:
                    embeddings.append(other.embed_job(split_seed))
                described.append(
                    {
                        "graph": cell.graph,
                        "labels": other.graph.label_fingerprint,
                        "features": _features(cell, backbone),
                        "split": other.split(split_seed).fingerprint,
                        "init": seed,
                    }
                )
        content = {
            **_model(backbone),
            "kind": "tune",
            "cells": described,
            "space": tuning.space,
            "sampler": tuning.sampler,
            "pruner": tuning.pruner,
            "metric": tuning.metric,
        }
        job = TuneJob(
            id=fingerprint.of_json(content),
            content=content,
            cells=tuple(cells),
            choice=backbone,
            split=protocol,
            backbone=backbone.label,
            **shown,
        )
        return job, embeddings

    def _bundled(self, bundle: BundleChoice, items: Sequence[Inputs], dataset: str) -> Iterator[Job]:
        """For every backbone, and for every ensemble of backbones: its models on all sets of the bundle together."""
        sets = [item for item in items if item.name in bundle.members]
        if len(sets) < len(bundle.members):
            there = {item.name for item in sets}
            absent = ", ".join(member for member in bundle.members if member not in there)
            self.absent.append(f"{bundle.label} on {dataset} is left out: without {absent} it is another baseline")
            return
        shown = {**_together(sets), "features": bundle.label}
        for backbone in self.choices.backbones:
            if all(item.suits(backbone) for item in sets):
                entry = EnsembleEntry(
                    name="bundle", members=[backbone.label], combine=bundle.combine, weights=bundle.weights
                )
                yield from self._ensemble(entry, entry.members, sets, items, shown, backbone.label)
        for entry in self.choices.ensembles:
            if entry.inputs == "each":
                yield from self._ensemble(_over(bundle, entry), entry.members, sets, items, shown, entry.name)

    def _across(self, entry: EnsembleEntry, items: Sequence[Inputs], dataset: str) -> Iterator[Job]:
        wanted = [item for item in items if item.choice is not None]
        if entry.inputs != "all":
            wanted = [item for name in entry.inputs for item in items if item.name == name]
            if len(wanted) < len(entry.inputs):
                self.absent.append(f"ensemble {entry.name} on {dataset} is left out: not all of its inputs are there")
                return
        made = False
        if wanted:
            for job in self._ensemble(entry, entry.members, wanted, items, _together(wanted), entry.name):
                made = True
                yield job
        if not made:
            self.absent.append(
                f"ensemble {entry.name} on {dataset} is left out: no two members on inputs that suit all"
            )

    def _ensemble(
        self,
        entry: EnsembleEntry,
        backbones: Sequence[str],
        sets: Sequence[Inputs],
        items: Sequence[Inputs],
        shown: dict[str, str],
        name: str,
    ) -> Iterator[EnsembleJob]:
        """One job for each pair of seeds; none where a backbone does not read these inputs."""
        alone = next((item for item in items if item.choice is None), None)
        for split_seed, init_seed in sets[0].pairs(self.choices.seeds):
            members: list[TrainJob] = []
            weights: list[float] = []
            given = iter(entry.weights or itertools.repeat(1.0))
            for item in sets:
                for backbone in backbones:
                    weight = float(next(given))
                    run = self.runs.get((item.dataset, item.name, backbone, split_seed, init_seed))
                    if run is None and alone is not None and item.choice is not None:
                        # A method that reads no features is a member beside those that do.
                        run = self.runs.get((item.dataset, alone.name, backbone, split_seed, init_seed))
                    if run is None:
                        return
                    if run in members:  # what it says is the same on every input; its weights come together
                        weights[members.index(run)] += weight
                    else:
                        members.append(run)
                        weights.append(weight)
            if len(members) < 2:
                return
            yield _combined(entry.combine, members, tuple(weights) if entry.weights is not None else None, shown, name)


def _over(bundle: BundleChoice, entry: EnsembleEntry) -> EnsembleEntry:
    """An ensemble of backbones over a bundle's sets: the sets' weights, where they have some, times the members'."""
    if (bundle.weights is None and entry.combine != "weighted") or entry.combine in ("fitted", "greedy"):
        return entry
    of_sets = bundle.weights or [1.0] * len(bundle.members)
    of_members = entry.weights or [1.0] * len(entry.members)
    weights = [float(one * other) for one in of_sets for other in of_members]
    return entry.model_copy(update={"combine": "weighted", "weights": weights})


def _combined(
    combine: str, members: Sequence[TrainJob], weights: tuple[float, ...] | None, shown: dict[str, str], name: str
) -> EnsembleJob:
    # By id: what an ensemble says must not depend on the order in which its members are named.
    order = sorted(range(len(members)), key=lambda place: members[place].id)
    content: dict[str, Any] = {
        "kind": "ensemble",
        "members": [members[place].id for place in order],
        "combine": combine,
    }
    if weights is not None:
        weights = tuple(weights[place] for place in order)
        content["weights"] = list(weights)
    return EnsembleJob(
        id=fingerprint.of_json(content),
        content=content,
        members=tuple(content["members"]),
        combine=combine,
        weights=weights,
        split_seed=members[0].split_seed,
        init_seed=members[0].init_seed,
        split=members[0].split,
        backbone=name,
        **shown,
    )


def _model(backbone: BackboneChoice) -> dict[str, Any]:
    return {
        "version": TRAINING_VERSION,
        "backbone": [backbone.name, backbone.version],
        "options": backbone.options,
        "training": backbone.training,
    }


def _features(cell: Cell, backbone: BackboneChoice) -> str:
    """The id of what a model reads: a source's features, or what it says of the classes itself."""
    if registry.get("backbones", backbone.name).reads == "predictions":
        return source.predictions_id(cell.embedding_id)
    return cell.embedding_id


def _together(items: Sequence[Inputs]) -> dict[str, str]:
    """What the leaderboard calls several inputs."""
    shown = [item.shown for item in items]

    def joined(key: str, between: str) -> str:
        return between.join(dict.fromkeys(one[key] for one in shown if one[key]))

    return {
        "dataset": shown[0]["dataset"],
        "features": joined("features", "+"),
        "llm": joined("llm", "+"),
        "instruction": joined("instruction", " / "),
    }
