"""What of a results folder a job reads, and what it leaves: by kind and id, as `runs.holdings` has them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from stage_bench import fingerprint, registry
from stage_bench.datasets.textgraph import TextGraph
from stage_bench.execution import parcels
from stage_bench.features import source
from stage_bench.features.spec import FeatureChoice
from stage_bench.llms import encoding
from stage_bench.llms.spec import LLMChoice
from stage_bench.runs import holdings
from stage_bench.suite.jobs import EmbedJob, Job, TrainJob, TuneJob

Piece = tuple[str, str]


def needed(job: Job) -> list[Piece]:
    """Without which a job cannot be done."""
    if isinstance(job, TrainJob):
        features = _features(job, [job.cell.embedding_id])
        return [*features, ("studies", job.study_id)] if job.study_id else features
    return _features(job, [cell.embedding_id for cell in job.cells]) if isinstance(job, TuneJob) else []


def useful(job: Job, graph: TextGraph) -> list[Piece]:
    """What saves work where it is there: trials of its study, the whole embedding of a reduced one, answers."""
    if isinstance(job, TuneJob):
        return [("studies", job.id)]
    if isinstance(job, EmbedJob) and isinstance(job.choice, LLMChoice):
        whole = whole_embedding(job, graph)
        return [] if whole == job.id else [("embeddings", whole)]
    return [("answers", folder)] if (folder := answers_folder(job)) else []


def whole_embedding(job: Job, graph: TextGraph) -> str:
    """Of the texts, before dimensions are taken away, of an embedding of an LLM; else empty."""
    if not isinstance(job, EmbedJob) or not isinstance(job.choice, LLMChoice):
        return ""
    return fingerprint.of_json(encoding.identity(graph, dataclasses.replace(job.choice, reduction=None)))


def answers_folder(job: Job) -> str:
    """The name, below `answers/`, of the folder of a chat model's answers that features are made of; else empty."""
    if isinstance(job, EmbedJob) and isinstance(job.choice, FeatureChoice) and job.choice.answers is not None:
        return fingerprint.of_json(job.content["answers"]["asked"])
    return ""


def left(job: Job, results: Path, before: Iterable[str]) -> list[Piece]:
    """What a job that was done in `results` has made; `before`: the embeddings that were there."""
    if isinstance(job, TuneJob):
        return [("studies", job.id)]
    if not isinstance(job, EmbedJob):
        return [("runs", job.id)]
    known = {*before} - {job.id, source.predictions_id(job.id)}
    return [("embeddings", id_) for id_ in embeddings(results) if id_ not in known]


def embeddings(results: Path) -> list[str]:
    """The finished ones."""
    kind = next(kind for kind in holdings.KINDS if kind.name == "embeddings")
    return [id_ for id_ in kind.ids(results) if parcels.is_done(results, "embeddings", id_)]


def _features(job: TrainJob | TuneJob, ids: Iterable[str]) -> list[Piece]:
    found = list(dict.fromkeys(id_ for id_ in ids if id_))
    if registry.get("backbones", job.choice.name).reads == "predictions":
        found += [source.predictions_id(id_) for id_ in found]
    return [("embeddings", id_) for id_ in found]
