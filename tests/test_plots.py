"""The plots of a report: what is on them, that no name lies on another, and the same bytes from the same report."""

from __future__ import annotations

import dataclasses
import io
import itertools
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import boards
import stage_bench
from boards import example, frame, made, run, several
from stage_bench.leaderboard.mean_ranks import MeanRank
from stage_bench.leaderboard.plots import drawing, labels, letters
from stage_bench.leaderboard.plots.entries import tables
from stage_bench.leaderboard.plots.plot import KINDS, Plot
from stage_bench.leaderboard.plots.scatter import TIME, Scatter
from stage_bench.leaderboard.plots.stems import stems
from stage_bench.leaderboard.report import Report
from stage_bench.leaderboard.separation import Separation

pytest.importorskip("matplotlib")

EPYC = "AMD EPYC, 2 cores, 24 GiB, 1 thread, 2 jobs side by side"
XEON = "Intel(R) Xeon(R) Processor, 2 cores, 24 GiB, 1 thread, 2 jobs side by side"
HOSTILE = "$x_{$<script>alert('&')</script>\\frac\n\x00 _\u202e"


def drawn(report: Report) -> dict[str, Plot]:
    return {plot.name: plot for plot in drawing.draw(report)}


def words(plot: Plot) -> list[str]:
    """What is written on a plot."""
    root = ElementTree.fromstring(plot.svg)
    return ["".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")]


def pixels(plot: Plot) -> Any:
    from PIL import Image

    return Image.open(io.BytesIO(plot.png))


def study(backbone: str, accuracies: list[float | None], **changes: Any) -> dict[str, Any]:
    history = [
        {"number": number, "values": {}, "state": "failed" if value is None else "ok", "error": "", "seconds": 2.0,
         "val_accuracy": value, "val_loss": None if value is None else 1 - value}
        for number, value in enumerate(accuracies)
    ]  # fmt: skip
    place = {"dataset": "cora", "split": "random-60-20-20", "features": "zero-shot", "llm": "minilm"}
    return {
        **place,
        "instruction": "none",
        "backbone": backbone,
        "history": history,
        "metric": "val_accuracy",
        **changes,
    }


METHOD = {"features": "zero-shot", "llm": "minilm", "instruction": "none"}
RANKS = [
    MeanRank(**METHOD, backbone="gcn", rank=1.5, low=1.0, high=2.5, accuracy=0.9, tables=2),
    MeanRank(**METHOD, backbone="mlp", rank=2.5, low=1.5, high=3.0, accuracy=0.8, tables=2),
]


def full(folder: Path) -> Report:
    """A report with a plot of every kind, and rows of every kind."""
    studies = [study("gcn", [0.8, None, 0.85, 0.84]), study("a$x_b|[l](m)<b>", [None, 0.7]), study("never", [None])]
    found = made(example(), folder=boards.write_published(folder / "published"), studies=studies)
    return dataclasses.replace(found, mean_ranks=RANKS)


def backwards(report: Report) -> Report:
    """The same report with everything in another order."""
    return dataclasses.replace(
        report,
        facts=dataclasses.replace(report.facts, studies=report.facts.studies[::-1]),
        runs=report.runs.iloc[::-1].reset_index(drop=True),
        board=report.board.iloc[::-1].reset_index(drop=True),
        separations=dict(reversed(report.separations.items())),
        costs=dict(reversed(report.costs.items())),
        mean_ranks=report.mean_ranks[::-1],
    )


# --- what there is ------------------------------------------------------------------------------------------------


def test_every_kind_in_a_fixed_order(tmp_path: Path) -> None:
    plots = drawing.draw(full(tmp_path))
    names = [plot.name for plot in plots]
    random = "cora.random-60-20-20"
    assert [name for name in names if name.startswith("cora.")] == [
        *("cora.public.time", "cora.public.accuracy"),
        *(f"{random}.time", f"{random}.memory", f"{random}.accuracy", f"{random}.ranks"),
        "cora.tuning.zero-shot.minilm.none",
    ]
    assert names.index("mean-ranks") == len(names) - 2
    assert {plot.kind for plot in plots} == set(KINDS)
    for plot in plots:
        assert (plot.dataset == "") == (plot.split == "") == (plot.kind == "mean-ranks")
        assert plot.name == re.sub(r"[^A-Za-z0-9._-]", "", plot.name)
        assert plot.alt
        assert "\n" not in plot.alt
        assert ElementTree.fromstring(plot.svg).tag.endswith("svg")
        assert b"<dc:date>" not in plot.svg
        image = pixels(plot)
        assert image.width == 1152
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
        assert image.info.keys() <= {"dpi"}, "neither a date nor the version of a program"


def test_nothing_is_written_for_nothing() -> None:
    assert drawing.draw(made(frame())) == []
    failed = run("a", status="failed", test_accuracy=None, val_accuracy=None)
    assert drawing.draw(made(failed)) == []


def test_a_table_of_one_row() -> None:
    plots = drawn(made(*several("gcn", [0.8, 0.9])))
    assert list(plots) == ["cora.time", "cora.accuracy"], "a rank alone is no plot, nor memory that was not measured"
    alone = drawn(made(run("a")))  # one run: no interval either
    assert "0.8000" in words(alone["cora.accuracy"])


def test_empty_cells() -> None:
    untimed = {"train_seconds": None, "infer_seconds": None}
    plots = drawn(made(*several("gcn", [0.8, 0.9], **untimed), *several("mlp", [0.7, 0.75], **untimed)))
    assert list(plots) == ["cora.accuracy", "cora.ranks"]
    some = drawn(made(*several("gcn", [0.8, 0.9]), *several("mlp", [0.7, 0.75], **untimed)))
    assert "mlp" not in words(some["cora.time"])
    assert "Without total seconds, and not shown: 1 row." in words(some["cora.time"])
    free = {"train_seconds": 0.0, "infer_seconds": 0.0}  # which a log axis has no place for
    assert "cora.time" not in drawn(made(*several("gcn", [0.8, 0.9], **free)))


# --- what is on them ----------------------------------------------------------------------------------------------


def test_accuracy_shows_each_row_and_what_can_be_said_of_it() -> None:
    report = made(
        *several("best", [0.90, 0.91, 0.92]),
        *several("close", [0.90, 0.915, 0.90]),
        *several("far", [0.5, 0.51, 0.52]),
        *several("odd", [0.8, 0.8, 0.8]),
        *several("partial", [0.89, 0.9]),
        run("partial-2", backbone="partial", split_seed=2, init_seed=2, status="failed", test_accuracy=None),
        run("gone", backbone="gone", status="failed", test_accuracy=None, val_accuracy=None),
    )
    verdicts = {"best": None, "close": False, "far": True, "odd": None, "partial": None, "gone": None}
    report = dataclasses.replace(
        report,
        separations={
            key: Separation(best=key[-1] == "best", difference=0.0, separable=verdicts[key[-1]])
            for key in report.separations
        },
    )
    plot = drawn(report)["cora.accuracy"]
    said = words(plot)
    names = ["best", "close", "odd", "far", "partial (partial)"]
    assert [word for word in said if word in names][:5] == names, "by rank; without one, at the end"
    assert {"0.9100", "0.9050", "0.5100", "0.8000", "0.8950", "one run"} <= set(said)
    assert "not separable from the best" in said
    assert "no test against the best" in said
    assert "partial: fewer runs than asked for, no rank" in said
    assert "Without a finished run, and not shown: 1 row." in said
    assert "Not separable from the best: 1." in plot.alt
    assert "best 0.9100; close 0.9050; odd 0.8000" in plot.alt


def test_the_front_is_among_rows_of_one_class_of_hardware() -> None:
    report = made(
        *several("dear", [0.90, 0.91], hardware=EPYC, train_seconds=100.0),
        *several("cheap", [0.80, 0.81], hardware=EPYC, train_seconds=10.0),
        *several("beaten", [0.79, 0.80], hardware=EPYC, train_seconds=20.0),
        *several("elsewhere", [0.95, 0.96], hardware=XEON, train_seconds=1.0),
    )
    plot = drawn(report)["cora.time"]
    assert "Pareto front: cheap 0.8050 at 21; dear 0.9050 at 201" in plot.alt
    said = words(plot)
    assert "other, several or unrecorded hardware: not compared" in said
    assert f"Compared are times taken on {EPYC}." in said
    assert {"dear", "cheap", "beaten", "elsewhere"} <= set(said)
    scatter = Scatter(tables(report)[0], TIME)
    assert scatter._steps[0][:3] == pytest.approx([21.0, 201.0, 201.0])
    assert scatter._steps[1] == pytest.approx([0.805, 0.805, 0.905, 0.905])


def test_without_a_record_of_hardware_there_is_no_front() -> None:
    plot = drawn(made(*several("gcn", [0.8, 0.9]), *several("mlp", [0.7, 0.75])))["cora.time"]
    assert "No Pareto front." in plot.alt
    said = words(plot)
    assert any(line.startswith("No front: what hardware these times were taken on is not recorded") for line in said)
    assert not any("not compared" in line for line in said), "there is nothing to tell apart"


def test_equal_rows_are_on_the_front_together() -> None:
    twins = [*several("one", [0.8, 0.9], hardware=EPYC), *several("two", [0.8, 0.9], hardware=EPYC)]
    plots = drawn(made(*twins))
    assert "one 0.8500 at 5; two 0.8500 at 5" in plots["cora.time"].alt
    assert "one 1 (1 to 1); two 1 (1 to 1)" in plots["cora.ranks"].alt


def test_published_lines(tmp_path: Path) -> None:
    said = words(drawn(full(tmp_path))["cora.random-60-20-20.time"])
    assert any(line.startswith("TAPE (arXiv 2305.19523) 0.9290 † (sage, tape") and "suspect" in line for line in said)
    assert any(line.startswith("STAGE (arXiv 2407.12860) 0.8824 †") for line in said)


def test_mean_ranks_and_tuning(tmp_path: Path) -> None:
    plots = drawn(full(tmp_path))
    assert plots["mean-ranks"].alt == (
        "Mean rank over 2 tables of 2 methods: gcn 1.50 (1.00 to 2.50); mlp 2.50 (1.50 to 3.00)."
    )
    said = words(plots["cora.tuning.zero-shot.minilm.none"])
    assert {"trials", "seconds of trials", "gcn", "a$x_b|[l](m)<b>"} <= set(said)
    assert "Studies without a trial that was carried to its end: 1." in said
    never = made(run("a"), studies=[study("never", [None])])
    assert "cora.tuning.zero-shot.minilm.none" in drawn(never), "a panel without a line, and a note"


def large(rows: int, seed: int = 0) -> Report:
    generator = np.random.default_rng(seed)
    runs = [
        run(f"{index}-{seed}", backbone=f"sign(s={index},p=3,lr=0.{index:04d})", llm=f"llm-{index % 20}",
            split_seed=seed, init_seed=seed, test_accuracy=0.5 + 0.4 * value, peak_memory_mb=500 + index,
            train_seconds=float(generator.lognormal(3, 1)), hardware=EPYC)
        for index in range(rows) for seed, value in enumerate(generator.random(2))
    ]  # fmt: skip
    return made(*runs)


def test_a_large_table_shows_its_best_and_says_so() -> None:
    plots = drawn(large(400))
    for kind in ("accuracy", "ranks"):
        said = words(plots[f"cora.{kind}"])
        assert any("the best 30 of 400 rows" in line for line in said)
        assert sum(line.startswith("sign(") for line in said) == 30
    said = words(plots["cora.time"])
    assert "Of 400 rows the front and the best 15 are named, and have their interval drawn." in said
    assert 15 <= sum(line.startswith("sign(") for line in said) <= 40
    assert "9 other inputs" in said
    assert all(len(plot.svg) < 1_000_000 for plot in plots.values())


# --- the same bytes -----------------------------------------------------------------------------------------------


def test_the_order_of_the_rows_does_not_show(tmp_path: Path) -> None:
    report = full(tmp_path)
    first = drawing.draw(report)
    assert first == drawing.draw(report)
    assert first == drawing.draw(backwards(report))


def test_the_users_settings_do_not_show_and_are_left_alone(tmp_path: Path) -> None:
    import matplotlib

    report = made(*several("gcn", [0.8, 0.9]), *several("mlp", [0.7, 0.75]))
    first = drawing.draw(report)
    changes = {"font.size": 30.0, "axes.facecolor": "black", "text.usetex": True, "svg.hashsalt": "mine"}
    with matplotlib.rc_context(changes):
        assert drawing.draw(report) == first
        assert {name: matplotlib.rcParams[name] for name in changes} == changes


def test_another_process_gives_the_same_bytes(tmp_path: Path) -> None:
    """Neither the seed of hashes nor what was drawn before shows."""
    code = (
        "import hashlib; from boards import several, made; from stage_bench.leaderboard.plots import drawing\n"
        "plots = drawing.draw(made(*several('gcn', [0.8, 0.9]), *several('mlp', [0.7, 0.75])))\n"
        "print(hashlib.sha256(b''.join(plot.svg + plot.png for plot in plots)).hexdigest())\n"
    )
    (tmp_path / "matplotlibrc").write_text("axes.facecolor: black\nfont.family: serif\n")
    path = os.pathsep.join((str(Path(stage_bench.__file__).parents[1]), str(Path(__file__).parent)))
    found = set()
    for seed in ("0", "1"):
        environment = os.environ | {"PYTHONPATH": path, "PYTHONHASHSEED": seed}
        found.add(subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path if seed == "1" else None,
                                 capture_output=True, text=True, check=True).stdout)  # fmt: skip
    assert len(found) == 1


