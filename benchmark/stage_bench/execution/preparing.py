"""`prepare`, its first half: have the named datasets of a suite in the data folder."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.text import Text

from stage_bench import registry
from stage_bench.datasets.upstream import obtaining
from stage_bench.errors import StageBenchError
from stage_bench.suite.choices import Choices

_LINE_EVERY = 10.0  # seconds between lines, where there is no bar


def obtain_datasets(choices: Choices, data: Path, console: Console, available: bool = False) -> None:
    """Fetch and convert what is missing and can be had.

    Raises:
        StageBenchError: a dataset that the suite does not call optional cannot be had; with its place in the suite.
            With `available` every one is optional.
    """
    for position, entry in enumerate(choices.datasets):
        spec = registry.specs("datasets").get(entry.name)
        if entry.path is not None or spec is None or not spec.sources or (data / spec.name / "dataset.yaml").is_file():
            continue
        with _Shown(console) as shown:
            try:
                lines = obtaining.obtain(spec, data, shown.step)
            except StageBenchError as error:
                if not entry.optional and not available:
                    raise choices.document.error(["datasets", position], str(error)) from None
                lines = [f"{entry.name} cannot be had and is optional: {error}"]
        for line in lines:
            console.print(Text(line), soft_wrap=True, highlight=False)


class _Shown:
    """A bar in a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.what = ""
        self.last_line = 0.0
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self.task = self.bar.add_task("", total=None)

    def __enter__(self) -> _Shown:
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def step(self, done: int, total: int, what: str) -> None:
        if what != self.what:
            self.bar.reset(self.task, description=what, total=total or None)
        self.bar.update(self.task, completed=done, total=total or None)
        now = time.monotonic()
        if not self.console.is_terminal and (what != self.what or now - self.last_line > _LINE_EVERY):
            self.last_line = now
            size = f": {done / 2**20:,.0f} of {total / 2**20:,.0f} MiB" if done and total else ""
            self.console.print(Text(f"{what}{size}"), soft_wrap=True, highlight=False)
        self.what = what
