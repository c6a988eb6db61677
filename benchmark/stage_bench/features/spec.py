"""What the registry knows of a feature source other than zero-shot LLM embeddings, and what passes to and from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from stage_bench.answers.choice import AnswersChoice
    from stage_bench.datasets.textgraph import TextGraph
    from stage_bench.llms.spec import LLMChoice


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """One feature source.

    `builder` is `build(graph: TextGraph, options) -> float32 [num_nodes, dim]`, for features that are computed from a
    graph at once. A source that learns from labels, that asks a model or that says classes itself has a `pipeline`
    instead: `run(setting: Setting, options) -> Built`.

    `reads` is `reads(graph, options) -> str`, for a source that reads more of a dataset than its texts, edges and
    labels: the fingerprint of that, which becomes part of the features' identity. Where a dataset lacks it, it raises
    a StageBenchError that says so, and the suite is refused before anything is run. Where features differ from split
    to split it is `reads(graph, options, split)`.

    `per_split` says whether features differ from split to split, because they are learnt from training labels: True,
    or `per_split(options) -> bool`. `predicts` says whether it gives class scores of its own (`Built.logits`), which
    the backbone `none` scores as they are.

    An option `llm` (an entry as under `llms:`) and an option `answers` (`answers.choice.AnswersEntry`) are settled by
    the suite; a source finds them in its Setting, and they become part of the features' identity.
    """

    name: str
    summary: str = ""
    builder: object = ""
    pipeline: object = ""
    options: object = ""  # a pydantic model of its options
    reads: object = ""
    per_split: object = False
    predicts: bool = False
    needs_text: bool = True
    version: int = 1  # raise when the same options would give other features
    needs: str = ""  # what to get before it can be used; empty: ready


@dataclass(frozen=True)
class FeatureChoice:
    """A feature source as a suite wants it; `label` is what the leaderboard shows.

    `options` are those that are values; `llm` and `answers` stand apart, since they are more than that.
    """

    name: str
    label: str
    options: dict[str, Any]
    llm: LLMChoice | None = None
    answers: AnswersChoice | None = None


@dataclass(frozen=True)
class Setting:
    """What a pipeline is given besides its options.

    graph: its labels are -1 but on the nodes of `train` and `val`, and everywhere where features do not differ from
        split to split: nothing that makes features ever sees a test label.
    train, val: int64 node ids, empty where features do not differ from split to split.
    split_seed: of a random split, else 0.
    folder: this source's own, for what must survive an interruption; removed when the features are stored.
    results: the results folder, for what several features share.
    device: cpu or cuda.
    step: told (done, total, what) while the work goes on. say: told a line that must be seen.
    """

    graph: TextGraph
    train: np.ndarray
    val: np.ndarray
    split_seed: int
    folder: Path
    results: Path
    device: str
    llm: LLMChoice | None = None
    answers: AnswersChoice | None = None
    step: Callable[[int, int, str], None] = lambda done, total, what: None
    say: Callable[[str], None] = lambda line: None


@dataclass(frozen=True)
class Built:
    """What a pipeline made.

    matrix: float32 [num_nodes, dim], finite. logits: float32 [num_nodes, num_classes], the source's own class scores.
    spent: what it cost. `seconds` of embedding alone, `finetune_seconds` of training a language model,
        `answer_seconds`, `answer_tokens` and `answer_dollars` of a chat model's answers as long as they took when they
        were given; whatever was not measured is left out.
    elsewhere: whether the features, or what they are made of, came from somewhere else: what they cost is not known
        then, and no total is shown for what is trained on them.
    """

    matrix: np.ndarray
    logits: np.ndarray | None = None
    spent: dict[str, float] = field(default_factory=dict)
    elsewhere: bool = False