# --- text from data -----------------------------------------------------------------------------------------------


def test_hostile_names(caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        run("a", dataset=HOSTILE, split=HOSTILE, backbone=HOSTILE, llm=HOSTILE, peak_memory_mb=5, hardware=HOSTILE),
        run("b", dataset=HOSTILE, split=HOSTILE, backbone="_hidden", llm="日本語", peak_memory_mb=9, hardware=HOSTILE),
    ]
    report = made(*rows, studies=[study(HOSTILE, [0.5], dataset=HOSTILE, split=HOSTILE)])
    plots = drawing.draw(dataclasses.replace(report, mean_ranks=[dataclasses.replace(RANKS[0], backbone=HOSTILE)]))
    assert [plot.kind for plot in plots] == list(KINDS)
    for plot in plots:
        assert b"<script" not in plot.svg
        assert any("$x_{$<script>alert('&')</script>" in line for line in words(plot)), "as it is, and no formula"
        assert re.fullmatch(r"[A-Za-z0-9._-]+", plot.name)
    assert "_hidden" in words(plots[0])
    assert "日本語" in words(plots[0])
    assert not caplog.records


def test_long_names_are_cut_and_keep_their_end() -> None:
    long = [f"sign({'s=3,' * 40}seed={index})" for index in range(3)]
    plots = drawing.draw(made(*(one for name in long for one in several(name, [0.8, 0.9], llm="m" * 200))))
    for plot in plots:
        cut = [line for line in words(plot) if line.startswith("sign(")]
        assert len(set(cut)) == 3
        for line in cut:
            assert "…" in line
            assert letters.width(line, 8.0) < 3.1


