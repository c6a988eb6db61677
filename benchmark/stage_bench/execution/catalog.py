"""The ways to carry out a plan."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ExecutorSpec:
    name: str
    summary: str
    needs: str = ""


SPECS = (
    ExecutorSpec(name="local", summary="in this process, one job after another"),
    ExecutorSpec(name="ray", summary="on a Ray cluster", needs="not in this version of stage-bench"),
)
