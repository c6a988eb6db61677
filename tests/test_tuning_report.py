"""What a report says of tuning: budgets, winners, trajectories; from summaries as studies leave them."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any
from xml.etree import ElementTree

import pytest

from stage_bench.leaderboard import tuning
from stage_bench.leaderboard.plots import canvas, trajectories
from stage_bench.training import tuning as training
from studying import FIRST, Objective, choice

NAMES = {"dataset": "cora", "split": "random-60-20-20", "features": "zero-shot", "llm": "minilm", "instruction": "none"}


def row(
    number: int, accuracy: float | None, seconds: float = 2.0, state: str = "ok", error: str = ""
) -> dict[str, Any]:
    values = {"lr": 0.01 * (number + 1), "batch_norm": True, "svd": None, "hidden": 64}
    loss = None if accuracy is None else 1 - accuracy
    scores = {"val_accuracy": accuracy, "val_loss": loss, "seconds": seconds}
    return {"number": number, "values": values, "state": state, "error": error, **scores}


HISTORY = [
    row(0, 0.80),
    row(1, None, 0.5, "pruned", "given up at epoch 40"),
    row(2, 0.85),
    row(3, None, 1.0, "failed", "out of memory: MemoryError"),
    row(4, 0.82),
    row(5, None, 0.5, "failed", "hidden is 33"),
]


def study(backbone: str = "gcn", **changes: Any) -> dict[str, Any]:
    standard: dict[str, Any] = {
        **NAMES,
        **{"backbone": backbone, "history": HISTORY, "winner": 2, "metric": "val_accuracy", "asked": 6},
        **{"timeout": None, "sampler": "tpe", "pruner": "median", "seeds": [1000, 1001], "ended": "trials"},
        **{"starts_with_recipe": True, "importances_note": ""},
        "importances": {"lr": 0.5, "hidden": 0.25, "svd": 0.15, "batch_norm": 0.1},
    }
    return {**standard, **changes}


def page(*studies: dict[str, Any]) -> str:
    return "\n\n".join(tuning.markdown(studies))


def cells(text: str, backbone: str, table: int = 0) -> list[str]:
    lines = [line for line in text.splitlines() if line.startswith("|") and f"| {backbone} " in line]
    return [cell.strip() for cell in lines[table].strip("|").split("|")]


def test_nothing_was_tuned():
    assert tuning.markdown([]) == []
    assert trajectories.names([]) == {}


def test_a_row_of_the_winner():
    found = cells(page(study()), "gcn")
    assert found[:3] == ["cora", "minilm", "gcn"]
    assert found[3] == "lr=0.03, batch\\_norm=true, svd=null, hidden=64"
    assert found[4:8] == ["0.8000", "0.8500", "3", "4.50"]
    assert found[8:] == ["3 / 1 / 2", "8.00", "lr 0.50, hidden 0.25, svd 0.15"]


def test_the_recipe_is_there_only_where_it_was_tried():
    assert cells(page(study(starts_with_recipe=False)), "gcn")[4] == ""
    failed = [row(0, None, 1.0, "failed", "no"), *HISTORY[1:]]
    assert cells(page(study(history=failed)), "gcn")[4] == ""


def test_best_so_far_after_some_trials():
    text = page(study(), study("sage", history=HISTORY[:3], asked=3))
    assert cells(text, "gcn", 1)[3:] == ["0.8000", "0.8000", "0.8500", "0.8500"]
    assert cells(text, "sage", 1)[3:] == ["0.8000", "0.8000", "", ""]
    assert re.search(r"after 1 trial \|\s+after 2 \|\s+after 5 \|\s+after 6 \|", text)


def test_the_trajectory_follows_the_metric():
    by_accuracy = list(tuning.trajectory(study()))
    assert by_accuracy == [(1, 2.0, 0.8), (2, 2.5, 0.8), (3, 4.5, 0.85), (4, 5.5, 0.85), (5, 7.5, 0.85), (6, 8.0, 0.85)]
    losses = [{**one, "val_loss": loss} for one, loss in zip(HISTORY, (0.3, None, 0.4, None, 0.2, None), strict=True)]
    by_loss = list(tuning.trajectory(study(history=losses, metric="val_loss", winner=4)))
    assert [best for _, _, best in by_loss] == [0.8, 0.8, 0.8, 0.8, 0.82, 0.82], "the accuracy of the lowest loss"
    nothing_yet = list(tuning.trajectory(study(history=[HISTORY[3], HISTORY[0]])))
    assert [best for _, _, best in nothing_yet] == [None, 0.8]


def test_an_equal_budget_is_one_sentence():
    said = page(study(), study("sage"))
    assert "Budgets differ" not in said
    assert (
        "Equal budget for every study: 6 trials, sampler tpe, pruner median, seeds 1000, 1001, best validation "
        "accuracy, no limit of seconds. All studies together took 16.0 s." in said
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"asked": 9}, "9 trials"),
        ({"sampler": "random"}, "sampler random"),
        ({"pruner": "none"}, "no pruner"),
        ({"seeds": [5]}, "seed 5"),
        ({"metric": "val_loss"}, "lowest validation loss"),
        ({"timeout": 60.0}, "at most 60 s"),
    ],
)
def test_budgets_that_differ_are_said_with_a_warning(changes, words):
    said = page(study(), study("sage", **changes))
    assert "**Budgets differ**" in said
    assert re.search(rf"^\* .*{words}.*: sage$", said, re.MULTILINE)
    assert re.search(r"^\* 6 trials, sampler tpe, .*: gcn$", said, re.MULTILINE)


def test_what_is_to_be_known_of_single_studies():
    note = "importances need 10 trials carried to their end; there are 3"
    said = page(study(importances={}, importances_note=note), study("sage", importances={}, importances_note=note))
    assert f"* cora minilm gcn, cora minilm sage: {note}" in said
    assert "* cora minilm gcn: 2 trials failed, 1 of them for memory; the first: out of memory: MemoryError" in said
    ended = page(study("a", ended="grid", asked=50), study("b", ended="timeout", asked=50, timeout=8.0))
    assert "* cora minilm a: the grid has no more than 6 points; 50 trials were asked for" in ended
    assert "* cora minilm b: ended after 6 of 50 trials, when its seconds were spent" in ended


def test_text_from_data_means_only_itself():
    said = page(study("a|b*<i>", history=[row(0, 0.5), row(1, None, 1.0, "failed", "x\n| y_z |")], winner=0, asked=2))
    assert "a\\|b\\*&lt;i&gt;" in said
    assert "<i>" not in said
    assert "the first: x \\| y\\_z \\|" in said


def test_the_same_studies_in_another_order_give_the_same_page():
    studies = [study("b"), study("a"), {**study("a"), "dataset": "api-docs"}]
    assert tuning.markdown(studies) == tuning.markdown(studies[::-1])


def test_inputs_are_told_apart():
    studies = [
        study(),
        {**study(), "instruction": "graph-aware"},
        {**study(), "features": "shallow", "llm": "", "instruction": ""},
    ]
    names = {line.split("|")[2].strip() for line in page(*studies).splitlines() if line.startswith("| cora")}
    assert names == {"minilm · none", "minilm · graph-aware", "shallow"}
    assert len(set(trajectories.names(studies).values())) == 3


def test_plots_are_named():
    studies = [study(), study("sage"), {**study(), "dataset": "api-docs"}]
    names = trajectories.names(studies)
    assert names == {
        tuning.key(studies[0]): "cora.tuning.zero-shot.minilm.none",
        tuning.key(studies[2]): "api-docs.tuning.zero-shot.minilm.none",
    }
    split = trajectories.names([*studies, {**study(), "split": "public"}])
    assert split[tuning.key(studies[0])] == "cora.random-60-20-20.tuning.zero-shot.minilm.none"
    long = {**study(), "instruction": "Say / what?\n" * 40}
    assert len(next(iter(trajectories.names([long]).values()))) < 120


def test_a_plot_has_both_panels():
    pytest.importorskip("matplotlib")
    studies = [study(), study("a$x_b|[l](m)<b>"), study("never", history=[*HISTORY[3:4], *HISTORY[:1]], winner=1)]
    assert "Best: a$x_b|[l](m)<b> 0.8500; gcn 0.8500; never 0.8000." in trajectories.alt(studies)
    with canvas.style():
        svg, png = trajectories.sheet(studies).files()
        assert (svg, png) == trajectories.sheet(studies[::-1]).files()
    said = [element.text for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert {"trials", "seconds of trials", "gcn", "a$x_b|[l](m)<b>", "never"} <= set(said)
    assert "Validation accuracy of the best trial so far: cora, random-60-20-20, minilm" in said


def test_a_real_study_has_what_the_page_reads(tmp_path):
    """From the search itself, so that the two cannot drift apart."""
    training.search(tmp_path, "study", choice(12), FIRST, Objective())
    summary = training.summary(tmp_path, "study", choice(12))
    said = page({**summary, **NAMES, "backbone": "gcn"})
    assert "Equal budget for every study: 12 trials, sampler tpe, no pruner, seed 1000," in said
    found = cells(said, "gcn")
    assert found[8] == "12 / 0 / 0"
    assert found[10], "importances"
    assert float(found[5]) == pytest.approx(max(row["val_accuracy"] for row in summary["history"]), abs=1e-4)


def test_the_page_needs_neither_torch_nor_optuna():
    code = "import sys; import stage_bench.leaderboard.tuning, stage_bench.leaderboard.plots.drawing;"
    code += "print({'torch', 'optuna', 'dgl', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_options_are_read_without_optuna():
    """The command line checks suites, and reads finished studies, without seconds of imports."""
    code = "import sys; import stage_bench.suite.tuning_choices, stage_bench.training.tuning;"
    code += "print({'torch', 'optuna', 'dgl'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
