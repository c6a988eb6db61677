"""leaderboard.md: the report for people and repositories."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from tabulate import tabulate

from stage_bench.leaderboard import feature_costs, legend, published, splits, tuning, wording
from stage_bench.leaderboard import mean_ranks as mean_rank_table
from stage_bench.leaderboard.board import table_keys
from stage_bench.leaderboard.plots.plot import Plot
from stage_bench.leaderboard.published import TIME_COLUMNS
from stage_bench.leaderboard.report import Report
from stage_bench.leaderboard.reproduction import Reproduction
from stage_bench.leaderboard.rows import records
from stage_bench.leaderboard.samples import key_of
from stage_bench.leaderboard.wording import MARK, MODEL_FACTS, Row, escape, plain, seconds_text

_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")

MOST_ROWS = 200
"""Rows of a table: GitHub does not render a page of thousands, nor would a person read it."""

Columns = Sequence[tuple[str, str]]
"""Heading and alignment of each column."""


def markdown(report: Report, plots: Sequence[Plot] = ()) -> str:
    """The page of a report: for each (dataset, split) its tables, then what goes over all of them, then how to read it.

    plots: those drawn of the report, in files under `plots/`. Text from data is escaped; the same report gives the
    same text.
    """
    facts = report.facts
    parts = [f"# Leaderboard: {escape(facts.suite)}"]
    parts += [escape(facts.description)] if facts.description else []
    parts.append(run_counts(report))
    if facts.selection:
        parts.append(f"**A selection**: {escape(facts.selection)}. Ranks and tests are among these rows alone.")
    if facts.configuration:
        parts.append("\n".join(f"* {escape(line)}" for line in facts.configuration))
    if left_out := [*facts.left_out, *report.remarks]:
        parts.append("To be noted:\n\n" + "\n".join(f"* {escape(line)}" for line in left_out))
    rows = records(report.board)
    by_table: dict[tuple[str, str], list[Row]] = {where: [] for where in table_keys(report.board)}
    for row in rows:
        by_table[row["dataset"] or "", row["split"] or ""].append(row)
    for where, members in by_table.items():
        parts += _section(report, members, [plot for plot in plots if (plot.dataset, plot.split) == where])
    if not rows:
        parts.append("No runs yet.")
    parts += _mean_ranks(report, [plot for plot in plots if plot.kind == "mean-ranks"])
    parts += feature_costs.markdown(report.runs)
    parts += tuning.markdown(facts.studies)
    parts += [_image(plot) for plot in plots if plot.kind == "tuning"]
    parts += _models(facts.models)
    parts += _times(report)
    parts.append("## How to read this\n\n" + "\n".join(_bullet(line) for line in legend.LINES))
    if facts.versions:
        made = (f"{escape(name)} {escape(version)}" for name, version in facts.versions.items())
        parts.append("Made with " + ", ".join(made) + ".")
    return "\n\n".join(parts) + "\n"


def run_counts(report: Report) -> str:
    """How many runs a report has, and how they went."""
    runs = report.runs
    failed, missing = (int((runs["status"] == status).sum()) for status in ("failed", "missing"))
    noun = "run" if len(runs) == 1 else "runs"
    absent = f", {missing} not there yet" if missing else ""
    return f"{len(runs)} {noun}: {len(runs) - failed - missing} finished, {failed} failed{absent}."


class _Footnotes:
    """Numbered notes of one section: each distinct text once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def mark(self, *notes: str) -> str:
        """The superscript numbers of the notes, for use behind a cell's text."""
        numbers = [self._numbers.setdefault(note, len(self._numbers) + 1) for note in notes if note]
        return " ".join(str(number).translate(_SUPERSCRIPTS) for number in sorted(set(numbers)))

    def text(self) -> str:
        """The notes as lines; the two blanks are Markdown's line break."""
        lines = (f"{str(number).translate(_SUPERSCRIPTS)} {escape(note)}" for note, number in self._numbers.items())
        return "  \n".join(lines)


