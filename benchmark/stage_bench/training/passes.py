"""How a model goes over the nodes: all at once, in batches of rows, or in batches with sampled neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from stage_bench.errors import JobError
from stage_bench.out_of_memory import in_parts
from stage_bench.training.options import TrainingOptions

if TYPE_CHECKING:
    from stage_bench.training.task import Task

_ROWS_AT_ONCE = 65_536  # of a prediction by rows: as many as need no thought about memory


class Step(NamedTuple):
    """One forward pass in training.

    logits: [len(nodes), num_classes] with gradients. nodes: whose they are; None: all nodes, in order.
    asked: positions among them of the training nodes whose labels are to be told; None: all of them.
    """

    logits: Tensor
    nodes: Tensor | None = None
    asked: Tensor | None = None


class Passes(Protocol):
    """Logits of the nodes that count."""

    def train(self, model: nn.Module) -> Iterator[Step]:
        """One epoch."""

    def predict(self, model: nn.Module, nodes: Tensor | None = None) -> Tensor:
        """Logits [len(nodes), num_classes] in the order of `nodes`; None: of all nodes."""


def choose(task: Task, options: TrainingOptions, model: nn.Module) -> Passes:
    """As the options' `batching` says.

    Raises:
        JobError: the model cannot be trained in such batches.
    """
    rowwise = getattr(model, "rowwise", False)
    if options.label_inputs:
        from stage_bench.training.label_inputs import LabelPasses

        if rowwise or options.batching != "full":
            raise JobError("label_inputs goes with a backbone of message passing and batching: full")
        return LabelPasses(task, options)
    if rowwise:
        return RowPasses(task, options.batch_size if options.batching == "neighbor" else None)
    if options.batching == "full":
        return FullPasses(task)
    from stage_bench.training.neighbors import NeighborPasses

    if not hasattr(model, "forward_blocks"):
        raise JobError("batching: neighbor needs a backbone with forward_blocks, or one by rows; leave it out")
    return NeighborPasses(task, options)


class FullPasses:
    """All nodes in every step; only the labelled ones' logits count."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def train(self, model: nn.Module) -> Iterator[Step]:
        yield Step(model(self.task.graph, self.task.inputs), asked=self.task.train)

    def predict(self, model: nn.Module, nodes: Tensor | None = None) -> Tensor:
        logits: Tensor = model(self.task.graph, self.task.inputs)
        return logits if nodes is None else logits[nodes]


class RowPasses:
    """For models that see one row at a time: only the rows that count are looked at.

    batch_size: training rows in a step; None: all of them. The inputs may be mapped from a file.
    """

    def __init__(self, task: Task, batch_size: int | None) -> None:
        self.task = task
        self.batch_size = batch_size
        # what is read in every epoch is gathered once, where it is to be held at once in any case
        self._kept = {} if batch_size else {id(nodes): self._gather(nodes) for nodes in (task.train, task.val)}

    def train(self, model: nn.Module) -> Iterator[Step]:
        for nodes in [self.task.train] if self.batch_size is None else shuffled(self.task.train, self.batch_size):
            yield Step(model(self.task.graph, self._rows(nodes)), nodes)

    def predict(self, model: nn.Module, nodes: Tensor | None = None) -> Tensor:
        if nodes is not None and id(nodes) in self._kept:
            rows = self._kept[id(nodes)]
            return joined(in_parts(lambda start, stop: model(self.task.graph, rows[start:stop]), len(rows), "nodes"))
        nodes = torch.arange(len(self.task.inputs), device=self.task.inputs.device) if nodes is None else nodes

        def ask(part: Tensor) -> list[Tensor]:
            return in_parts(
                lambda start, stop: model(self.task.graph, self._rows(part[start:stop])), len(part), "nodes"
            )

        return joined([logits for part in nodes.split(_ROWS_AT_ONCE) for logits in ask(part)])

    def _rows(self, nodes: Tensor) -> Tensor:
        kept = self._kept.get(id(nodes))
        return self._gather(nodes) if kept is None else kept

    def _gather(self, nodes: Tensor) -> Tensor:
        return self.task.inputs[nodes].float()


def joined(parts: list[Tensor]) -> Tensor:
    """One below the other."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def shuffled(nodes: Tensor, batch_size: int) -> tuple[Tensor, ...]:
    """The nodes in random order, in batches of nearly equal size, none above `batch_size`.

    Equal, because a rest of one node would have no variance to normalise by.
    """
    order = nodes[torch.randperm(len(nodes), device=nodes.device)]
    return order.tensor_split(-(-len(nodes) // batch_size))
