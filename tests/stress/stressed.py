"""The suite that is put under stress, and the console script at work on it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sysconfig
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tiny

SCRIPT = Path(sysconfig.get_path("scripts")) / "stage-bench"
LIMIT = 300.0  # seconds that any one run may take, on a machine that others use too
RANGE_BYTES = 1 << 20  # of a diffused matrix that are put together at a time

# What a plug-in may do, and no user would: everything that is diffused counts as too large for the memory.
PLUGIN = f"""
from stage_bench.diffusion import budget, out_of_core
budget.BEFORE_BYTES = 10**13
out_of_core._RANGE_BYTES = {RANGE_BYTES}
"""


@dataclass(frozen=True)
class Subject:
    """A suite with its dataset. jobs: how many its plan has; nodes: those of its dataset."""

    suite: Path
    jobs: int
    nodes: int
    has_minilm: bool


def small(place: Path) -> Subject:
    """Seconds of work without a language model: features, a diffusion, a study, runs, an ensemble."""
    return _written(place, nodes=240, llms=[], trials=3, seeds=1)


def whole(place: Path, has_minilm: bool) -> Subject:
    """Some 25 seconds of work on two quiet cores; with MiniLM, embeddings in three parts and a wide diffusion."""
    return _written(place, nodes=2500, llms=["minilm"] if has_minilm else [], trials=5, seeds=2)


def _written(place: Path, nodes: int, llms: list[str], trials: int, seeds: int) -> Subject:
    data = place / "data"
    data.mkdir(parents=True)
    random = np.random.RandomState(0)
    labels = np.arange(nodes) % 3
    texts = [
        f"{' '.join(random.choice(tiny.WORDS[3], 2))} {random.choice(tiny.WORDS[label])} {node}"
        for node, label in enumerate(labels)
    ]
    rows = [{"text": text, "label": int(label)} for text, label in zip(texts, labels, strict=True)]
    (data / "nodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = random.randint(0, nodes, (2 * nodes, 2))
    kept = (labels[pairs[:, 0]] == labels[pairs[:, 1]]) | (random.rand(len(pairs)) < 0.1)
    lines = [f"{src},{dst}\n" for src, dst in pairs[kept] if src != dst]
    (data / "edges.csv").write_text("src,dst\n" + "".join(lines))
    (data / "dataset.yaml").write_text("name: words\ntext: '{text}'\n")
    (place / "in_files.py").write_text(PLUGIN)
    tuned = {"name": "gcn", "tuning": {"trials": trials}}
    suite = {
        "name": "stressed",
        "plugins": ["in_files.py"],
        "datasets": [{"name": "words", "path": "data"}],
        "llms": llms,
        "features": [{"name": "shallow", "dimension": 32}],
        "backbones": ["mlp", "gcn", {"name": "sign", "s": 2, "p": 2, "t": 0}, tuned],
        "ensembles": [{"name": "both", "members": ["mlp", "gcn"], "combine": "mean-probability"}],
        "seeds": seeds,
        "memory": "8GB",
        "training": {"epochs": 20, "patience": 20},
    }
    (place / "suite.yaml").write_text(json.dumps(suite))  # JSON is YAML
    inputs = len(llms) + 1
    return Subject(place / "suite.yaml", inputs * (2 + 5 * seeds), nodes, bool(llms))


class Run:
    """`stage-bench run`, in a session of its own; what it says goes to a file beside its results.

    root: where `results` and `reports` are. inside: a command that runs another one somewhere else (disks.py).
    notes: where what it says goes, if not to `root`. command: another one than `run`, which takes no --workers.
    """

    def __init__(
        self,
        subject: Subject,
        root: Path,
        workers: int = 2,
        inside: Sequence[str] = (),
        notes: Path | None = None,
        command: str = "run",
    ) -> None:
        place = notes or root
        place.mkdir(parents=True, exist_ok=True)
        self._said = place / f"said-{sum(1 for _ in place.glob('said-*')):03d}"
        words = [*inside, str(SCRIPT), command, str(subject.suite)]
        words += ["--device", "cpu", "--workers", str(workers)] if command == "run" else []
        words += ["--results", str(root / "results"), "--reports", str(root / "reports")]
        env = {key: value for key, value in os.environ.items() if key != "STAGE_BENCH_DATA"}
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                env={**env, "NO_COLOR": "1", "COLUMNS": "200"},
                start_new_session=True,
                # Where the tests run in a shell's background Ctrl-C is ignored, and so it would be by what they start.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        self.began = time.monotonic()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def said(self) -> str:
        return self._said.read_text(errors="replace")

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def wait(self, seconds: float = LIMIT) -> int:
        """The exit code; a run that takes longer than `seconds` is ended and is a failure."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.end()
            raise AssertionError(f"still at work after {seconds:g} s:\n{self.said}") from None

    def kill(self, whole_group: bool) -> bool:
        """SIGKILL, to all its processes or to the first alone, whose workers are to end by themselves.

        False: it had ended just before, and well.
        """
        if self.process.poll() is None:
            (os.killpg if whole_group else os.kill)(self.pid, signal.SIGKILL)
        code = self.process.wait()
        assert code in (0, -signal.SIGKILL), self.said
        return code != 0

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Its processes stand still."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGSTOP)
        yield
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGCONT)

    def end(self) -> None:
        """Whatever is left of it."""
        for pid in self.left():
            os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def left(self, within: float = 0.0) -> list[int]:
        """Processes of its session that are still alive, after so many seconds at most."""
        until = time.monotonic() + within
        while (found := [pid for pid in _processes() if _session(pid) == self.pid]) and time.monotonic() < until:
            time.sleep(0.02)
        return found


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _session(pid: int) -> int:
    """Of a process that is alive; 0 for one that is gone, or dead and not yet waited for."""
    try:
        state, _, _, session, *_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if state in "ZX" else int(session)
