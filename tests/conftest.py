"""What several tests share: a tiny dataset, suites, the console script, the real data."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

from stage_bench import registry
from stage_bench.suite import planning
from stage_bench.suite.choices import choose
from stage_bench.suite.planning import Plan
from stage_bench.suite.reading import read

# A shell without job control starts what runs in the background deaf to Ctrl-C, and the commands of the tests with it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]
NUM_NODES = 40
LABELS = ("birds", "cars", "dogs")
WORDS = {
    "birds": ["wing", "feather", "nest", "beak", "song", "flight", "egg", "branch", "sky", "migration"],
    "cars": ["engine", "wheel", "brake", "fuel", "road", "gear", "motor", "driver", "garage", "tyre"],
    "dogs": ["bark", "tail", "paw", "leash", "bone", "puppy", "kennel", "fur", "walk", "fetch"],
}


@pytest.fixture
def tiny_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a dataset of 40 nodes in three communities into `tmp_path/<name>`; keywords are keys of dataset.yaml."""

    def make(name: str = "tiny", seed: int = 0, **card: Any) -> Path:
        random = np.random.RandomState(seed)
        labels = np.arange(NUM_NODES) % len(LABELS)
        nodes = [
            {"title": f"Node {node}", "text": " ".join(random.choice(WORDS[LABELS[label]], 6)), "label": LABELS[label]}
            for node, label in enumerate(labels)
        ]
        joined = random.rand(NUM_NODES, NUM_NODES) < np.where(labels[:, None] == labels[None, :], 0.3, 0.03)
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "nodes.jsonl").write_text("".join(json.dumps(node) + "\n" for node in nodes))
        edges = zip(*np.nonzero(np.triu(joined, 1)), strict=True)
        (folder / "edges.csv").write_text("src,dst\n" + "".join(f"{src},{dst}\n" for src, dst in edges))
        instructions = {
            "default": "Say what the text is about.",
            "graph-aware": "Say what the text is about. Neighbours help.",
        }
        facts = {"name": name, "text": "{title}: {text}", "instructions": instructions, **card}
        (folder / "dataset.yaml").write_text(json.dumps(facts))  # JSON is YAML
        return folder

    return make


@pytest.fixture
def raw_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a dataset to the letter, right or wrong, into `tmp_path/data`; other keywords are JSON files.

    nodes: rows, or the file's content; by default six rows with a text `t` and the labels a and b in turn.
    """
    rows = [{"t": f"text {node}", "label": "ab"[node % 2]} for node in range(6)]

    def make(
        nodes: list[dict[str, Any]] | str | bytes = rows,
        edges: str | None = "src,dst\n0,1\n",
        card: str = "text: '{t}'\n",
        ending: str = "jsonl",
        **more: str,
    ) -> Path:
        path = tmp_path / "data"
        path.mkdir()
        if isinstance(nodes, list):
            nodes = "".join(json.dumps(row) + "\n" for row in nodes)
        (path / f"nodes.{ending}").write_bytes(nodes if isinstance(nodes, bytes) else nodes.encode())
        (path / "dataset.yaml").write_text(card)
        if edges is not None:
            (path / "edges.csv").write_text(edges)
        for name, text in more.items():
            (path / f"{name}.json").write_text(text)
        return path

    return make


@pytest.fixture
def suite_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a suite, YAML text or a mapping, to `tmp_path/<name>`."""

    def make(suite: str | dict[str, Any], name: str = "suite.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(suite) if isinstance(suite, dict) else dedent(suite).lstrip("\n"))
        return path

    return make


@pytest.fixture
def make_plan(tmp_path: Path) -> Callable[..., Plan]:
    """The plan of a suite file; the data folder is empty unless one is given."""

    def make(suite: Path, data: Path | None = None) -> Plan:
        return planning.make(choose(*read(suite)), data or tmp_path / "no-data")

    return make


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    monkeypatch.setattr(registry, "_registered", {kind: {} for kind in registry.KINDS})
    monkeypatch.setattr(registry, "_loaded_plugins", type(registry._loaded_plugins)())


@pytest.fixture
def stage_bench(tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """Runs the console script in `tmp_path/work`: (exit code, stdout, stderr)."""
    work = tmp_path / "work"
    work.mkdir()

    def run(*args: str | Path, data: Path | None = None, path: Sequence[Path] = ()) -> tuple[int, str, str]:
        """data: $STAGE_BENCH_DATA, unset where it is None; path: more folders to import from."""
        env = {key: value for key, value in os.environ.items() if key not in ("STAGE_BENCH_DATA", "PYTHONPATH")}
        env |= {"COLUMNS": "200", "NO_COLOR": "1", "PYTHONPATH": os.pathsep.join(map(str, path))}
        if data is not None:
            env["STAGE_BENCH_DATA"] = str(data)
        script = Path(sysconfig.get_path("scripts")) / "stage-bench"
        done = subprocess.run(
            [str(script), *map(str, args)], cwd=work, env=env, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture(scope="module")  # not of the session: Playwright has an event loop going for as long as it runs
def browser() -> Iterator[Any]:
    """Debian's Chromium without a window, driven by Playwright; skipped where one is absent, but never in CI."""
    chromium = shutil.which("chromium")
    there = {"chromium": chromium, "playwright": importlib.util.find_spec("playwright")}
    absent = " and ".join(name for name, found in there.items() if not found)
    if absent and not os.environ.get("CI"):
        pytest.skip(f"not installed: {absent}")
    assert not absent, f"not installed: {absent}"
    from playwright.sync_api import sync_playwright

    quiet = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=chromium, args=["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", *quiet]
        )
        yield running
        running.close()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with the real datasets: $STAGE_BENCH_DATA, else `../shared/data` beside the checkout."""
    named = os.environ.get("STAGE_BENCH_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not (folder / "cora" / "dataset.yaml").is_file():
        where = f"STAGE_BENCH_DATA={named}" if named else "../shared/data"
        pytest.skip(f"no real data: {where} holds no cora/dataset.yaml; set STAGE_BENCH_DATA to a folder that does")
    return folder
