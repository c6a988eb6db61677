"""The tables that go over all datasets: mean ranks, tuning, embedding models, published times."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from stage_bench.leaderboard import tuning
from stage_bench.leaderboard.mean_ranks import MeanRank
from stage_bench.leaderboard.page.cells import Cell, Column, Notes, Row, Table, count, fraction, seconds, words
from stage_bench.leaderboard.page.naming import MODEL
from stage_bench.leaderboard.wording import MARK, MODEL_FACTS, plain, short_inputs


def mean_ranks(found: Sequence[MeanRank]) -> Table:
    columns = (
        Column("rank", "Mean rank", "rank", title="With its 95 % bootstrap interval over datasets and seeds"),
        *MODEL,
        Column("accuracy", "Mean test accuracy", "number"),
        Column("tables", "Tables", "number", title="(dataset, split) tables that the mean is over"),
    )
    rows = [
        Row(
            [
                Cell(f"{one.rank:.2f}", one.rank, f"({one.low:.2f}–{one.high:.2f})"),
                *map(words, (one.backbone, one.features, one.llm, one.instruction)),
                fraction(one.accuracy),
                count(one.tables),
            ],
            plain(", ".join(filter(None, (one.backbone, one.features, one.llm, one.instruction)))),
        )
        for one in found
    ]
    return Table(
        id="mean-ranks-table",
        caption="Mean ranks",
        columns=columns,
        rows=rows,
        head=1,
        sticky=2,
        sorted_by="rank",
        origin="reproduced",
        unit="methods",
        more="leaderboard.md",
    )


def winners(studies: Sequence[tuning.Study]) -> Table:
    """What each study came to; `studies` as `tuning.in_order` has them."""
    columns = (
        *_STUDY,
        Column("values", "Winning values", "long"),
        Column("recipe", "Recipe", "number", title="Validation accuracy of the recipe's own values"),
        Column("winner", "Winner", "number", title="Validation accuracy of the winner"),
        Column("trial", "Found at trial", "number"),
        Column("after", "after s", "number"),
        Column("ended", "Trials", title="Carried to their end / given up by the pruner / failed"),
        Column("seconds", "Seconds", "number", title="Of all trials"),
        Column("matters", "Matters", "long", title="Shares in the variance of what was selected on (fANOVA)"),
    )
    rows = []
    for study in studies:
        found = tuning.winner(study)
        cells = [
            *_study(study),
            words(found.values),
            fraction(found.recipe),
            fraction(found.accuracy),
            count(found.trial),
            seconds(found.after_seconds),
            Cell(" / ".join(map(str, found.ended))),
            seconds(found.seconds),
            words(found.matters),
        ]
        rows.append(Row(cells, _study_name(study)))
    return _studies("tuning-winners", "Winners", columns, rows)


def trajectories(studies: Sequence[tuning.Study]) -> Table:
    """Best validation accuracy so far; `studies` as `tuning.in_order` has them."""
    after = tuning.stops(studies)
    headings = ["after 1 trial" if stop == 1 else f"after {stop:,}" for stop in after]
    columns = (
        *_STUDY,
        *(Column(f"after-{stop}", heading, "number") for stop, heading in zip(after, headings, strict=True)),
    )
    rows = [
        Row([*_study(study), *map(fraction, tuning.best_after(study, after))], _study_name(study)) for study in studies
    ]
    return _studies("tuning-trajectories", "Best validation accuracy so far", columns, rows)


def remarks(studies: Sequence[tuning.Study]) -> list[str]:
    """What was out of the ordinary in the studies."""
    heads = [
        [study["dataset"], name, study["backbone"]] for study, name in zip(studies, short_inputs(studies), strict=True)
    ]
    return [plain(remark) for remark in tuning.remarks(studies, heads)]


_STUDY = (
    Column("backbone", "Backbone", facet="backbone"),
    Column("dataset", "Dataset", facet="dataset"),
    Column("split", "Split"),
    *MODEL[1:],
)


def _study(study: tuning.Study) -> list[Cell]:
    return [words(study[column.key]) for column in _STUDY]


def _study_name(study: tuning.Study) -> str:
    return plain(", ".join(filter(None, (study[column.key] for column in _STUDY))))


def _studies(id_: str, caption: str, columns: Sequence[Column], rows: Sequence[Row]) -> Table:
    return Table(
        id=id_, caption=caption, columns=columns, rows=rows, origin="reproduced", unit="studies", more="leaderboard.md"
    )


def models(found: Sequence[Mapping[str, str]]) -> Table:
    """What a reader must know of the encoders: above all when they came out, and whether they saw these texts."""
    numbers = ("dimension", "parameters")
    columns = [
        Column("name", "LLM", facet="llm")
        if key == "name"
        else Column(key, heading[:1].upper() + heading[1:], "number" if key in numbers else "long")
        for key, heading in MODEL_FACTS
    ]
    rows = [
        Row([_fact(model, key, key in numbers) for key, _ in MODEL_FACTS], plain(model.get("name", "")))
        for model in found
    ]
    return Table(
        id="models-table", caption="Embedding models", columns=columns, rows=rows, unit="models", more="leaderboard.md"
    )


def _fact(model: Mapping[str, str], key: str, is_number: bool) -> Cell:
    shown = plain(model.get(key, ""))
    if not shown:
        return Cell("not known", None, "", "quiet")
    try:
        value = float(shown.replace(",", "")) if is_number else None
    except ValueError:
        value = None  # a number in words: it sorts with the empty cells
    return Cell(shown, value if value is None or math.isfinite(value) else None)


def times(rows: Sequence[Mapping[str, Any]], notes: Notes) -> Table:
    """Published times; not to be compared with ours."""
    columns = (
        Column("paper", "Paper", "long"),
        Column("dataset", "Dataset", facet="dataset"),
        Column("what", "What", "long"),
        Column("lm", "LM"),
        Column("seconds", f"Seconds {MARK}", "number"),
        Column("hardware", "Hardware", "long"),
        Column("evidence", "Evidence"),
        Column("source", "Source", "long"),
    )
    made = []
    for row in rows:
        shown = "" if row["seconds"] is None else f"{row['seconds']:,g} {MARK}"
        cells = [
            *(words(row[name]) for name in ("paper", "dataset", "what", "lm")),
            Cell(shown, row["seconds"], notes=notes.mark(row["note"] or "")),
            *(words(row[name]) for name in ("hardware", "evidence", "source")),
        ]
        made.append(Row(cells, plain(f"{row['paper'] or ''}, {row['what'] or ''}")))
    return Table(
        id="times-table",
        caption="Published times",
        columns=columns,
        rows=made,
        origin="published",
        notes=notes.id,
        more="leaderboard.md",
    )
