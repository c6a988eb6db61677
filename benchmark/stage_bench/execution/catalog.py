"""The ways to carry out a plan."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ExecutorSpec:
    """run: what carries out a plan's jobs, as `execution.executor` says; or `"module:attribute"`.

    elsewhere: whether jobs are done on other machines, of whose devices this one says nothing.
    """

    name: str
    summary: str
    run: Any
    needs: str = ""
    elsewhere: bool = False


SPECS = (
    ExecutorSpec(
        name="local",
        summary="on this machine: jobs on small graphs side by side in processes, the others one by one",
        run="stage_bench.execution.local:LocalExecutor",
    ),
    ExecutorSpec(
        name="ray",
        summary="on the machines of a Ray cluster: every job a task, results fetched into one folder",
        run="stage_bench.execution.ray_cluster:RayExecutor",
        needs="" if find_spec("ray") else 'Ray is not installed: pip install "stage-bench[ray]"',
        elsewhere=True,
    ),
)
