"""The leaderboard as text: Markdown for people and repositories, and a table for the terminal."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from tabulate import tabulate

from stage_bench.leaderboard import published
from stage_bench.leaderboard.board import table_keys
from stage_bench.leaderboard.rows import records
from stage_bench.leaderboard.statistics import RESAMPLES

MARK = "†"
"""What stands at every published number."""

SPLITS = {
    "random-60-20-20": "random 60/20/20, drawn by TAPE's rule, a new one for each split seed",
    "official": "the dataset's official split",
    "subset-masks": "the masks in the file of TAPE's subset",
}

_ESCAPED = {character: f"\\{character}" for character in "|*_[]~$"}
# Entities where a backslash is not enough: `<` and `&` for HTML, the others because they begin escapes and code.
_ESCAPED.update({"<": "&lt;", ">": "&gt;", "&": "&amp;", "`": "&#96;", "\\": "&#92;"})
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")

Row = dict[str, Any]

LEGEND = f"""\
## How to read this

* **Rank** is by mean test accuracy among the complete rows of one table; ties share the better rank. Its interval
  is the 95 % interval under a bootstrap of the seeds: where all rows ran with the same seeds they are drawn for all
  rows together, else for each row alone. A row of one run has a rank but no interval, and enters the resamples of the
  others with its one accuracy.
* **Test accuracy** is the mean over n finished runs ± the standard deviation over runs (ddof 1). The 95 % interval is
  a percentile bootstrap of that mean with {RESAMPLES:,} resamples. One run has neither. With few runs the
  interval is little more than their range, and covers less than it says. **Bold** is the best reproduced row.
* Models and epochs are selected on **validation accuracy** (mean over runs).
* **Train s/run** is the mean per run. **Total s** = embed + diffuse + tune + n × (train + infer), where train and infer
  are means per run and embedding, diffusion and tuning count once for a row: each distinct embedding, diffusion or
  study once, whatever number of runs or ensemble members used it. To *embed* belongs all that the features cost, a chat
  model's answers and the tuning of a language model included; where these were made elsewhere, what they cost is not
  known, and there is no total. Another part that was not measured adds nothing.
  Every part is in leaderboard.csv.
  An ensemble's seconds are those of its members together.
* **Memory** is the highest peak of a run in MB, on a CPU that of the whole process with its libraries; **parameters**
  are those trained.
* *partial*: some runs failed or are not there yet; the row has a mean over the others and no rank. *failed*: no run
  finished.
* {MARK} marks **published** numbers: copied from their source, not run here, without rank. Their ± is whatever the
  source took; only a standard deviation with ddof 1 stands where ours stands in leaderboard.csv.
* An empty cell was not measured. It never means zero."""


MODEL_FACTS = (
    ("name", "llm"),
    ("source", "model"),
    ("dimension", "dimensions"),
    ("parameters", "parameters"),
    ("released", "released"),
    ("licence", "licence"),
    ("trained_on", "this benchmark's texts in its training data"),
)
"""What leaderboard.md says of an embedding model: key, and the column's heading."""


def markdown(
    board: pd.DataFrame,
    *,
    suite: str,
    runs_note: str = "",
    configuration: Sequence[str] = (),
    left_out: Sequence[str] = (),
    published_left_out: int = 0,
    published_times: pd.DataFrame | None = None,
    versions: Mapping[str, str] | None = None,
    plots: Mapping[tuple[str, str], str] | None = None,
    models: Sequence[Mapping[str, str]] = (),
    sections: Sequence[str] = (),
) -> str:
    """leaderboard.md of a board: a section for each (dataset, split), published times, a legend.

    `runs_note` says how many runs there were; `configuration` are sentences on how they were made; `left_out` are
    sentences on what the suite asks for and the board does not show; `published_left_out` counts published rows on
    another split; `versions` maps what was used to its version; `plots` maps (dataset, split) to the path of its
    plot, relative to the page; `models` are what is known of the embedding models (MODEL_FACTS); `sections` are
    Markdown that goes before these. Text from data is
    escaped; the same arguments give the same text.
    """
    parts = [f"# Leaderboard: {escape(suite)}"]
    if runs_note:
        parts.append(escape(runs_note))
    if configuration:
        parts.append("\n".join(f"* {escape(line)}" for line in configuration))
    if published_left_out:
        noun = "row has" if published_left_out == 1 else "rows have"
        left_out = [*left_out, f"{published_left_out} published {noun} one of these datasets but another split."]
    if left_out:
        parts.append("To be noted:\n\n" + "\n".join(f"* {escape(line)}" for line in left_out))
    rows = records(board)
    for dataset, split in table_keys(board):
        members = [row for row in rows if (row["dataset"], row["split"]) == (dataset, split)]
        parts += _section(members, (plots or {}).get((dataset, split)))
    if not rows:
        parts.append("No runs yet.")
    parts += [*sections, *_models(models)]
    parts += _times(published_times, {row["dataset"] for row in rows})
    parts.append(LEGEND)
    if versions:
        parts.append("Made with " + ", ".join(f"{escape(name)} {escape(versions[name])}" for name in versions) + ".")
    return "\n\n".join(parts) + "\n"


