"""The time left that a job's steps are shown with."""

import io

import pytest
from rich.console import Console

from stage_bench.execution import progress
from stage_bench.features.spec import FeatureChoice
from stage_bench.suite.jobs import EmbedJob


def test_each_kind_of_step_has_its_own_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts that follow fine-tuning steps do not go at the steps' pace."""
    clock = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: clock[0])
    choice = FeatureChoice("lora", "lora", {})
    job = EmbedJob(id="x", content={}, dataset="d", features="lora", llm="", instruction="", choice=choice, nodes=100)
    said = io.StringIO()
    shown = progress.Progress(Console(file=said, width=200), [job])
    shown.start(job)
    steps = [
        (0, 10, "fine-tuning steps, loss 1"),
        (5, 10, "fine-tuning steps, loss 0.5"),
        (0, 100, "texts"),
        (50, 100, "texts"),
    ]
    for seconds, step in zip((0, 100, 100, 120), steps, strict=True):
        clock[0] = seconds
        shown.step(job, *step)
    lines = said.getvalue().splitlines()
    assert any("5/10 fine-tuning steps, loss 0.5, 1 min 40 s left" in line for line in lines)
    assert any("50/100 texts, 2/s, 20 s left" in line for line in lines), lines
