"""The jobs of a plan: frozen, and named by what determines their result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stage_bench.backbones.spec import BackboneChoice
from stage_bench.features.source import ZERO_SHOT
from stage_bench.features.spec import FeatureChoice
from stage_bench.llms.spec import LLMChoice
from stage_bench.training.options import TuningChoice


@dataclass(frozen=True, kw_only=True)
class Job:
    """One piece of work. `id` hashes `content`: what determines the result, never order, paths or devices.

    dataset, split, features, llm, instruction and backbone are what the leaderboard shows.
    """

    id: str
    content: dict[str, Any]
    dataset: str
    split: str = ""
    features: str
    llm: str
    instruction: str
    backbone: str = ""

    kind = "job"

    @property
    def title(self) -> str:
        parts = (self.kind, self.dataset, self.inputs, self.instruction, self.backbone)
        return " ".join(part for part in parts if part and part != "none")

    @property
    def inputs(self) -> str:
        """Features and model in short: that an LLM embeds zero-shot goes without saying."""
        features = "" if self.features == ZERO_SHOT and self.llm else self.features
        return f"{features} {self.llm}".strip()


@dataclass(frozen=True, kw_only=True)
class EmbedJob(Job):
    """Turn a dataset's texts into features."""

    choice: LLMChoice | FeatureChoice
    nodes: int
    split_seed: int | None = None
    kind = "embed"

    @property
    def title(self) -> str:
        return super().title if self.split_seed is None else f"{super().title} seed {self.split_seed}"


@dataclass(frozen=True)
class Cell:
    """What one model is trained on: features of a dataset (`embedding_id`; empty: none), a split and two seeds.

    graph: fingerprint of the edges.
    """

    dataset: str
    graph: str
    embedding_id: str
    split: str
    split_seed: int | None
    init_seed: int


@dataclass(frozen=True, kw_only=True)
class TuneJob(Job):
    """An Optuna study; a trial is a run on each of its cells."""

    cells: tuple[Cell, ...]
    choice: BackboneChoice
    kind = "tune"

    @property
    def tuning(self) -> TuningChoice:
        assert self.choice.tuning is not None
        return self.choice.tuning


@dataclass(frozen=True, kw_only=True)
class TrainJob(Job):
    """Train one model on one split with one initialisation."""

    cell: Cell
    study_id: str
    choice: BackboneChoice
    kind = "train"

    @property
    def split_seed(self) -> int | None:
        return self.cell.split_seed

    @property
    def init_seed(self) -> int:
        return self.cell.init_seed

    @property
    def title(self) -> str:
        return f"{super().title} seed {self.init_seed if self.split_seed is None else self.split_seed}"


@dataclass(frozen=True, kw_only=True)
class EnsembleJob(Job):
    """Combine the saved predictions of several runs."""

    members: tuple[str, ...]
    combine: str
    weights: tuple[float, ...] | None = None
    split_seed: int | None
    init_seed: int
    kind = "ensemble"

    @property
    def title(self) -> str:
        return f"{super().title} seed {self.init_seed if self.split_seed is None else self.split_seed}"


RunJob = TrainJob | EnsembleJob
