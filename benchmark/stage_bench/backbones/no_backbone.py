"""No backbone: a feature source's own class scores, for what a graph and a network add to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stage_bench.backbones.base import Direct, Solution
from stage_bench.backbones.options import NoneOptions
from stage_bench.errors import JobError

if TYPE_CHECKING:
    from stage_bench.training.task import Task


class NoBackbone(Direct[NoneOptions]):
    """The task's inputs are the source's logits, and the solution's."""

    @classmethod
    def solve(cls, task: Task, options: NoneOptions, seed: int) -> Solution:
        """Raises JobError: the inputs are not one score a class."""
        if task.inputs.shape[1] != task.num_classes:
            raise JobError(
                f"the backbone none takes a source's own class scores: {task.num_classes} columns, one a class, "
                f"not {task.inputs.shape[1]}"
            )
        return Solution(task.inputs.float(), parameters=0)