def test_fit_and_wrapped() -> None:
    assert letters.fit("short", 5.0, 8.0) == "short"
    cut = letters.fit("abcdefghij" * 20, 1.0, 8.0)
    assert letters.width(cut, 8.0) <= 1.0
    assert cut.startswith("abcdef")
    assert cut.endswith("hij")
    lines = letters.wrapped("one two three " * 20, 2.0, 8.0)
    assert " ".join(lines).split() == ["one", "two", "three"] * 20
    assert all(letters.width(line, 8.0) <= 2.0 for line in lines)


def test_no_two_files_of_a_name() -> None:
    places = [("a.b",), ("a", "b"), ("A.b",), ("a", "c"), ("x" * 100,), ("x" * 99 + "y",), ("a/b",), ("a?b",)]
    found = stems({place: place for place in places})
    assert len({stem.casefold() for stem in found.values()}) == len(places)
    assert found["a", "c"] == "a.c"


# --- where labels go ----------------------------------------------------------------------------------------------

BOXES = st.lists(st.tuples(*[st.floats(0, 400)] * 2, *[st.floats(5, 120)] * 2), max_size=25)


@settings(max_examples=40, deadline=None)
@given(BOXES)
def test_labels_lie_in_the_frame_and_on_no_other(wanted: list[tuple[float, float, float, float]]) -> None:
    frame = (0.0, 0.0, 400.0, 300.0)
    anchors = [(x, min(y, 300.0)) for x, y, _, _ in wanted]
    sizes = [(width, 10.0) for _, _, width, _ in wanted]
    points = np.array([(x - 4, y - 4, x + 4, y + 4) for x, y in anchors]).reshape(-1, 4)
    places = [box for box in labels.place(anchors, sizes, points, frame) if box]
    for box in places:
        assert 0 <= box[0] <= box[2] <= 400
        assert 0 <= box[1] <= box[3] <= 300
    for one, other in itertools.combinations(places, 2):
        apart = one[0] >= other[2] or other[0] >= one[2] or one[1] >= other[3] or other[1] >= one[3]
        assert apart


