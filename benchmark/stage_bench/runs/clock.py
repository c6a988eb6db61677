"""Time by phase, and peak memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stage_bench.runs.energy import Meter

PHASES = ("load", "answer", "finetune", "embed", "diffuse", "tune", "train", "infer")
"""answer: a chat model's answers, asked for; finetune: a language model trained on labels."""

ONCE = {
    "answer": "answers_id",
    "finetune": "embedding_id",
    "embed": "embedding_id",
    "diffuse": "diffusion_id",
    "tune": "study_id",
}
"""The phases whose work several runs share, and what tells one such work from another."""


class Clock:
    """Adds up the seconds of each phase.

    synchronize: waits for the device; called before every reading, so that queued work is not left out.
    meter: runs in every phase, for the joules of all of them together.
    """

    def __init__(self, synchronize: Callable[[], None] = lambda: None, meter: Meter | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self._synchronize = synchronize
        self._meter = meter or Meter()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        assert name in PHASES
        self._synchronize()
        with self._meter:  # whose readings are on no phase's clock
            begin = time.perf_counter()
            try:
                yield
            finally:
                self._synchronize()
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin


class PeakMemory:
    """Peak resident memory of this process since `start`, in MB; None where the system cannot tell (not Linux)."""

    def start(self) -> None:
        try:
            Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM (proc(5))
            self._can = True
        except OSError:
            self._can = False

    def megabytes(self) -> float | None:
        if not self._can:
            return None
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
        return None
