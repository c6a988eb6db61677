"""Correct & Smooth (Huang et al. 2020, arXiv 2010.13993): two steps of label propagation after a perceptron."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from stage_bench.backbones.mlp import MLP
from stage_bench.backbones.options import CorrectAndSmoothOptions
from stage_bench.backbones.probabilities import log_probabilities
from stage_bench.diffusion.operators import adjacency, personalized_pagerank

if TYPE_CHECKING:
    from stage_bench.training.task import Task

_MOST = 1000.0


class CorrectAndSmooth(MLP):
    """The perceptron is trained as it is; when it is done, its probabilities are corrected, then smoothed.

    Training labels alone take part. The authors' code for OGB also uses validation labels when it scores test nodes;
    here validation nodes select hyperparameters and ensembles, for which they must not have been told.
    """

    def refine(self, logits: Tensor, task: Task) -> Tensor:
        """Logarithms of the smoothed scores, divided by their sum: float32 [num_nodes, num_classes]."""
        options = cast(CorrectAndSmoothOptions, self.options)
        said = logits.float().softmax(dim=1)
        known = F.one_hot(task.labels[task.train], task.num_classes).to(said.dtype)
        corrected = self._corrected(said, known, task, options)
        spread = adjacency(task.graph, "symmetric", self_loops=False)
        start = corrected.index_copy(0, task.train, known)
        smooth = personalized_pagerank(spread, start, 1 - options.smoothing_alpha, options.smoothing_iterations)
        return log_probabilities(smooth)

    def _corrected(self, said: Tensor, known: Tensor, task: Task, options: CorrectAndSmoothOptions) -> Tensor:
        """Z + what the errors Y - Z of the training nodes say of every node's (section 2.2 of the paper).

        autoscale: errors are spread as labels are, and each node's made as large, in sum of absolute values, as the
        training nodes' are on average. A node whose spread error is less than a thousandth of that takes it as it is,
        as in the authors' code: there it is mostly what others' errors leave when they cancel. Otherwise (fixed
        diffusion) every node has the mean of its neighbours' errors, the training nodes keep theirs, and `scale`
        multiplies the result.
        """
        errors = known - said[task.train]
        start = torch.zeros_like(said).index_copy(0, task.train, errors)
        if not options.autoscale:
            mean = adjacency(task.graph, "row", self_loops=False)
            spread = start
            for _ in range(options.correction_iterations):
                spread = mean(spread).index_copy(0, task.train, errors)
            return said + options.scale * spread
        across = adjacency(task.graph, "symmetric", self_loops=False)
        spread = personalized_pagerank(across, start, 1 - options.correction_alpha, options.correction_iterations)
        factor = errors.abs().sum(dim=1).mean() / spread.abs().sum(dim=1, keepdim=True)
        return said + torch.where(factor <= _MOST, factor, 1.0) * spread