def _section(report: Report, rows: Sequence[Row], plots: Sequence[Plot]) -> list[str]:
    dataset, split = rows[0]["dataset"], rows[0]["split"]
    ours, theirs = wording.ours_first_by_rank(rows), [row for row in rows if row["origin"] == "published"]
    notes = _Footnotes()
    parts = [f"## {escape(dataset)} ({escape(split)})"]
    whole, ours = ours, ours[:MOST_ROWS]
    if ours:
        parts.append(_grid(_OUR_COLUMNS, [_our_cells(report, row, notes) for row in ours]))
        if len(whole) > len(ours):
            parts.append(
                f"The first {len(ours)} of {len(whole):,} rows; all of them are in leaderboard.csv and index.html."
            )
        parts.append(_basis(whole, split or ""))
    parts += [_image(plot) for plot in plots if plot.kind in ("accuracy", "time")]
    if ours:
        parts += _costs(report, ours)
    parts += [_image(plot) for plot in plots if plot.kind in ("memory", "ranks")]
    if theirs:
        parts.append(f"### {MARK} Published, not run here")
        parts.append(_beside(ours, theirs))
        parts.append(_grid(_THEIR_COLUMNS, [_their_cells(row, notes) for row in theirs]))
        parts.append(f"Split: {_split(split or '')}; n and the kind of ± as the source gives them.")
    found = [pair for pair in report.reproductions if (pair.ours["dataset"], pair.ours["split"]) == (dataset, split)]
    if found:
        parts.append("### Published beside ours")
        parts.append(_grid(_BESIDE_COLUMNS, [_beside_cells(pair, notes) for pair in found]))
        parts.append(legend.REPRODUCTION)
    if text := notes.text():
        parts.append(text)
    return parts


_OUR_COLUMNS = (
    *(("Rank", "left"), ("Features", "left"), ("Instruction", "left"), ("Backbone", "left")),
    *(("Test accuracy", "left"), ("n", "right"), ("95 % interval", "left"), ("p vs. best", "right")),
    *(("Val. accuracy", "right"), ("Train s/run", "right"), ("Total s", "right")),
)
_COST_COLUMNS = (
    *(("Features", "left"), ("Backbone", "left"), ("Answers s", "right"), ("Fine-tune s", "right")),
    *(("Embed s", "right"), ("Diffuse s", "right"), ("Tune s", "right"), ("Train s/run", "right")),
    *(("Infer s/run", "right"), ("Total s", "right"), ("Time rank", "right"), ("Memory MB", "right")),
    *(("Parameters", "right"), ("Energy kJ", "right"), ("Dollars", "right"), ("On the front of", "left")),
)
_THEIR_COLUMNS = (
    *(("Paper", "left"), ("Features", "left"), ("Backbone", "left"), ("Test accuracy", "left"), ("n", "right")),
    *(("± (kind)", "left"), ("Evidence", "left")),
)
_BESIDE_COLUMNS = (
    *(("Published", "left"), ("by", "left"), ("Features", "left"), ("Backbone", "left"), ("Ours", "left")),
    *(("n", "right"), ("of", "left"), ("Difference", "right"), ("Verdict", "left"), ("Why", "left")),
)


def _grid(columns: Columns, rows: Sequence[Sequence[str]]) -> str:
    # Without disable_numparse tabulate would rewrite cells that look like numbers.
    return tabulate(
        rows,
        headers=[heading for heading, _ in columns],
        tablefmt="pipe",
        colalign=[alignment for _, alignment in columns],
        disable_numparse=True,
    )


def _our_cells(report: Report, row: Row, notes: _Footnotes) -> list[str]:
    separation = report.separations[key_of(row)]
    accuracy = wording.accuracy(row) or row["status"]
    if row["status"] == "partial":
        accuracy += " (partial)"
    backbone = escape(row["backbone"])
    if row["rank"] == 1:
        accuracy, backbone = f"**{accuracy}**", f"**{backbone}**"
    elif separation.separable is False:
        accuracy = f"<ins>{accuracy}</ins>"  # Markdown has no underline; GitHub keeps this one
    p = wording.p_value(separation.p_holm)
    no_test = separation.reason if row["status"] == "ok" and separation.p is None else ""
    return [
        wording.rank(row),
        escape(wording.inputs(row)),
        escape(row["instruction"]),
        backbone,
        _join(accuracy, notes.mark(plain(row["note"]))),
        wording.count(row["n_runs"]),
        wording.span(row),
        _join(escape(p), notes.mark(f"No test: {no_test}" if no_test else "")),
        wording.fraction(row["val_accuracy"]),
        seconds_text(row["train_seconds"]),
        seconds_text(row["total_seconds"]),
    ]


