"""Training of one model on one split, or the solution of a method that needs no epochs."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stage_bench.errors import JobError
from stage_bench.kernels import choice as kernels
from stage_bench.kernels.compiling import compile_all
from stage_bench.runs.clock import Clock
from stage_bench.training.losses import LOSSES, distillation
from stage_bench.training.options import TrainingOptions
from stage_bench.training.passes import Passes, Step, choose
from stage_bench.training.task import Task, task

if TYPE_CHECKING:
    from stage_bench.backbones.base import Direct

__all__ = ["Fit", "Task", "fit", "solve", "task", "warm_up"]

# epoch, epochs at most, validation accuracy so far; raise to stop.
EpochCallback = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Fit:
    """The model at its best validation epoch, as what it says of every node.

    logits: float32 [num_nodes, num_classes]. best_epoch counts from 1; a method without epochs has best_epoch 0,
    epochs 0 and no curve. val_accuracy, and val_loss, the mean cross-entropy in nats, are those of the logits on the
    validation nodes.
    """

    logits: np.ndarray
    val_accuracy: float
    best_epoch: int
    epochs: int
    curve: list[float]
    parameters: int
    val_loss: float


def fit(
    build: Callable[[], nn.Module],
    task: Task,
    options: TrainingOptions,
    seed: int,
    clock: Clock,
    on_epoch: EpochCallback | None = None,
) -> Fit:
    """Train with early stopping on validation accuracy and keep the best epoch's state.

    What the model refines (`Backbone.refine`) is refined once, at the end: the curve and the early stopping are those
    of the model itself.

    With `distillation` a first model is trained, of the same seed, and the one that is kept also learns from what that
    says of every node (self-distillation); the time of both counts.

    The seed governs initialisation, dropout and every other random number of the model (the initialisation axis).

    Raises:
        JobError: the loss or the output is not finite; the message names the epoch.
    """
    teacher = None
    if options.distillation:
        first = fit(build, task, options.model_copy(update={"distillation": 0.0}), seed, clock, on_epoch)
        teacher = torch.from_numpy(first.logits).to(task.inputs.device)
    _seed(seed)
    with kernels.using(kernels.Choice(options.kernels == "fused", options.products == "bfloat16")):
        with clock.phase("train"):
            model = build().to(task.inputs.device)
            passes = choose(task, options, model)
            optimizer = _optimizer(model, options)
            curve: list[float] = []
            best, best_epoch, best_state = -1.0, 0, None
            for epoch in range(1, options.epochs + 1):
                for group in optimizer.param_groups:
                    group["lr"] = options.lr * min(1.0, epoch / options.warmup_epochs if options.warmup_epochs else 1.0)
                model.train()
                for step in passes.train(model):
                    loss = _loss(step, task, options, teacher)
                    value = float(loss.detach())
                    if not math.isfinite(value):
                        raise JobError(f"the loss is {value} at epoch {epoch}; try a lower lr (here: {options.lr:g})")
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()
                    optimizer.step()
                accuracy = _accuracy(_predict(model, passes, task.val), task.labels[task.val])
                curve.append(round(accuracy, 6))
                if accuracy > best:
                    best, best_epoch, best_state = accuracy, epoch, copy.deepcopy(model.state_dict())
                if on_epoch is not None:
                    on_epoch(epoch, options.epochs, best)
                if epoch - best_epoch >= options.patience:
                    break
            assert best_state is not None
            model.load_state_dict(best_state)
        with clock.phase("infer"):
            logits = _predict(model, passes)
            if not bool(torch.isfinite(logits).all()):
                raise JobError(f"the model's output at its best epoch {best_epoch} is not finite; try a lower lr")
            refined = _refine(model, logits, task)
            array = refined.float().cpu().numpy()
    if refined is not logits:
        best = _accuracy(refined[task.val], task.labels[task.val])
    parameters = sum(weight.numel() for weight in model.parameters())
    return Fit(array, best, best_epoch, len(curve), curve, parameters, _val_loss(refined, task))


def solve(method: type[Direct[Any]], task: Task, options: Any, seed: int, clock: Clock) -> Fit:
    """A method without epochs (`backbones.base.Direct`), which is shown no validation label.

    Raises:
        JobError: what it says is not one finite row of scores a node.
    """
    _seed(seed)
    with clock.phase("train"):
        solution = method.solve(_without_validation(task), options, seed)
    with clock.phase("infer"):
        logits = solution.logits.detach().float().to(task.labels.device)
        shape = (len(task.labels), task.num_classes)
        if tuple(logits.shape) != shape or not bool(torch.isfinite(logits).all()):
            raise JobError(
                f"{method.__name__}: its scores of shape {list(logits.shape)} are not finite numbers of shape "
                f"{list(shape)}"
            )
        array = logits.cpu().numpy()
    accuracy = _accuracy(logits[task.val], task.labels[task.val])
    return Fit(array, accuracy, 0, 0, [], solution.parameters, _val_loss(logits, task))


@lru_cache(1)
def warm_up() -> None:
    """What is done once a process, so that it is on no run's clock: our kernels, the imports behind an optimiser."""
    compile_all()
    model = nn.Linear(2, 2)
    optimizer = _optimizer(model, TrainingOptions())
    F.cross_entropy(model(torch.zeros(2, 2)), torch.zeros(2, dtype=torch.int64)).backward()
    optimizer.step()


