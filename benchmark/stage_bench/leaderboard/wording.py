"""How numbers and names stand in a report: the same in every format."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

MARK = "†"
"""What stands at every published number."""

Row = dict[str, Any]

MODEL_FACTS = (
    ("name", "llm"),
    ("source", "model"),
    ("dimension", "dimensions"),
    ("parameters", "parameters"),
    ("released", "released"),
    ("licence", "licence"),
    ("trained_on", "this benchmark's texts in its training data"),
)
"""What a report says of an embedding model: key, and the column's heading."""

_ESCAPED = {character: f"\\{character}" for character in "|*_[]~$"}
# Entities where a backslash is not enough: `<` and `&` for HTML, the others because they begin escapes and code.
_ESCAPED.update({"<": "&lt;", ">": "&gt;", "&": "&amp;", "`": "&#96;", "\\": "&#92;"})


def escape(value: object) -> str:
    """Text from data as one line of Markdown that means only itself, also inside a table."""
    line = plain(value)
    if line.replace(" ", "").replace("-", "").replace(".", "").isalnum():
        return line
    return "".join(_ESCAPED.get(character, character) for character in line)


def plain(value: object) -> str:
    """Text from data as one line: white space becomes blanks, control characters go."""
    line = "" if value is None else str(value)
    if line.isalnum():  # as most are
        return line
    if not line.isprintable() or "  " in line or line.strip() != line:
        line = " ".join(line.split())
    if line.isprintable():  # which no character of the categories C is
        return line
    return "".join(character for character in line if not unicodedata.category(character).startswith("C"))


def inputs(row: Mapping[str, Any]) -> str:
    """What the backbone reads: the source of the features and the language model."""
    return " · ".join(filter(None, (row["features"], row["llm"])))


def short_inputs(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What tells the inputs of these rows apart, for places with little room.

    `zero-shot` goes without saying where a model is named, and the instruction is named only where it varies.
    """
    varies = len({row["instruction"] for row in rows if row["llm"]}) > 1
    names = []
    for row in rows:
        features = None if row["features"] == "zero-shot" and row["llm"] else row["features"]
        names.append(" · ".join(filter(None, (features, row["llm"], row["instruction"] if varies else None))))
    return names


def ours_first_by_rank(rows: Sequence[Row]) -> list[Row]:
    """The reproduced rows of a table: complete ones first, so that one without a rank does not look like the best."""
    ours = [row for row in rows if row["origin"] != "published"]
    return sorted(ours, key=lambda row: (row["status"] != "ok", row["status"] == "failed"))


def accuracy(row: Mapping[str, Any]) -> str:
    """Mean ± standard deviation, four decimals."""
    mean, deviation = fraction(row["test_accuracy"]), fraction(row["test_std"])
    return f"{mean} ± {deviation}" if deviation else mean


def fraction(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def signed(value: float | None) -> str:
    """A difference, its sign always shown, with a real minus."""
    return "" if value is None else f"{value:+.4f}".replace("-", "−")


def p_value(p: float | None) -> str:
    return "" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def span(row: Mapping[str, Any]) -> str:
    """The 95 % interval of the mean."""
    return "" if row["ci_low"] is None else f"{row['ci_low']:.4f}–{row['ci_high']:.4f}"


def rank(row: Mapping[str, Any]) -> str:
    """The rank and its 95 % interval."""
    if row["rank"] is None:
        return ""
    return f"{row['rank']}" if row["rank_low"] is None else f"{row['rank']} ({row['rank_low']}–{row['rank_high']})"


def count(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def seconds_text(value: float | None) -> str:
    """Three figures are enough to compare by; leaderboard.csv has two decimals."""
    if value is None:
        return ""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"