def escape(value: object) -> str:
    """Text from data as one line of Markdown that means only itself, also inside a table."""
    return "".join(_ESCAPED.get(character, character) for character in plain(value))


def plain(value: object) -> str:
    """Text from data as one line: white space becomes blanks, control characters go."""
    line = " ".join(("" if value is None else str(value)).split())
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


def terminal(board: pd.DataFrame) -> RenderableType:
    """The board for a terminal: a rich table for each (dataset, split), with the best published row of each paper.

    The table takes the width that there is: long names fold, numbers do not.
    """
    rows = records(board)
    tables: list[RenderableType] = []
    for dataset, split in table_keys(board):
        members = [row for row in rows if (row["dataset"], row["split"]) == (dataset, split)]
        tables.append(_terminal_table(f"{dataset}, {split}", members))
    return Group(*tables) if tables else Text("No runs yet.")


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


def _section(rows: Sequence[Row], plot: str | None) -> list[str]:
    dataset, split = rows[0]["dataset"], rows[0]["split"]
    ours = [row for row in rows if row["origin"] != "published"]
    theirs = [row for row in rows if row["origin"] == "published"]
    notes = _Footnotes()
    # Complete rows first, by rank; a row without a rank must not look like the best of them.
    ours.sort(key=lambda row: (row["status"] != "ok", row["status"] == "failed"))
    parts = [f"## {escape(dataset)} ({escape(split)})"]
    if ours:
        parts.append(_grid(_OUR_COLUMNS, [_our_cells(row, notes) for row in ours]))
        parts.append(_basis(ours, split))
    if theirs:
        parts.append(f"**{MARK} Published, not run here.** {_beside(ours, theirs)}")
        parts.append(_grid(_THEIR_COLUMNS, [_their_cells(row, notes) for row in theirs]))
        parts.append(f"Split: {_split(split)}; n and the kind of ± as the source gives them.")
    if text := notes.text():
        parts.append(text)
    if plot:
        parts.append(f"![Test accuracy against total seconds, {escape(dataset)} ({escape(split)})]({plot})")
    return parts


# Heading and alignment of each column.
_OUR_COLUMNS = (
    *(("Rank", "left"), ("Features", "left"), ("Instruction", "left"), ("Backbone", "left")),
    *(("Test accuracy", "left"), ("n", "right"), ("95 % interval", "left"), ("Val. accuracy", "right")),
    *(("Train s/run", "right"), ("Total s", "right"), ("Memory MB", "right"), ("Parameters", "right")),
)
_THEIR_COLUMNS = (
    *(("Paper", "left"), ("Features", "left"), ("Backbone", "left"), ("Test accuracy", "left"), ("n", "right")),
    *(("± (kind)", "left"), ("Evidence", "left")),
)


def _grid(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]]) -> str:
    # Without disable_numparse tabulate would rewrite cells that look like numbers.
    return tabulate(
        rows,
        headers=[heading for heading, _ in columns],
        tablefmt="pipe",
        colalign=[alignment for _, alignment in columns],
        disable_numparse=True,
    )


def _our_cells(row: Row, notes: _Footnotes) -> list[str]:
    accuracy = _accuracy(row) or row["status"]
    if row["status"] == "partial":
        accuracy += " (partial)"
    backbone = escape(row["backbone"])
    if row["rank"] == 1:
        accuracy, backbone = f"**{accuracy}**", f"**{backbone}**"
    return [
        _rank(row),
        escape(inputs(row)),
        escape(row["instruction"]),
        backbone,
        _join(accuracy, notes.mark(plain(row["note"]))),
        _count(row["n_runs"]),
        _span(row),
        _fraction(row["val_accuracy"]),
        seconds_text(row["train_seconds"]),
        seconds_text(row["total_seconds"]),
        _count(row["peak_memory_mb"]),
        _count(row["parameters"]),
    ]


def _their_cells(row: Row, notes: _Footnotes) -> list[str]:
    source, remark = published.source_of(row["source"]), published.remark_of(row["note"])
    paper = ", ".join(filter(None, (source.paper, source.version)))
    return [
        _join(escape(paper), notes.mark(plain(f"Source: {source.place}"))),
        escape(inputs(row)),
        escape(row["backbone"]),
        _join(f"{_fraction(row['test_accuracy'])} {MARK}", notes.mark(plain(remark.note))),
        _count(row["n_runs"]),
        escape(remark.deviation),
        escape(remark.evidence),
    ]


