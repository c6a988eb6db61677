"""The training itself: transformers' Trainer, quiet, seeded, and resumed to the same result."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from stage_bench.errors import JobError
from stage_bench.finetuning import checkpoints
from stage_bench.finetuning.batches import Batches
from stage_bench.finetuning.classifier import Classifier
from stage_bench.finetuning.options import FinetuningOptions
from stage_bench.llms.token_model import Tokens

SAVE_SECONDS = 600.0  # between checkpoints within an epoch; there is one at the end of each anyway
_WEIGHTS = "model.safetensors"
# What torchrun, MPI and accelerate's launcher tell the processes they start, and those that are started from there.
_TOLD = re.compile(r"(ACCELERATE|FSDP|PARALLELISM|TORCHELASTIC|MPI|OMPI|PMI|MV2)_.*|(LOCAL_)?(RANK|WORLD_SIZE)")


@dataclass(frozen=True)
class Labelled:
    """Tokenised texts with their classes: int64 [len(items)]."""

    items: Sequence[Tokens]
    labels: np.ndarray


def train(
    classifier: Classifier,
    texts: Labelled,
    validation: Labelled,
    options: FinetuningOptions,
    seed: int,
    folder: Path,
    step: Callable[[int, int, str], None],
    say: Callable[[str], None],
) -> float:
    """Train, and leave the classifier with the weights of the epoch that is best on the validation texts.

    Goes on from the last whole checkpoint in `folder`. Returns the seconds that training took, those before an
    interruption included.

    Raises:
        JobError: the loss is not finite.
    """
    begin = time.perf_counter()
    order = Batches(classifier.encoder.lengths(texts.items), options.batch_size, options.accumulate, seed)
    checkpoint = checkpoints.last(folder, say)
    before = 0.0 if checkpoint is None else checkpoints.seconds(checkpoint)
    keeper = _Keeper(order, folder, step, begin - before)
    on_cpu = classifier.encoder.device == "cpu"
    with _by_itself():
        arguments = _arguments(options, order, seed, folder, on_cpu)
        trainer = _Trainer(classifier, texts, validation, options, order, arguments, keeper)
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return before + time.perf_counter() - begin


@contextmanager
def _by_itself() -> Iterator[None]:
    """Precision and the number of processes are what the suite says: Trainer would take them from the environment."""
    told = {name: os.environ.pop(name) for name in list(os.environ) if _TOLD.fullmatch(name)}
    try:
        yield
    finally:
        os.environ.update(told)


def _arguments(options: FinetuningOptions, order: Batches, seed: int, folder: Path, on_cpu: bool) -> TrainingArguments:
    """What Trainer is told. Precision, smoothing and batches are not its business but ours."""
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch_size,
        gradient_accumulation_steps=options.accumulate,
        learning_rate=options.lr,
        weight_decay=options.weight_decay,
        lr_scheduler_type="linear",
        warmup_steps=math.ceil(options.warmup * order.steps),
        max_grad_norm=1.0,
        optim="adamw_torch",
        seed=seed,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,  # and the best
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        greater_is_better=True,
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        use_cpu=on_cpu,
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # else it would train on all of them, with batches as many times as large
    return arguments


class _Trainer(Trainer):
    """Trainer with our batches, evaluation and weights in its checkpoints: only those that are trained."""

    control: Any

    def __init__(
        self,
        classifier: Classifier,
        texts: Labelled,
        validation: Labelled,
        options: FinetuningOptions,
        order: Batches,
        arguments: TrainingArguments,
        keeper: _Keeper,
    ) -> None:
        self.classifier = classifier
        self.validation = validation
        self.options = options
        self.order = order
        self.keeper = keeper
        super().__init__(
            model=classifier,
            args=arguments,
            train_dataset=list(zip(texts.items, texts.labels.tolist(), strict=True)),
            eval_dataset=list(validation.items),
            compute_loss_func=self._loss,
            callbacks=[keeper],
        )
        self.remove_callback(PrinterCallback)

    def get_train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train_dataset, batch_sampler=self.order, collate_fn=self._collate)

    def _collate(self, rows: Sequence[tuple[Tokens, int]]) -> dict[str, Any]:
        labels = torch.tensor([label for _, label in rows], device=self.classifier.encoder.device)
        return {**self.classifier.batch([items for items, _ in rows]), "labels": labels}

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """The mean over the texts of a step, as its batches add up to it."""
        total = torch.nn.functional.cross_entropy(
            logits, labels, label_smoothing=self.options.label_smoothing, reduction="sum"
        )
        return total / num_items_in_batch

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        self.keeper.add(loss.item(), self.state.global_step, self.options.lr)
        return loss

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        _, scores = self.classifier.predict(self.validation.items)
        metrics = {"eval_accuracy": float((scores.argmax(axis=1) == self.validation.labels).mean())}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: weight.detach().contiguous() for name, weight in self.classifier.trainable().items()}
        save_file(weights, folder / _WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        stored = load_file(Path(resume_from_checkpoint) / _WEIGHTS)
        weights = self.classifier.trainable()
        assert stored.keys() == weights.keys()
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(stored[name])

    def _load_best_model(self) -> None:
        self._load_from_checkpoint(self.state.best_model_checkpoint)


class _Keeper(TrainerCallback):
    """Tells how far training is, sees to the order of batches, and to checkpoints that are whole."""

    def __init__(self, order: Batches, folder: Path, step: Callable[[int, int, str], None], begin: float) -> None:
        """begin: when training would have begun if it had not been interrupted."""
        self.order = order
        self.folder = folder
        self.step = step
        self.begin = begin
        self.saved = time.perf_counter()
        self.loss = 0.0

    def add(self, loss: float, step: int, lr: float) -> None:
        """The part of a step's loss that a batch gives; step: steps that are done."""
        if not math.isfinite(loss):
            epoch, number = divmod(step, self.order.steps)
            raise JobError(
                f"the loss is {loss} at step {number + 1} of epoch {epoch + 1}; try a lower lr (here {lr:g})"
            )
        self.loss += loss

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.best_global_step:  # where that checkpoint lies now: results may have been moved in between
            state.best_model_checkpoint = str(checkpoints.folder_of(self.folder, state.best_global_step))

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.order.epoch = state.global_step // self.order.steps

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.step(state.global_step, state.max_steps, f"fine-tuning steps, loss {self.loss:.3f}")
        self.loss = 0.0
        # After the last step of an epoch there is one anyway, which knows the validation accuracy.
        within = state.global_step % self.order.steps != 0
        control.should_save = within and time.perf_counter() - self.saved >= SAVE_SECONDS

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        checkpoints.seal(checkpoints.folder_of(self.folder, state.global_step), time.perf_counter() - self.begin)
        self.saved = time.perf_counter()
