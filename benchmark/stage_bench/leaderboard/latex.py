"""leaderboard.tex: tables that can be pasted into a paper (booktabs)."""

from __future__ import annotations

from collections.abc import Sequence

from stage_bench.leaderboard import published, splits, wording
from stage_bench.leaderboard.board import table_keys
from stage_bench.leaderboard.report import Report
from stage_bench.leaderboard.rows import records
from stage_bench.leaderboard.samples import key_of
from stage_bench.leaderboard.wording import Row, plain, seconds_text

_HEAD = """\
% {suite}: one table for each dataset and split, made by stage-bench. Needs \\usepackage{{booktabs}}.
% Accuracies in %. Bold: the best; underlined: not separable from it (p >= 0.05, Holm).
"""
_SPECIAL = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"},
    # Text that any encoding of the surrounding paper can print.
    **{
        "±": "$\\pm$",
        "†": "$\\dagger$",
        "·": "$\\cdot$",
        "×": "$\\times$",
        "–": "--",
        "−": "$-$",
        "<": "$<$",
        ">": "$>$",
    },
}


MOST_ROWS = 60
"""Rows of a table: a page of a paper has room for no more."""


def latex(report: Report) -> str:
    """The tables: reproduced rows by rank, then the best published row of each paper.

    The same report gives the same text.
    """
    rows = records(report.board)
    parts = [_HEAD.format(suite=plain(report.facts.suite))]
    for dataset, split in table_keys(report.board):
        here = (dataset, split)
        parts.append(_table(report, [row for row in rows if (row["dataset"] or "", row["split"] or "") == here]))
    return "\n".join(parts)


def escape(value: object) -> str:
    """Text from data as LaTeX that means only itself; characters beyond ASCII without a command stay as they are."""
    return "".join(_SPECIAL.get(character, character) for character in plain(value))


def _table(report: Report, rows: Sequence[Row]) -> str:
    whole = wording.ours_first_by_rank(rows)
    ours = whole[:MOST_ROWS]
    theirs = published.best(rows)
    dataset, split = rows[0]["dataset"] or "", rows[0]["split"] or ""
    lines = [_our_line(report, row, name) for row, name in zip(ours, wording.short_inputs(ours), strict=True)]
    if ours and theirs:
        lines.append("\\midrule")
    lines += [_their_line(row) for row in theirs]
    if len(whole) > len(ours):
        lines.append(f"% {len(whole) - len(ours)} more rows are in leaderboard.csv")
    counts = sorted({row["n_runs"] for row in ours if row["n_runs"]})
    span = " to ".join(dict.fromkeys(str(count) for count in counts[:1] + counts[-1:])) or "0"
    caption = (
        f"Test accuracy (\\%) on {escape(dataset)}, split {escape(splits.NAMES.get(split, split))}. "
        f"Mean $\\pm$ standard deviation (ddof 1) over $n = {span}$ runs; 95\\,\\% bootstrap interval of the mean. "
        "Bold: best; underlined: not separable from it at 5\\,\\% (Holm)."
    )
    if theirs:
        caption += " $\\dagger$: published, not run here."
    return "\n".join(
        [
            "\\begin{table}",
            "\\centering",
            f"\\caption{{{caption}}}",
            "\\begin{tabular}{llcrcrr}",
            "\\toprule",
            "Features & Backbone & Accuracy & $n$ & 95\\,\\% interval & Train s/run & Total s \\\\",
            "\\midrule",
            *lines,
            "\\bottomrule",
            "\\end{tabular}",
            "\\end{table}",
            "",
        ]
    )


def _our_line(report: Report, row: Row, features: str) -> str:
    accuracy = _accuracy(row) or escape(row["status"])
    if row["status"] == "partial":
        accuracy += " (partial)"
    if row["rank"] == 1:
        accuracy = f"\\textbf{{{accuracy}}}"
    elif report.separations[key_of(row)].separable is False:
        accuracy = f"\\underline{{{accuracy}}}"
    interval = "" if row["ci_low"] is None else f"{100 * row['ci_low']:.2f}--{100 * row['ci_high']:.2f}"
    times = (seconds_text(row["train_seconds"]), seconds_text(row["total_seconds"]))
    return _line(escape(features), escape(row["backbone"]), accuracy, wording.count(row["n_runs"]), interval, *times)


def _their_line(row: Row) -> str:
    paper = published.source_of(row["source"]).paper.partition(" (")[0]
    features = escape(f"{paper}: {wording.inputs(row)}")
    suspect = " (suspect)" if published.remark_of(row["note"]).suspect else ""
    accuracy = f"{100 * row['test_accuracy']:.2f}$^\\dagger${suspect}"
    return _line(features, escape(row["backbone"]), accuracy, wording.count(row["n_runs"]), "", "", "")


def _line(*cells: str) -> str:
    return " & ".join(cells) + " \\\\"


def _accuracy(row: Row) -> str:
    if row["test_accuracy"] is None:
        return ""
    deviation = "" if row["test_std"] is None else f" $\\pm$ {100 * row['test_std']:.2f}"
    return f"{100 * row['test_accuracy']:.2f}{deviation}"
