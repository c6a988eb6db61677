"""Multinomial logistic regression: the smallest classifier on the features, a control without a graph."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression as Model
from torch import Tensor

from stage_bench.backbones.base import Direct, Solution
from stage_bench.backbones.options import LogisticRegressionOptions
from stage_bench.backbones.probabilities import LEAST
from stage_bench.dgl_library import dgl
from stage_bench.diffusion import operators
from stage_bench.errors import JobError

if TYPE_CHECKING:
    from stage_bench.training.task import Task

_ROWS = 65_536  # of a prediction at a time


class LogisticRegression(Direct[LogisticRegressionOptions]):
    """The least of  C sum_i -log softmax(W x_i + b)[y_i] + |W|^2 / 2  over the training nodes i, by L-BFGS in float64.

    It has one solution, which no seed changes. With two classes W and b are those of their difference.
    """

    prepare_options = ("standardize",)

    @classmethod
    def prepare(
        cls, graph: dgl.DGLGraph, features: Tensor, options: LogisticRegressionOptions
    ) -> tuple[dgl.DGLGraph, Tensor]:
        return graph, operators.standardize(features) if options.standardize else features

    @classmethod
    def solve(cls, task: Task, options: LogisticRegressionOptions, seed: int) -> Solution:
        """A class without a training node has the probability 1e-12.

        Raises:
            JobError: the training nodes are of one class only, or the iterations do not suffice.
        """

        labels = task.labels[task.train].cpu().numpy()
        if len(np.unique(labels)) < 2:
            raise JobError("logistic-regression needs training nodes of at least two classes")
        model = Model(C=options.C, class_weight=options.class_weight, max_iter=options.max_iter)
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            try:
                model.fit(_rows(task.inputs[task.train]), labels)
            except ConvergenceWarning:
                raise JobError(
                    f"logistic-regression did not converge in {options.max_iter} iterations; raise max_iter, lower C "
                    f"(here: {options.C:g}), or set standardize: true"
                ) from None
        logits = torch.full((len(task.inputs), task.num_classes), float(np.log(LEAST)))
        for start in range(0, len(logits), _ROWS):
            scores = model.decision_function(_rows(task.inputs[start : start + _ROWS]))
            if scores.ndim == 1:
                scores = np.stack([np.zeros_like(scores), scores], axis=1)
            said = torch.from_numpy(scores).log_softmax(dim=1).float()
            logits[start : start + _ROWS, torch.from_numpy(model.classes_)] = said
        return Solution(logits, parameters=model.coef_.size + model.intercept_.size)


def _rows(inputs: Tensor) -> np.ndarray:
    rows: np.ndarray = inputs.cpu().numpy().astype(np.float64)
    return rows