def _basis(rows: Sequence[Row], split: str) -> str:
    counts = sorted({row["n_runs"] for row in rows if row["n_runs"]})
    span = " to ".join(dict.fromkeys(str(count) for count in (counts[:1] + counts[-1:]))) or "0"
    hardware = sorted({row["hardware"] for row in rows if row["hardware"]})
    parts = [
        f"n = {span} finished runs a row",
        "± standard deviation over runs (ddof 1)",
        "interval: 95 % bootstrap of the mean",
        f"split: {_split(split)}",
        f"hardware: {escape('; '.join(hardware)) or 'not recorded'}",
    ]
    return "; ".join(parts) + "."


def _split(name: str) -> str:
    return f"{escape(name)} ({SPLITS[name]})" if name in SPLITS else escape(name)


def _beside(ours: Sequence[Row], theirs: Sequence[Row]) -> str:
    """A sentence with the best number here and the best of each of the best papers."""
    first = [row for row in ours if row["rank"] == 1][:1]
    here = "".join(f"Best here: {_accuracy(row)} ({_named(row)}). " for row in first)
    there = []
    for row in published.best(theirs)[:3]:
        suspect = ", suspect" if published.remark_of(row["note"]).suspect else ""
        paper = escape(published.source_of(row["source"]).paper)
        there.append(f"{paper} {_fraction(row['test_accuracy'])} {MARK} ({_named(row)}{suspect})")
    return f"{here}Best published: {'; '.join(there)}."


def _named(row: Row) -> str:
    return escape(", ".join(filter(None, (row["backbone"], inputs(row)))))


def _models(models: Sequence[Mapping[str, str]]) -> list[str]:
    """What a reader must know of the encoders: above all when they came out, and whether they saw these texts."""
    if not models:
        return []
    columns = [(heading, "right" if key in ("dimension", "parameters") else "left") for key, heading in MODEL_FACTS]
    cells = [[escape(model.get(key, "")) or "not known" for key, _ in MODEL_FACTS] for model in models]
    return ["## Embedding models", _grid(columns, cells)]


def _times(table: pd.DataFrame | None, datasets: set[str]) -> list[str]:
    rows = [row for row in (records(table) if table is not None else []) if row["dataset"] in datasets]
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
        plain_cells = [escape(row[name]) for name in ("dataset", "what", "lm")]
        cells.append(
            [
                _join(escape(row["paper"]), marks),
                *plain_cells,
                seconds,
                escape(row["hardware"]),
                escape(row["evidence"]),
            ]
        )
    title = f"## {MARK} Published times"
    warning = "Other hardware, and what is counted differs from row to row: not to be compared with seconds above."
    return [title, warning, _grid(columns, cells), notes.text()]


def _join(cell: str, mark: str) -> str:
    return f"{cell} {mark}".strip()


def _accuracy(row: Row) -> str:
    mean, deviation = _fraction(row["test_accuracy"]), _fraction(row["test_std"])
    return f"{mean} ± {deviation}" if deviation else mean


def _fraction(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _span(row: Row) -> str:
    return "" if row["ci_low"] is None else f"{row['ci_low']:.4f}–{row['ci_high']:.4f}"


def _rank(row: Row) -> str:
    if row["rank"] is None:
        return ""
    return f"{row['rank']}" if row["rank_low"] is None else f"{row['rank']} ({row['rank_low']}–{row['rank_high']})"


def _count(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def seconds_text(value: float | None) -> str:
    """Three figures are enough to compare by; leaderboard.csv has two decimals."""
    if value is None:
        return ""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _terminal_table(title: str, rows: Sequence[Row]) -> Table:
    table = Table(
        title=Text(plain(title)), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    table.add_column("Rank", no_wrap=True)
    table.add_column("Features", overflow="fold")
    table.add_column("Backbone", overflow="fold")
    table.add_column("Test accuracy", no_wrap=True)
    for heading in ("n", "Total s"):
        table.add_column(heading, justify="right", no_wrap=True)
    ours = [row for row in rows if row["origin"] != "published"]
    ours.sort(key=lambda row: (row["status"] != "ok", row["status"] == "failed"))
    for row, features in zip(ours, short_inputs(ours), strict=True):
        style = "bold" if row["rank"] == 1 else "" if row["status"] == "ok" else "yellow"
        _terminal_row(table, row, features, _accuracy(row), style)
    theirs = published.best(rows)
    if ours and theirs:
        table.add_section()
    for row in theirs:
        paper = published.source_of(row["source"]).paper.partition(" (")[0]
        _terminal_row(table, row, f"{MARK} {paper}", f"{_accuracy(row)} {MARK}", "dim")
    return table


def _terminal_row(table: Table, row: Row, features: str, accuracy: str, style: str) -> None:
    rank = row["status"] if row["status"] in ("partial", "failed") else _rank(row)
    cells = (rank, features, row["backbone"], accuracy, _count(row["n_runs"]), seconds_text(row["total_seconds"]))
    # Text, not str: rich would read `[red]` in a name as markup.
    table.add_row(*(Text(plain(cell)) for cell in cells), style=style)
