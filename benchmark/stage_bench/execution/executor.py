"""What `run` asks of an executor, whatever it does the jobs with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from stage_bench import registry
from stage_bench.diffusion.budget import bytes_of
from stage_bench.errors import StageBenchError
from stage_bench.suite.jobs import Job
from stage_bench.suite.resources import Resources
from stage_bench.suite.schema import Limits
from stage_bench.training.storages import Storage

if TYPE_CHECKING:
    from stage_bench.execution.devices import Devices
    from stage_bench.execution.local import Setting
    from stage_bench.execution.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Options:
    """What holds for every job of a call.

    max_failures: after how many failed jobs no other is started; None: however many fail.
    seconds, memory: what one job may take; None: as much as it does. memory is in bytes (limits.py).
    apart: every job is done in another process than this one, so that what kills it ends nothing else.
    storage: where trials are shared (training/storages.py); None: in the results folder.

    Of a cluster (docs/machines.md):
    address: of it; None: $RAY_ADDRESS, else one of this machine's own is started.
    retries: how often a job is done again whose process or node was lost.
    shared_results: whether nodes work in the results folder itself; None: those that see it, and whose locks hold.
    at_once: jobs that run at once; None: as many as find room.
    resources: what jobs reserve, by id.
    """

    max_failures: int | None = None
    seconds: float | None = None
    memory: int | None = None
    apart: bool = False
    storage: Storage | None = None
    address: str | None = None
    retries: int = 3
    shared_results: bool | None = None
    at_once: int | None = None
    resources: Mapping[str, Resources] = field(default_factory=dict)


class Executor(Protocol):
    """Does jobs in the plan's order, as far as what they need is there; called with what they need in common.

    failed: one line for each job that failed. not_started: the jobs that were left because too many had failed.
    """

    failed: list[str]
    not_started: list[Job]

    def __init__(self, setting: Setting, devices: Devices, progress: Progress, options: Options) -> None: ...

    def run(self, jobs: Sequence[Job]) -> None:
        """Returns when every job has ended or was left; an interruption passes through, with nothing left running."""


NO_OPTIONS = Options()


def check(name: str) -> Any:
    """The spec of an executor that can be used; nothing heavy is imported to find out.

    Raises:
        StageBenchError: there is none of that name, or it cannot be used here; the message says what is missing.
    """
    spec = registry.get("executors", name)
    if spec.needs:
        raise StageBenchError(f"--executor {name}: {spec.needs}")
    return spec


def within(options: Options, limits: Limits | None) -> Options:
    """The options, with a suite's limits where they set none."""
    if limits is None:
        return options
    seconds = limits.seconds if options.seconds is None else options.seconds
    memory = bytes_of(limits.memory) if options.memory is None and limits.memory is not None else options.memory
    return replace(options, seconds=seconds, memory=memory)


def find(name: str) -> type[Executor]:
    """The executor of that name; raises what `check` does."""
    made: type[Executor] = registry.resolve(check(name).run)
    return made