def test_labels_keep_off_what_else_is_there() -> None:
    wall = np.array([[205.0, 0.0, 260.0, 300.0]])  # on the right, where it would stand else
    (box,) = labels.place([(200.0, 150.0)], [(60.0, 10.0)], wall, (0.0, 0.0, 400.0, 300.0))
    assert box is not None
    assert box[2] <= 205
    (free,) = labels.place([(200.0, 150.0)], [(60.0, 10.0)], np.empty((0, 4)), (0.0, 0.0, 400.0, 300.0))
    assert free == pytest.approx((206.0, 145.0, 266.0, 155.0))
    assert labels.place([(5.0, 5.0)], [(60.0, 10.0)], wall, (0.0, 0.0, 40.0, 40.0)) == [None], "no room for it"


def test_names_of_a_plot_do_not_overlap() -> None:
    scatter = Scatter(tables(large(400))[0], TIME)
    places = [box for _, box in scatter._places if box]
    assert len(places) >= 15
    for one, other in itertools.combinations(places, 2):
        assert one[0] >= other[2] or other[0] >= one[2] or one[1] >= other[3] or other[1] >= one[3]


def test_names_without_room_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "_GAPS", (6, 10))
    alike = [one for index in range(60) for one in several(f"{'n' * 40}{index}", [0.8, 0.9], hardware=EPYC)]
    said = words(drawn(made(*alike))["cora.time"])
    written = sum(line.startswith("nnn") for line in said)
    assert 0 < written < 25
    assert "Of 60 rows the best 25 of 60 on the front and the best 15 are named." in said
    assert f"Without room for their name: {25 - written} rows." in said


