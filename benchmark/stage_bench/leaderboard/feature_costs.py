"""What the features of a report cost: a chat model's answers, the tuning of a language model, embedding."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd
from tabulate import tabulate

from stage_bench.leaderboard.rows import records
from stage_bench.leaderboard.wording import escape, seconds_text

Row = dict[str, Any]

_HEADINGS = (
    *("Dataset", "Features", "LLM", "Splits"),
    *("Answers s", "Tokens", "US dollars", "Fine-tuning s", "Embedding s"),
)

_READ = (
    *("dataset", "features", "llm", "instruction", "embedding_id", "answers_id", "study_id"),
    *("answer_seconds", "answer_tokens", "answer_dollars", "finetune_seconds", "embed_seconds"),
)
"""Columns of runs.csv."""

_LEGEND = """\
Features that are learnt from labels are made anew for each split: their seconds are those of all splits together. A
chat model's answers do not depend on the split and count once. An empty cell was not measured: what was made elsewhere
has a cost that is not known here, and rows on it have no *total s* in the tables above. For the others all of this is
part of it."""


_TUNED = """ Features that were learnt for the splits of tuning alone are in no row, nor in any total."""


def markdown(runs: pd.DataFrame) -> list[str]:
    """A section, or nothing where all features cost their embedding and no more. runs: a checked frame."""
    made = runs[(runs["status"] == "ok") & (runs["kind"] == "train") & (runs["embedding_id"] != "")]
    more = (made["answers_id"] != "") | made["finetune_seconds"].notna() | made["embed_seconds"].isna()
    if not more.any():
        return []
    rows = records(made[list(_READ)])
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        key = tuple(row[column] or "" for column in ("dataset", "features", "llm", "instruction"))
        groups.setdefault(key, []).append(row)
    alike = Counter(key[:3] for key in groups)  # with other instructions
    table = []
    for (dataset, features, llm, instruction), group in sorted(groups.items()):
        model = f"{llm}, {instruction}" if alike[dataset, features, llm] > 1 else llm
        table.append([escape(dataset), escape(features), escape(model), *_cells(group)])
    alignment = ("left", "left", "left", *["right"] * 6)
    grid = tabulate(table, headers=_HEADINGS, tablefmt="pipe", colalign=alignment, disable_numparse=True)
    tuned = any(row["study_id"] and row["finetune_seconds"] is not None for row in rows)
    return ["## What the features cost", grid, _LEGEND + (_TUNED if tuned else "")]


def _cells(rows: Sequence[Row]) -> list[str]:
    tokens, dollars = (_sum(rows, column, "answers_id") for column in ("answer_tokens", "answer_dollars"))
    return [
        str(len({row["embedding_id"] for row in rows})),
        seconds_text(_sum(rows, "answer_seconds", "answers_id")),
        "" if tokens is None else f"{tokens:,.0f}",
        "" if dollars is None else f"{dollars:,.2f}",
        seconds_text(_sum(rows, "finetune_seconds", "embedding_id")),
        seconds_text(_sum(rows, "embed_seconds", "embedding_id")),
    ]


def _sum(rows: Sequence[Row], column: str, identity: str) -> float | None:
    """Every piece of work once; None where none was measured."""
    known = {row[identity]: row[column] for row in rows if row[column] is not None}
    return math.fsum(known.values()) if known else None
