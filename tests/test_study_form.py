"""What a report.json says of studies is looked at before anything is made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import boards
import reported
from stage_bench import seals
from stage_bench.errors import StageBenchError
from stage_bench.leaderboard import facts_file, study_form, writing

SOUND = reported.study("gcn")
TRIAL = SOUND["history"][0]


def test_a_sound_study() -> None:
    assert study_form.problem([]) == ""
    assert study_form.problem([SOUND, {**SOUND, "scope": "shared", "space": {}, "timeout": 3}]) == ""


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"dataset": None}, "1.dataset: Input should be a valid string"),
        ({"history": []}, "1.history: List should have at least 1 item after validation, not 0"),
        ({"history": [{**TRIAL, "seconds": -1}]}, "1.history.0.seconds: Input should be greater than or equal to 0"),
        ({"history": [{**TRIAL, "seconds": float("inf")}]}, "1.history.0.seconds: Input should be"),
        ({"history": [{**TRIAL, "seconds": 10**400}]}, "1.history.0.seconds: Input should be"),
        ({"history": [{**TRIAL, "values": {"lr": []}}]}, "1.history.0.values.lr"),
        ({"history": [{**TRIAL, "state": "done"}]}, "1.history.0.state: Input should be 'ok', 'pruned' or 'failed'"),
        ({"history": [{**TRIAL, "val_loss": None}], "winner": 0}, "1: trial 0 is ok, and lacks what it came to"),
        ({"winner": 4}, "1: the winner is no trial that was carried to its end"),
        ({"winner": 1}, "1: the winner is no trial that was carried to its end"),
        ({"metric": "test_accuracy"}, "1.metric: Input should be 'val_accuracy' or 'val_loss'"),
        ({"importances": {"lr": "much"}}, "1.importances.lr: Input should be a valid number"),
    ],
)
def test_a_study_that_says_something_else(changes: dict[str, Any], problem: str) -> None:
    assert study_form.problem([SOUND, {**SOUND, **changes}]).startswith(problem)


def test_a_report_with_such_a_study_is_refused_in_a_line(tmp_path: Path) -> None:
    writing.write(tmp_path, boards.made(*boards.several("gcn", [0.8, 0.9])))
    content = json.loads((tmp_path / "report.json").read_text())
    (tmp_path / "report.json").write_text(json.dumps(seals.sealed({**content, "studies": [{}]})))
    with pytest.raises(StageBenchError) as caught:
        facts_file.read(tmp_path)
    assert str(caught.value) == f"{tmp_path / 'report.json'}: studies.0.dataset: Field required"