def _costs(report: Report, ours: Sequence[Row]) -> list[str]:
    """What each row costs; columns in which nothing was measured are named instead of shown."""
    found = [(row, report.costs[key_of(row)]) for row in ours if row["status"] != "failed"]
    if not found:
        return []
    names = wording.short_inputs([row for row, _ in found])
    cells = []
    for (row, cost), name in zip(found, names, strict=True):
        phases = (cost.answer_seconds, cost.finetune_seconds, cost.embed_seconds, cost.diffuse_seconds)
        fronts = [what for what, is_on in (("time", cost.on_time_front), ("memory", cost.on_memory_front)) if is_on]
        cells.append(
            [
                escape(name),
                escape(row["backbone"]),
                *map(seconds_text, (*phases, cost.tune_seconds, cost.train_seconds, cost.infer_seconds)),
                seconds_text(cost.total_seconds),
                "" if cost.time_rank is None else str(cost.time_rank),
                wording.count(cost.peak_memory_mb),
                wording.count(cost.parameters),
                "" if cost.joules is None else f"{cost.joules / 1000:.3g}",
                "" if cost.dollars is None else f"{cost.dollars:,.2f}",
                " and ".join(fronts),
            ]
        )
    kept = [place for place in range(len(_COST_COLUMNS)) if place < 2 or any(row[place] for row in cells)]
    absent = [_COST_COLUMNS[place][0] for place in range(2, len(_COST_COLUMNS) - 1) if place not in kept]
    lines = [f"Not measured, or not needed: {', '.join(absent)}."] if absent else []
    if others := sorted({cost.hardware for _, cost in found if not cost.compared} - {""}):
        lines.append(f"On other hardware, so without a time rank: {escape('; '.join(others))}.")
    table = _grid([_COST_COLUMNS[place] for place in kept], [[row[place] for place in kept] for row in cells])
    return ["### What it costs", table, *([" ".join(lines)] if lines else [])]


def _their_cells(row: Row, notes: _Footnotes) -> list[str]:
    source, remark = published.source_of(row["source"]), published.remark_of(row["note"])
    paper = ", ".join(filter(None, (source.paper, source.version)))
    return [
        _join(escape(paper), notes.mark(plain(f"Source: {source.place}"))),
        escape(wording.inputs(row)),
        escape(row["backbone"]),
        _join(f"{wording.fraction(row['test_accuracy'])} {MARK}", notes.mark(plain(remark.note))),
        wording.count(row["n_runs"]),
        escape(remark.deviation),
        escape(remark.evidence),
    ]


def _beside_cells(pair: Reproduction, notes: _Footnotes) -> list[str]:
    theirs, ours = pair.published, pair.ours
    source, remark = published.source_of(theirs["source"]), published.remark_of(theirs["note"])
    number = f"{wording.fraction(theirs['test_accuracy'])} {MARK}" + (" suspect" if pair.suspect else "")
    return [
        _join(number, notes.mark(plain(remark.note))),
        escape(source.paper.partition(" (")[0]),
        escape(wording.inputs(theirs)),
        escape(theirs["backbone"]),
        wording.accuracy(ours),
        wording.count(ours["n_runs"]),
        escape(", ".join(filter(None, (wording.inputs(ours), ours["instruction"], ours["backbone"])))),
        wording.signed(pair.difference),
        pair.verdict if pair.verdict == "cannot tell" else f"**{pair.verdict}**",
        escape(pair.reason),
    ]


def _basis(rows: Sequence[Row], split: str) -> str:
    counts = sorted({row["n_runs"] for row in rows if row["n_runs"]})
    span = " to ".join(dict.fromkeys(str(count) for count in (counts[:1] + counts[-1:]))) or "0"
    hardware = sorted({row["hardware"] for row in rows if row["hardware"]})
    parts = [
        f"n = {span} finished runs a row",
        "± standard deviation over runs (ddof 1)",
        "interval: 95 % bootstrap of the mean",
        "underlined: not separable from the best",
        f"split: {_split(split)}",
        f"hardware: {escape('; '.join(hardware)) or 'not recorded'}",
    ]
    return "; ".join(parts) + "."


