"""Label propagation: what the edges and the training labels say without any features, a control without text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from stage_bench.backbones.base import Direct, Solution
from stage_bench.backbones.options import LabelPropagationOptions
from stage_bench.backbones.probabilities import log_probabilities
from stage_bench.diffusion.operators import adjacency, personalized_pagerank

if TYPE_CHECKING:
    from stage_bench.training.task import Task


class LabelPropagation(Direct[LabelPropagationOptions]):
    """Y <- alpha S Y + (1 - alpha) Y_0, from Y = Y_0 (Zhou et al. 2004, "Learning with Local and Global Consistency").

    Y_0 holds the training labels one-hot, and zeros for all other nodes; S is the normalised adjacency without self
    loops. With S = D^-1 A it is a random walk that starts anew with probability 1 - alpha; Zhu and Ghahramani (2002)
    hold the training labels fixed instead.
    """

    @classmethod
    def solve(cls, task: Task, options: LabelPropagationOptions, seed: int) -> Solution:
        """A node's scores divided by their sum; one that no label reaches has the training nodes' shares of classes."""
        known = F.one_hot(task.labels[task.train], task.num_classes).float()
        start = known.new_zeros(len(task.labels), task.num_classes).index_copy(0, task.train, known)
        spread = adjacency(task.graph, options.normalization, self_loops=False)
        scores = personalized_pagerank(spread, start, 1 - options.alpha, options.iterations)
        reached = scores.sum(dim=1, keepdim=True) > 0
        return Solution(log_probabilities(torch.where(reached, scores, known.mean(dim=0))), parameters=0)
