"""What `run` asks of an executor, whatever it does the jobs with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from stage_bench import registry
from stage_bench.diffusion.budget import bytes_of
from stage_bench.errors import StageBenchError
from stage_bench.suite.jobs import Job
from stage_bench.suite.schema import Limits

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
    """

    max_failures: int | None = None
    seconds: float | None = None
    memory: int | None = None
    apart: bool = False


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
