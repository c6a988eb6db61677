"""What the tests of studies share: a space, a choice, an objective that stands for training."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from stage_bench.training import tuning
from stage_bench.training.options import TuningChoice

SPACE: dict[str, Any] = {
    "lr": {"low": 0.001, "high": 0.1, "log": True},
    "hidden": {"low": 8, "high": 64},
    "dropout": {"low": 0.1, "high": 0.8},
    "optimizer": ["adam", "rmsprop"],
}
FIRST = {"lr": 0.01, "hidden": 16, "dropout": 0.5, "optimizer": "adam", "epochs": 200}


def choice(trials: int, **changes: Any) -> TuningChoice:
    standard: dict[str, Any] = {
        **{"trials": trials, "sampler": "tpe", "pruner": "none", "timeout": None, "seeds": (1000,)},
        **{"metric": "val_accuracy", "scope": "per-dataset-llm", "space": SPACE},
    }
    return TuningChoice(**{**standard, **changes})


def quality(values: dict[str, Any]) -> float:
    """A smooth stand-in for validation accuracy, best at lr 0.03 and dropout 0.3."""
    off = abs(np.log10(values["lr"]) + 1.5) + abs(values["dropout"] - 0.3) + abs(values["hidden"] - 40) / 100
    return round(float(1 / (1 + off) - 0.1 * (values["optimizer"] == "rmsprop")), 12)


class Objective:
    """Counts calls; raises what the plan has for a call."""

    def __init__(self, plan: dict[int, BaseException] | None = None) -> None:
        self.plan = plan or {}
        self.tried: list[dict[str, Any]] = []

    def __call__(self, values: dict[str, Any], report: tuning.Report) -> tuning.Scores:
        self.tried.append(values)
        if len(self.tried) - 1 in self.plan:
            raise self.plan[len(self.tried) - 1]
        accuracy = quality(values)
        return tuning.Scores(accuracy, 1 - accuracy)


def noting(tried: list[dict[str, Any]]) -> tuning.Objective:
    """An objective that only writes down what it was given."""

    def objective(values: dict[str, Any], report: tuning.Report) -> tuning.Scores:
        tried.append(values)
        return tuning.Scores(0.5, 0.5)

    return objective


def search(
    folder: Path, objective: tuning.Objective, trials: int, first: dict[str, Any] = FIRST, **changes: Any
) -> tuning.Result:
    return tuning.search(folder, "study", choice(trials, **changes), first, objective)


def history(folder: Path, id_: str = "study") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / f"{id_}.json").read_text())["history"]
    return found


def without_time(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def untimed(result: tuning.Result) -> tuning.Result:
    return dataclasses.replace(result, seconds=0.0)
