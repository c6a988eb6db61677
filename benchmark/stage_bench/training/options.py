"""How a model is trained, and how its hyperparameters are searched for; read by the suite, so nothing heavy here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictInt, WithJsonSchema

from stage_bench.training import spaces


def _check_fanout(fanout: int) -> int:
    if fanout == 0:
        raise ValueError("0 leaves no neighbours; -1 takes all of them")
    return fanout


class TrainingOptions(BaseModel):
    """Training with early stopping on validation accuracy."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    lr: float = Field(0.01, gt=0, description="learning rate")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty of the optimiser")
    optimizer: Literal["adam", "adamw", "rmsprop"] = Field("adam", description="optimiser")
    epochs: StrictInt = Field(200, ge=1, description="most epochs")
    patience: StrictInt = Field(50, ge=1, description="epochs without better validation accuracy before stopping")
    warmup_epochs: StrictInt = Field(0, ge=0, description="epochs over which the learning rate rises linearly")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="label smoothing of the cross-entropy")
    batching: Literal["full", "neighbor"] = Field(
        "full", description="neighbor: batches of training nodes, with sampled neighbours where a backbone has hops"
    )
    batch_size: StrictInt = Field(1024, ge=3, description="training nodes in a batch; batching")
    fanout: Annotated[StrictInt, AfterValidator(_check_fanout)] = Field(
        10, ge=-1, description="neighbours sampled for each node and hop, -1: all; batching"
    )
    kernels: Literal["fused", "torch"] = Field(
        "fused", description="fused: faster on a CPU, with random masks of their own; torch: torch's and DGL's"
    )
    products: Literal["float32", "bfloat16"] = Field(
        "float32", description="of dense layers; bfloat16 is faster where the processor has it, and less exact"
    )
    loss: Literal["cross-entropy", "log-epsilon"] = Field(
        "cross-entropy", description="log-epsilon: log(eps + cross-entropy) - log eps of each node, eps = 1 - ln 2"
    )
    label_inputs: StrictBool = Field(
        False, description="show the model training labels as inputs; for backbones that take the features as they are"
    )
    label_input_share: float = Field(
        0.5, gt=0, lt=1, description="share of training labels shown in an epoch, the others are asked; label_inputs"
    )
    label_iterations: StrictInt = Field(
        0, ge=0, description="label reuse: how often predictions are put in for labels not shown; label_inputs"
    )
    distillation: float = Field(
        0.0, ge=0, le=1, description="weight of learning from a first model's output (self-distillation); 0: none"
    )
    distillation_temperature: float = Field(1.0, gt=0, description="temperature of both outputs in distillation")


# An option that is read only where another one has a value of its own.
_READ_WITH = {
    "batch_size": ("batching", "neighbor"),
    "fanout": ("batching", "neighbor"),
    "label_input_share": ("label_inputs", True),
    "label_iterations": ("label_inputs", True),
    "distillation_temperature": ("distillation", None),
}


def unread(option: str, training: dict[str, Any]) -> str | None:
    """What an option of `training` (complete) waits for to be read; None where it is read."""
    switch, value = _READ_WITH.get(option, (None, None))
    if switch is None or (training[switch] == value if value is not None else training[switch] > 0):
        return None
    return f"{switch}: {str(value).lower()}" if value is not None else f"{switch} above 0"


def switch_of(option: str) -> str | None:
    """The option that another one waits for to be read; None where it waits for none."""
    return _READ_WITH.get(option, (None, None))[0]


def _check_space(space: Any) -> Any:
    if space is None or isinstance(space, str):
        return space
    if not isinstance(space, dict):
        raise ValueError("a space is {option: what it may be}, or the name of a recipe")
    return spaces.check(space)


Space = Annotated[
    Any, AfterValidator(_check_space), WithJsonSchema({"anyOf": [{"type": kind} for kind in ("object", "string")]})
]


def _check_distinct(seeds: list[int]) -> list[int]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("a seed stands here twice")
    return seeds


class TuningOptions(BaseModel):
    """An Optuna study of a backbone's hyperparameters; it sees training and validation labels only."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    trials: StrictInt = Field(ge=1, description="trials in total: a study that has them is not continued")
    sampler: Literal["tpe", "random", "grid", "gp"] = Field("tpe", description="what proposes values")
    pruner: Literal["none", "median", "hyperband"] = Field("none", description="what gives trials up early")
    timeout: Annotated[float, Field(gt=0, strict=True)] | None = Field(
        None, description="seconds of all trials together after which no other one begins"
    )
    seeds: Annotated[list[Annotated[StrictInt, Field(ge=0, lt=2**32)]], AfterValidator(_check_distinct)] = Field(
        default=[1000], min_length=1, description="seeds of a trial's runs; by default none of the reported ones"
    )
    metric: Literal["val_accuracy", "val_loss"] = Field("val_accuracy", description="what the winner is best in")
    scope: Literal["per-dataset", "per-dataset-llm", "shared"] = Field(
        "per-dataset-llm", description="what has a study of its own: each dataset, each of its features, or nothing"
    )
    space: Space = Field(
        None, description="option to a list, {choices, when} or {low, high, log, step, when}; or a recipe's name"
    )


FIRST_LOOK = 30
"""Epochs that every trial is given before a pruner looks at it."""


@dataclass(frozen=True)
class TuningChoice:
    """A study as a suite wants it, every option settled; the fields are those of TuningOptions.

    `space` is complete: option to a list of choices or to a range, with what it depends on.
    """

    trials: int
    sampler: str
    pruner: str
    timeout: float | None
    seeds: tuple[int, ...]
    metric: str
    scope: str
    space: dict[str, Any]
