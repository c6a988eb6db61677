"""What a job reserves on a node of a cluster: what the suite says, else what it can use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stage_bench.errors import StageBenchError
from stage_bench.execution.devices import SMALL
from stage_bench.llms.spec import LLMChoice
from stage_bench.suite.jobs import EmbedJob, Job, TrainJob, TuneJob
from stage_bench.suite.resources import NOTHING_ASKED, Resources


@dataclass(frozen=True)
class Room:
    """What a node has in all. memory: bytes that Ray gives out."""

    cpus: float
    gpus: float
    memory: float


@dataclass(frozen=True)
class Reservation:
    """cpus: cores, of which a job uses no more. gpus: a fraction shares one. memory: bytes."""

    cpus: int
    gpus: float = 0.0
    memory: int | None = None

    def fits(self, room: Room) -> bool:
        return self.cpus <= room.cpus and self.gpus <= room.gpus and (self.memory or 0) <= room.memory

    def beside(self, room: Room) -> int:
        """How many jobs that reserve as much find room on a node at once."""
        found = room.cpus // self.cpus
        if self.gpus:
            found = min(found, room.gpus // self.gpus)
        if self.memory:
            found = min(found, room.memory // self.memory)
        return max(1, int(found))

    def to_ray(self) -> dict[str, Any]:
        """As options of a remote function."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, "memory": self.memory}

    def __str__(self) -> str:
        said = [f"{self.cpus} core{'s' if self.cpus > 1 else ''}"]
        said += [f"{self.gpus:g} GPU{'s' if self.gpus > 1 else ''}"] if self.gpus else []
        said += [f"{self.memory / 1e9:.3g} GB of memory"] if self.memory else []
        return ", ".join(said)


@dataclass(frozen=True)
class Reserving:
    """Decides for the jobs of one run.

    asked: what the suite says, by job. embeds_on_gpu, trains_on_gpu: whether that is done on a GPU where nothing is
    said. rooms: of the nodes that there are.
    """

    asked: Mapping[str, Resources]
    rooms: Sequence[Room]
    embeds_on_gpu: bool
    trains_on_gpu: bool

    def of(self, job: Job, num_nodes: int) -> Reservation:
        """num_nodes: of the job's graph.

        Raises:
            StageBenchError: no node has as much.
        """
        asked = self.asked.get(job.id, NOTHING_ASKED)
        gpus = asked.gpus
        if gpus is None:
            gpus = float(self.embeds_on_gpu if isinstance(job, EmbedJob) else self.trains_on_gpu)
        fitting = [room for room in self.rooms if room.gpus >= gpus and room.memory >= (asked.memory or 0)]
        cpus = asked.cpus
        if cpus is None:
            small = isinstance(job, (TrainJob, TuneJob)) and num_nodes < SMALL
            served = isinstance(job, EmbedJob) and isinstance(job.choice, LLMChoice) and job.choice.endpoint is not None
            whole = max((_share(room, gpus) for room in fitting), default=1)
            cpus = 1 if small or served else whole
        found = Reservation(cpus, float(gpus), asked.memory)
        if not any(found.fits(room) for room in self.rooms):
            raise StageBenchError(
                f"{job.title} is to have {found}, and no node of the cluster has that; change `resources:` in the "
                "suite, or start a larger node"
            )
        return found


def _share(room: Room, gpus: float) -> int:
    """The cores of a node, or of a part of it where its GPUs serve several jobs."""
    parts = max(1, int(room.gpus // gpus)) if gpus else 1
    return max(1, int(room.cpus // parts))
