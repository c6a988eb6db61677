"""What training may see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from dgl import DGLGraph


@dataclass(frozen=True)
class Task:
    """What training may see: test labels are not in it.

    graph and inputs: what `Backbone.prepare` returned, on the training device.
    labels: int64 [num_nodes], -1 everywhere but on the training and validation nodes.
    train, val: int64 node ids.
    """

    graph: DGLGraph
    inputs: Tensor
    labels: Tensor
    train: Tensor
    val: Tensor
    num_classes: int


def task(
    graph: DGLGraph, inputs: Tensor, labels: np.ndarray, train: np.ndarray, val: np.ndarray, num_classes: int
) -> Task:
    """A task from all labels and a split: every label outside training and validation is hidden."""
    hidden = np.full_like(labels, -1)
    hidden[train], hidden[val] = labels[train], labels[val]
    device = inputs.device
    visible, train_nodes, val_nodes = (torch.from_numpy(array).to(device) for array in (hidden, train, val))
    return Task(graph, inputs, visible, train_nodes, val_nodes, num_classes)