def _split(name: str) -> str:
    return f"{escape(name)} ({splits.NAMES[name]})" if name in splits.NAMES else escape(name)


def _beside(ours: Sequence[Row], theirs: Sequence[Row]) -> str:
    """A sentence with the best number here and the best of each of the best papers."""
    first = [row for row in ours if row["rank"] == 1][:1]
    here = "".join(f"Best here: {wording.accuracy(row)} ({_named(row)}). " for row in first)
    there = []
    for row in published.best(theirs)[:3]:
        suspect = ", suspect" if published.remark_of(row["note"]).suspect else ""
        paper = escape(published.source_of(row["source"]).paper)
        there.append(f"{paper} {wording.fraction(row['test_accuracy'])} {MARK} ({_named(row)}{suspect})")
    return f"{here}Best published: {'; '.join(there)}."


def _named(row: Row) -> str:
    return escape(", ".join(filter(None, (row["backbone"], wording.inputs(row)))))


def _mean_ranks(report: Report, plots: Sequence[Plot]) -> list[str]:
    if not report.mean_ranks:
        return []
    columns = (
        *(("Mean rank", "left"), ("Features", "left"), ("Instruction", "left"), ("Backbone", "left")),
        *(("Mean test accuracy", "right"), ("Tables", "right")),
    )
    cells = [
        [
            f"{row.rank:.2f} ({row.low:.2f}–{row.high:.2f})",
            escape(" · ".join(filter(None, (row.features, row.llm)))),
            escape(row.instruction),
            escape(row.backbone),
            f"{row.accuracy:.4f}",
            str(row.tables),
        ]
        for row in report.mean_ranks[:MOST_ROWS]
    ]
    basis = (
        "Ranks among the rows that are complete in every table above; the interval is a 95 % bootstrap of the tables "
        f"and of the seeds in them. {mean_rank_table.NOTE}"
    )
    more = len(report.mean_ranks) - len(cells)
    basis += f" Not shown: {more:,} more, which index.html has." if more else ""
    return ["## Mean ranks over datasets", _grid(columns, cells), basis, *map(_image, plots)]


def _models(models: Sequence[Mapping[str, str]]) -> list[str]:
    """What a reader must know of the encoders: above all when they came out, and whether they saw these texts."""
    if not models:
        return []
    columns = [(heading, "right" if key in ("dimension", "parameters") else "left") for key, heading in MODEL_FACTS]
    cells = [[escape(model.get(key, "")) or "not known" for key, _ in MODEL_FACTS] for model in models]
    return ["## Embedding models", _grid(columns, cells)]


def _times(report: Report) -> list[str]:
    datasets = set(report.runs["dataset"])
    rows = [row for row in records(report.published_times[list(TIME_COLUMNS)]) if row["dataset"] in datasets]
    if not rows:
        return []
    notes = _Footnotes()
    columns = (
        *(("Paper", "left"), ("Dataset", "left"), ("What", "left"), ("LM", "left"), ("Seconds", "right")),
        *(("Hardware", "left"), ("Evidence", "left")),
    )
    cells = []
    for row in rows:
        marks = notes.mark(plain(f"Source: {row['source']}"), plain(row["note"]))
        seconds = "" if row["seconds"] is None else f"{row['seconds']:,g} {MARK}"
        cells.append(
            [
                _join(escape(row["paper"]), marks),
                *(escape(row[name]) for name in ("dataset", "what", "lm")),
                seconds,
                escape(row["hardware"]),
                escape(row["evidence"]),
            ]
        )
    return [f"## {MARK} Published times", TIMES_WARNING, _grid(columns, cells), notes.text()]


TIMES_WARNING = "Other hardware, and what is counted differs from row to row: not to be compared with seconds above."


def _image(plot: Plot) -> str:
    return f"![{escape(plot.alt)}](plots/{plot.name}.svg)"


def _bullet(line: str) -> str:
    return textwrap.fill(f"* {line}", 118, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _join(cell: str, mark: str) -> str:
    return f"{cell} {mark}".strip()
