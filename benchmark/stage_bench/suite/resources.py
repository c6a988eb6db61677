"""What a suite reserves for its jobs on a cluster: under `resources:`, for all of them or on an entry."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from stage_bench.diffusion.budget import bytes_of
from stage_bench.llms.spec import LLMChoice
from stage_bench.suite.choices import Choices
from stage_bench.suite.jobs import EmbedJob, Job, TrainJob, TuneJob
from stage_bench.suite.schema import ResourcesEntry


@dataclass(frozen=True)
class Resources:
    """None: not said. memory: bytes."""

    cpus: int | None = None
    gpus: float | None = None
    memory: int | None = None


NOTHING_ASKED = Resources()


def of_jobs(choices: Choices, jobs: Iterable[Job]) -> dict[str, Resources]:
    """By id, of every job for which something is said: what its entry says, and the suite where that is silent."""
    suite = choices.suite
    backbones = {
        choice.label: entry.resources for choice, entry in zip(choices.backbones, suite.backbones, strict=True)
    }
    llms = list(zip(choices.llms, suite.llms, strict=True))
    features = [
        (choice, suite.features[place]) for choice, place in zip(choices.features, choices.feature_places, strict=True)
    ]
    found = {}
    for job in jobs:
        own = None
        if isinstance(job, (TrainJob, TuneJob)):
            own = backbones.get(job.choice.label)
        elif isinstance(job, EmbedJob):
            entries = llms if isinstance(job.choice, LLMChoice) else features
            own = next((entry.resources for choice, entry in entries if choice == job.choice), None)
        resources = _together(own, suite.resources)
        if resources != NOTHING_ASKED:
            found[job.id] = resources
    return found


def _together(own: ResourcesEntry | None, common: ResourcesEntry | None) -> Resources:
    said: dict[str, Any] = {}
    for entry in (common, own):
        if entry is not None:
            said |= {key: value for key, value in entry.model_dump().items() if value is not None}
    if "memory" in said:
        said["memory"] = bytes_of(said["memory"])
    return Resources(**said)
