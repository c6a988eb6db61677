"""What a study in a report.json has to say: whoever made the file, nothing is made of one that does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

_Share = Annotated[float, Field(ge=0, le=1)]
_Seconds = Annotated[float, Field(ge=0, le=1e12)]
_Value = bool | int | float | str | None


class _Trial(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)  # other keys are left alone

    state: Literal["ok", "pruned", "failed"]
    values: dict[str, _Value]
    val_accuracy: _Share | None
    val_loss: float | None
    seconds: _Seconds
    error: str


class _Study(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    dataset: str
    split: str
    features: str
    llm: str
    instruction: str
    backbone: str
    asked: int
    sampler: str
    pruner: str
    seeds: list[int]
    metric: Literal["val_accuracy", "val_loss"]
    timeout: _Seconds | None
    ended: str
    starts_with_recipe: bool
    importances: dict[str, float]
    importances_note: str
    history: list[_Trial] = Field(min_length=1)
    winner: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _has_a_winner(self) -> _Study:
        for number, trial in enumerate(self.history):
            if trial.state == "ok" and None in (trial.val_accuracy, trial.val_loss):
                raise ValueError(f"trial {number} is ok, and lacks what it came to")
        if self.winner >= len(self.history) or self.history[self.winner].state != "ok":
            raise ValueError("the winner is no trial that was carried to its end")
        return self


def problem(studies: Sequence[Mapping[str, Any]]) -> str:
    """The place in the studies, and what is wrong there; empty where nothing is."""
    for number, study in enumerate(studies):
        try:
            _Study.model_validate(dict(study))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, (number, *first["loc"])))
            return f"{place}: {first['msg'].removeprefix('Value error, ')}"
    return ""
