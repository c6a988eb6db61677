"""Training labels as inputs, and label reuse (Wang et al. 2021, "Bag of Tricks", arXiv 2103.13355, algorithm 1).

In each epoch a random part of the training nodes shows its label in `num_classes` further input columns, and the loss
is taken on the others. At evaluation every training node shows its label. Then, `iterations` times, what the model says
of the nodes that show none is put in, and the model is asked again.

Nothing here takes labels of other nodes than those that show theirs: validation and test labels have no way in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stage_bench.errors import JobError
from stage_bench.training.options import TrainingOptions
from stage_bench.training.passes import Step

if TYPE_CHECKING:
    from stage_bench.training.task import Task


def draw(train: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """A random split of `train` (int64 node ids) into those that show their label and those that are asked for it.

    `share` of them, rounded down, show it, but at least one node is on each side.

    Raises:
        JobError: there are fewer than two training nodes.
    """
    count = len(train)
    if count < 2:
        raise JobError(f"label_inputs needs at least 2 training nodes to divide, and the split has {count}")
    order = train[torch.randperm(count, device=train.device)]
    cut = min(max(int(share * count), 1), count - 1)
    return order[:cut], order[cut:]


def check(unchanged: bool, backbone: str) -> None:
    """That label columns stand beside the features themselves; `unchanged`: `Backbone.prepare` returned its features.

    Raises:
        JobError: it did not: they are hops, or A X, and the labels would have to be diffused too, anew in each epoch.
    """
    if not unchanged:
        raise JobError(
            f"label_inputs: {backbone} diffuses its features before training, which labels that change in each epoch "
            "cannot be part of; use it with one that does not, such as gat or revgat"
        )


def logits(
    model: Callable[[Tensor], Tensor],
    features: Tensor,
    shown: Tensor,
    labels: Tensor,
    num_classes: int,
    iterations: int,
) -> Tensor:
    """What `model` says of every node: [num_nodes, num_classes], by `iterations` + 1 forward passes.

    Gradients flow through the last pass alone.

    model: from inputs [num_nodes, dim + num_classes] to logits [num_nodes, num_classes].
    features: float32 [num_nodes, dim].
    shown: int64 [nodes], the nodes that show their label; labels: int64 [nodes], those labels.
    iterations: how often the model's probabilities are put in for the other nodes; 0: their columns stay zero.
    """
    known = F.one_hot(labels, num_classes).to(features.dtype)
    columns = features.new_zeros(len(features), num_classes).index_copy(0, shown, known)
    for _ in range(iterations):
        with torch.no_grad():
            guessed = model(torch.cat([features, columns], dim=1)).softmax(dim=1)
        columns = guessed.index_copy(0, shown, known)
    return model(torch.cat([features, columns], dim=1))


class LabelPasses:
    """Passes (training/passes.py) over all nodes, with training labels as inputs.

    The model takes `num_classes` columns more than the task's inputs have.
    """

    def __init__(self, task: Task, options: TrainingOptions) -> None:
        self.task = task
        self.share = options.label_input_share
        self.iterations = options.label_iterations

    def train(self, model: nn.Module) -> Iterator[Step]:
        shown, asked = draw(self.task.train, self.share)
        yield Step(self._logits(model, shown), asked=asked)

    def predict(self, model: nn.Module, nodes: Tensor | None = None) -> Tensor:
        said = self._logits(model, self.task.train)
        return said if nodes is None else said[nodes]

    def _logits(self, model: nn.Module, shown: Tensor) -> Tensor:
        task = self.task
        ask = partial(model, task.graph)
        return logits(ask, task.inputs, shown, task.labels[shown], task.num_classes, self.iterations)
