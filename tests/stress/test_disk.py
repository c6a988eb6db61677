"""A disk that is full, or that nothing can be written to: one clear line, and what is done is kept."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

import disks
import ledger
import moments
import stressed
import watching

pytestmark = pytest.mark.stress

PHASES = ["embedding", "embedding", "diffusing", "writing", "tuning", "training"]


def complaint(run: stressed.Run) -> str:
    """The one line in which a run says what went wrong, its last."""
    *before, last = run.said.splitlines()
    assert last.startswith("error: "), run.said
    # What is too large for the room that is left fails by itself before the disk is full; others go on.
    before = [line for line in before if "diffusing needs" not in line]
    assert not any(sign in line for line in before for sign in ("FAILED", "disk", "error", "Traceback")), run.said
    return last


def test_a_disk_that_fills_up(undisturbed, tmp_path, tell):
    """In each phase; after room was made, the same command goes on, to the same end."""
    at = random.Random(1)
    with disks.namespace() as there:
        disk = disks.SmallDisk(there, tmp_path / "disk", megabytes=120)
        root, notes = tmp_path / "disk", tmp_path / "notes"
        before = ledger.Found()
        for place, phase in enumerate(PHASES):
            moment = moments.draw(phase, at, 0.0, few=place % 2 == 0)
            with watching.Watch(disk.folder) as watch:
                run = stressed.Run(undisturbed.subject, root, 1 + place % 2, there.inside, notes)
                came = watch.until(moment, lambda run=run: run.process.poll() is not None, stressed.LIMIT)
                disk.fill()
                while came and run.process.poll() is None:
                    assert run.seconds < stressed.LIMIT
                    watch.listen(0.02)
                    disk.fill()
            code = run.wait()
            tell(f"full {phase:<10} {run.seconds:5.1f} s: {code}, {run.said.splitlines()[-1]}")
            assert code == 1, run.said
            assert "make room and run again" in complaint(run)
            assert not run.left(within=5.0)
            found = ledger.look(disk.folder)
            assert not (broken := ledger.kept(before, found)), broken
            before = found
            disk.make_room()
        run = stressed.Run(undisturbed.subject, root, 2, there.inside, notes)
        assert run.wait() == 0, run.said
        found = undisturbed.check(disk.folder)
        assert not ledger.kept(before, found)
        assert not found.temporary, "a process that ends by itself leaves none"
        # A report is written in one go, so there the disk is full beforehand.
        disk.fill()
        run = stressed.Run(undisturbed.subject, root, 2, there.inside, notes)
        code = run.wait()
        tell(f"full reporting  {run.seconds:5.1f} s: {code}, {run.said.splitlines()[-1]}")
        assert code == 1, run.said
        assert "make room and run again" in complaint(run)
        disk.make_room()
        run = stressed.Run(undisturbed.subject, root, 2, there.inside, notes)
        assert run.wait() == 0, run.said
        assert not undisturbed.check(disk.folder).temporary


@pytest.mark.parametrize("done", ["nothing", "something", "everything"])
def test_folders_that_cannot_be_written(undisturbed, tmp_path, done):
    """Whether there is something to do or not: nothing is begun, and nothing changed."""
    root = tmp_path / "root"
    if done == "nothing":
        (root / "results").mkdir(parents=True)
    else:
        shutil.copytree(undisturbed.subject.suite.parent / "undisturbed", root)
    if done == "something":
        for folder in sorted((root / "results" / "runs").iterdir())[::3]:
            shutil.rmtree(folder)
    before = listed(root)
    with disks.namespace() as there:
        there.mount("--bind", root, root)
        there.mount("-o", "remount,ro,bind", root)
        run = stressed.Run(undisturbed.subject, root, 1, there.inside, tmp_path / "notes")
        assert run.wait() == 2, run.said
        assert "choose another --results" in complaint(run)
        assert len(run.said.splitlines()) == 1
    assert listed(root) == before


def test_results_that_cannot_be_written_can_be_reported(undisturbed, tmp_path):
    """A report only reads them, and may go somewhere else."""
    root = tmp_path / "root"
    shutil.copytree(undisturbed.subject.suite.parent / "undisturbed" / "results", root / "results")
    before = listed(root)
    with disks.namespace() as there:
        there.mount("--bind", root / "results", root / "results")
        there.mount("-o", "remount,ro,bind", root / "results")
        run = stressed.Run(undisturbed.subject, root, 1, there.inside, tmp_path / "notes", "report")
        assert run.wait() == 0, run.said
    undisturbed.check(root)
    assert [line for line in listed(root) if "/reports" not in line[0]] == before


def listed(root: Path) -> list[tuple[str, int, int]]:
    paths = sorted(root.rglob("*"))
    return [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in paths]