def _loss(step: Step, task: Task, options: TrainingOptions, teacher: Tensor | None) -> Tensor:
    """On the labels that are asked for, and on all of the step's nodes what the teacher says of them."""
    asked = step.logits if step.asked is None else step.logits.index_select(0, step.asked)
    nodes = step.nodes if step.asked is None else step.asked if step.nodes is None else step.nodes[step.asked]
    loss = LOSSES[options.loss](asked, task.labels[nodes], options.label_smoothing)
    if teacher is None:
        return loss
    taught = teacher if step.nodes is None else teacher[step.nodes]
    alpha, temperature = options.distillation, options.distillation_temperature
    return (1 - alpha) * loss + alpha * distillation(step.logits, taught, temperature)


@torch.no_grad()
def _predict(model: nn.Module, passes: Passes, nodes: Tensor | None = None) -> Tensor:
    """Logits in evaluation mode."""
    model.eval()
    return passes.predict(model, nodes)


@torch.no_grad()
def _refine(model: nn.Module, logits: Tensor, task: Task) -> Tensor:
    """What the model makes of its logits [num_nodes, num_classes] at the end; the same tensor where that is nothing."""
    refine: Callable[[Tensor, Task], Tensor] | None = getattr(model, "refine", None)  # a module may be no Backbone
    if refine is None:
        return logits
    refined = refine(logits, _without_validation(task))
    if not bool(torch.isfinite(refined).all()):
        raise JobError("what the model makes of its output at the end (refine) is not finite")
    return refined


def _without_validation(task: Task) -> Task:
    """The same task with training labels alone: hyperparameters and ensembles are selected on the others.

    Whoever learnt from them would be selected for knowing them.
    """
    known = torch.full_like(task.labels, -1)
    known[task.train] = task.labels[task.train]
    return replace(task, labels=known)


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)  # ours draw from torch alone; a plug-in's model may not
    random.seed(seed)


def _val_loss(logits: Tensor, task: Task) -> float:
    return float(F.cross_entropy(logits[task.val].float(), task.labels[task.val]))


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return float((logits.argmax(dim=1) == labels).float().mean())


def _optimizer(model: nn.Module, options: TrainingOptions) -> torch.optim.Optimizer:
    optimizers: dict[str, Any] = {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "rmsprop": torch.optim.RMSprop,
    }
    made: torch.optim.Optimizer = optimizers[options.optimizer](
        model.parameters(), lr=options.lr, weight_decay=options.weight_decay
    )
    return made
