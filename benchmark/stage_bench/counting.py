"""A count that goes up, on standard error: a bar in a terminal, elsewhere a line every ten seconds."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

_LINE_EVERY = 10.0  # seconds; what takes less says nothing


class Counting:
    """Use as a context manager around the work."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Bars(
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[what]}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._bar: TaskID = self._bars.add_task("", total=None, what="")
        self._last_line = time.perf_counter()

    def __enter__(self) -> Counting:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def step(self, done: int, total: int, what: str) -> None:
        """So many of so many are `what` (checked, copied, ...)."""
        self._bars.update(self._bar, completed=done, total=total, what=what)
        now = time.perf_counter()
        if not self._console.is_terminal and now - self._last_line > _LINE_EVERY:
            self._last_line = now
            self._console.print(Text(f"{done:,} of {total:,} {what}"), soft_wrap=True, highlight=False)
