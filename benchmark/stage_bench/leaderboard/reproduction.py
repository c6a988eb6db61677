"""Published numbers with ours beside: the difference, and whether they agree within their errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stage_bench.leaderboard import significance
from stage_bench.leaderboard.published import Remark, remark_of
from stage_bench.leaderboard.rows import records

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """A published row of the board, the reproduced row that answers to it, and what the two together say.

    published, ours: rows of the board as mappings. verdict: `agrees`, `higher` or `lower` (ours against theirs), or
    `cannot tell`; reason: why, always given for `cannot tell`, and what was assumed for the others. suspect: the source
    calls the number suspect.
    """

    published: Mapping[str, Any]
    ours: Mapping[str, Any]
    difference: float
    verdict: str
    reason: str
    suspect: bool


VERDICTS = ("agrees", "higher", "lower", "cannot tell")

_FEATURES = {
    "tape": {"tape": "", "tape-released": "ours has TA and P; E was not released"},
    "llm-zero-shot": {"tape-released:P": "", "gpt-predictions": "", "tape:P": ""},
    "simteg-ensemble": {"simteg": ""},
}
"""What published feature sets are called here, with what a reader must know; others have the same name."""

_BACKBONES = {"ensemble": "stage"}
"""The same for backbones: STAGE's ensemble of four."""

_OTHER_FEATURES = {"shallow": "published on the dataset's own word counts, ours are made from the texts (TF-IDF)"}
"""Feature sets of one name that are not the same."""

_BY_MODEL = ("zero-shot", "finetuned-lm")
"""Feature sets that are one thing with one model and another with another."""

_STANDARD = ("std ddof=1", "std ddof=0", "std", "unstated")
"""Kinds of ± that are standard deviations, or are taken for one with a word."""

_INSTRUCTIONS = ("default", "none", "")


def reproductions(board: pd.DataFrame) -> list[Reproduction]:
    """Every published row of the board that has a counterpart among ours, in the board's order.

    A counterpart has the dataset, split, features and backbone; of several the one with the published model, else the
    plainest. No verdict where the embedding models differ. Else Welch's t-test on mean, deviation and n of the two
    (significance.summary_t) at the 5 % level. It is not corrected for overlapping training sets: both are means over
    splits of the same data, so that each split is a draw of its own, and a difference between models is not at issue.
    """
    ours: dict[tuple[str, str], list[Row]] = {}
    rows = records(board)
    for row in rows:
        if row["origin"] != "published" and row["test_accuracy"] is not None:
            ours.setdefault((row["dataset"], row["split"]), []).append(row)
    found = []
    for row in rows:
        where = row["dataset"], row["split"]
        if row["origin"] == "published" and (counterpart := _counterpart(row, ours.get(where, []))) is not None:
            found.append(_reproduction(row, counterpart))
    return found


def _counterpart(published: Row, ours: Sequence[Row]) -> Row | None:
    names = _FEATURES.get(published["features"], {published["features"]: ""})
    backbone = _BACKBONES.get(published["backbone"], published["backbone"])
    alike = [row for row in ours if row["features"] in names and row["backbone"] == backbone]
    places = list(names)

    def plainness(row: Row) -> tuple[Any, ...]:
        instruction = row["instruction"] or ""
        known = _INSTRUCTIONS.index(instruction) if instruction in _INSTRUCTIONS else len(_INSTRUCTIONS)
        other_model = (row["llm"] or "") != (published["llm"] or "")
        # Never by accuracy: that would be a selection on test nodes.
        return other_model, row["status"] != "ok", places.index(row["features"]), known, instruction, row["llm"] or ""

    return min(alike, key=plainness, default=None)


def _reproduction(published: Row, ours: Row) -> Reproduction:
    remark = remark_of(published["note"])
    difference = round(ours["test_accuracy"] - published["test_accuracy"], 12)
    reason, assumed = _obstacle(published, ours, remark), []
    verdict = "cannot tell"
    if not reason:
        deviation = _deviation(published, remark)
        p = significance.summary_t(
            difference,
            ours["test_std"],
            ours["n_runs"],
            deviation,
            published["n_runs"],
        )
        verdict = "agrees" if p >= significance.LEVEL else "higher" if difference > 0 else "lower"
        assumed = [f"p {p:.3f}" if p >= 0.001 else "p < 0.001"]
        if _kind(remark) in ("unstated", "std"):
            assumed.append("its ± taken for a standard deviation (ddof 1)")
    known = _FEATURES.get(published["features"], {}).get(ours["features"] or "", "")
    return Reproduction(
        published=published,
        ours=ours,
        difference=difference,
        verdict=verdict,
        reason="; ".join(filter(None, (reason, *assumed, known))),
        suspect=remark.suspect,
    )


def _obstacle(published: Row, ours: Row, remark: Remark) -> str:
    """Why the two numbers say nothing of each other, or nothing."""
    if published["features"] in _OTHER_FEATURES:
        return _OTHER_FEATURES[published["features"]]
    # Feature sets that are named after their paper have their models with them.
    if published["features"] in _BY_MODEL and (ours["llm"] or "") != (published["llm"] or ""):
        return f"another model: {ours['llm']} here"
    if ours["status"] != "ok":
        return f"our row is {ours['status']}"
    if ours["test_std"] is None:
        return "one run here: no deviation"
    if not published["n_runs"] or published["n_runs"] < 2:
        return "published without the number of runs" if not published["n_runs"] else "one published run: no deviation"
    if not remark.deviation.startswith("±"):
        return "published without a ±"
    if _kind(remark) not in _STANDARD:
        return f"its ± is {_kind(remark)}"
    return ""


def _kind(remark: Remark) -> str:
    """The kind in `± 0.0307 (unstated)`."""
    return remark.deviation.partition("(")[2].removesuffix(")")


def _deviation(published: Row, remark: Remark) -> float:
    """The published standard deviation, with ddof 1."""
    value = float(remark.deviation.removeprefix("±").partition("(")[0])
    n = int(published["n_runs"])
    return value * math.sqrt(n / (n - 1)) if _kind(remark) == "std ddof=0" else value
