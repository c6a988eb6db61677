"""Embedding is killed, or runs out of disk: what was done before stays, and the end is that of an undisturbed run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sysconfig
import time
from pathlib import Path

import numpy as np
import pytest

import tiny

NODES = 3000  # three shards
STAGE_BENCH = Path(sysconfig.get_path("scripts")) / "stage-bench"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A dataset of short texts, and a suite that embeds it with MiniLM."""
    here = tmp_path_factory.mktemp("crash")
    data = here / "data"
    data.mkdir()
    random = np.random.RandomState(0)
    words = [word for line in tiny.WORDS for word in line]
    rows = [{"text": f"{' '.join(random.choice(words, 3))} {n}", "label": n % 3} for n in range(NODES)]
    (data / "nodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (data / "edges.csv").write_text("src,dst\n" + "".join(f"{n},{n + 1}\n" for n in range(NODES - 1)))
    (data / "dataset.yaml").write_text("name: words\ntext: '{text}'\n")
    suite = {"name": "s", "datasets": [{"name": "words", "path": "data"}], "llms": ["minilm"], "backbones": ["mlp"]}
    (here / "suite.yaml").write_text(json.dumps(suite))
    return here


def command(place: Path, results: Path) -> list[str]:
    return [str(STAGE_BENCH), "prepare", str(place / "suite.yaml"), "--results", str(results), "--device", "cpu"]


def embedding(results: Path) -> Path:
    (folder,) = (results / "embeddings").iterdir()
    return folder


@pytest.fixture(scope="module")
def undisturbed(place) -> bytes:
    results = place / "undisturbed"
    done = subprocess.run(command(place, results), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "3,000 texts, dimension 384" in done.stderr
    return (embedding(results) / "vectors.npy").read_bytes()


def test_killed_and_resumed_it_is_byte_identical(place, undisturbed):
    results = place / "killed"
    process = subprocess.Popen(
        command(place, results), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while not list(results.glob("embeddings/*/shards/*.json")):
        assert process.poll() is None
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    folder = embedding(results)
    before = {path.name: path.stat().st_mtime_ns for path in (folder / "shards").iterdir()}
    assert not (folder / "manifest.json").exists()
    assert 1 <= len(before) < 3

    done = subprocess.run(command(place, results), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (folder / "vectors.npy").read_bytes() == undisturbed
    after = {path.name: path.stat().st_mtime_ns for path in (folder / "shards").iterdir()}
    assert len(after) == 3
    assert {name: after[name] for name in before} == before, "what was done is not done again"


def test_a_full_disk_is_one_line_and_costs_nothing_but_the_rest(place, undisturbed, tmp_path):
    """A disk of 3.2 MiB, in a mount namespace of its own, holds two shards of 1.5 MiB each."""
    disk = tmp_path / "disk"
    disk.mkdir()
    trial = ["unshare", "--user", "--map-root-user", "--mount"]
    mount = f"mount -t tmpfs -o size=3300k none {disk}"
    if shutil.which("unshare") is None or subprocess.run([*trial, "sh", "-c", mount], check=False).returncode:
        pytest.skip("no small disk: this machine allows no mount namespaces")
    run = " ".join(command(place, disk / "results"))
    script = f"""
        {mount}
        {run} 2>{tmp_path}/first; echo $? >{tmp_path}/code
        ls {disk}/results/embeddings/*/shards >{tmp_path}/kept
        mount -o remount,size=50m {disk}
        {run} 2>{tmp_path}/second; echo $? >>{tmp_path}/code
        cp {disk}/results/embeddings/*/vectors.npy {tmp_path}/vectors.npy
    """
    subprocess.run([*trial, "sh", "-c", script], check=False, stdout=subprocess.DEVNULL)
    first = (tmp_path / "first").read_text()
    assert (tmp_path / "code").read_text().split() == ["1", "0"], first
    assert "is full: make room and run again (2 of 3 parts of this embedding are kept)" in first
    assert "Traceback" not in first
    assert (tmp_path / "kept").read_text().split() == ["00000.json", "00001.json"]
    assert (tmp_path / "vectors.npy").read_bytes() == undisturbed


def test_two_processes_share_the_work(place, undisturbed):
    results = place / "together"
    processes = [
        subprocess.Popen(command(place, results), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert (embedding(results) / "vectors.npy").read_bytes() == undisturbed


def test_a_node_with_half_a_character_is_named(place, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(place / "data", data)
    lines = (data / "nodes.jsonl").read_text().splitlines()
    lines[7] = '{"text": "broken \\ud800 text", "label": 1}'
    lines[8] = '{"text": "a NUL \\u0000 is a character", "label": 2}'
    (data / "nodes.jsonl").write_text("\n".join(lines[:200]) + "\n")
    (data / "edges.csv").write_text("src,dst\n0,1\n")
    shutil.copy(place / "suite.yaml", tmp_path)
    done = subprocess.run(command(tmp_path, tmp_path / "results"), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the text of node 7 holds a lone surrogate (U+D800, character 7)" in done.stderr
    assert "Traceback" not in done.stderr
    lines[7] = lines[6]
    (data / "nodes.jsonl").write_text("\n".join(lines[:200]) + "\n")
    done = subprocess.run(command(tmp_path, tmp_path / "results"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