# --- without matplotlib, and fast ---------------------------------------------------------------------------------


def test_both_halves_are_all_plots(tmp_path: Path) -> None:
    report = full(tmp_path)
    assert len(report.board[["dataset", "split"]].drop_duplicates()) > 2
    assert list(drawing.Drawn(report)) == drawing.draw(report)
    assert min(len(drawing.draw(report, half)) for half in (0, 1)) > 1


def test_without_matplotlib_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    report = made(run("a"))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert not drawing.available()
    assert drawing.draw(report) == []
    assert drawing.ADVICE == "plots need: pip install 'stage-bench[plots]'"


def test_what_does_not_draw_imports_no_matplotlib() -> None:
    code = (
        "import sys; from stage_bench.leaderboard.plots import drawing; assert drawing.available()\n"
        "sys.exit(', '.join({'matplotlib', 'PIL', 'torch', 'dgl'} & set(sys.modules)) or None)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(stage_bench.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_two_thousand_rows_in_a_table() -> None:
    report = large(2000)
    start = time.perf_counter()
    plots = drawing.draw(report)
    print(f"{len(plots)} plots of 2,000 rows: {time.perf_counter() - start:.1f} s")  # not asserted: machines differ
    assert max(len(plot.svg) for plot in plots) < 1_000_000
