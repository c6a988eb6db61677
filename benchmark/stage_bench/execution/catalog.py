"""The ways to carry out a plan."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ExecutorSpec:
    """run: what carries out a plan's jobs, as `execution.executor` says; or `"module:attribute"`."""

    name: str
    summary: str
    run: Any
    needs: str = ""


SPECS = (
    ExecutorSpec(
        name="local",
        summary="on this machine: jobs on small graphs side by side in processes, the others one by one",
        run="stage_bench.execution.local:LocalExecutor",
    ),
    ExecutorSpec(
        name="ray",
        summary="on a Ray cluster",
        run="stage_bench.execution.ray_cluster:RayExecutor",
        needs="not in this version of stage-bench",
    ),
)
