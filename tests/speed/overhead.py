"""What the runner itself costs a job: python tests/speed/overhead.py [--seeds 500] [--workers 1] [--profile]

A suite of 2,000 jobs on a graph of 60 nodes, three models of one epoch each and their ensemble for every seed. Printed:

* the runner's seconds a job: from the first job's beginning to the last one's end, less what passed inside `fit`; and
  the same of the processor's time, which other programs on the machine disturb less. With one worker all jobs are done
  in the process that is measured; with more, `fit` is in the workers, and what is printed is the seconds of a job and
  worker without the training and inference in its record
* memory: resident, at job 200 and at the last one
* start-up: `plan` on an empty folder, which imports no torch; `run` up to its first model, and beside it what it takes
  here to import torch (with what its optimisers import), DGL and scikit-learn, and nothing else
* the resume scan: `plan` on the finished folder, and `run` with nothing to do, of which the report is the larger part

Everything is on this machine, in one run. No number is asserted.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import resource
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SCRIPT = Path(sysconfig.get_path("scripts")) / "stage-bench"
EARLY = 200  # the job at which memory is looked at first
BARS = {"a job": 0.020, "start-up": 3.0, "scan": 3.0}  # as the issue asks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=500, help="four jobs each (500)")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--profile", action="store_true", help="print where the runner's time goes")
    parser.add_argument("--keep", type=Path, help="do it here, and leave it there (default: nowhere)")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--began", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        inside(arguments, arguments.inside)
        return
    with tempfile.TemporaryDirectory() as temporary:
        place = arguments.keep or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        write(place, arguments.seeds)
        print(f"{4 * arguments.seeds:,} jobs, {arguments.workers} worker{'s' if arguments.workers > 1 else ''}")
        shown("start-up, plan on an empty folder", *command(place, "plan", "suite.yaml"), BARS["start-up"])
        again = [sys.executable, __file__, "--inside", str(place), "--workers", str(arguments.workers)]
        imports = seconds_of([sys.executable, "-c", "import torch, torch._dynamo, dgl, sklearn.decomposition"], place)
        print(f"importing torch, DGL and scikit-learn: {imports[0]:.2f} s, of the processor {imports[1]:.2f} s")
        begin = time.time()
        subprocess.run([*again, *(["--profile"] if arguments.profile else []), "--began", str(begin)], check=True)
        shown("resume scan, plan on the finished folder", *command(place, "plan", "suite.yaml"), BARS["scan"])
        whole = command(place, "run", "suite.yaml", "--device", "cpu")
        report = command(place, "report", "suite.yaml")
        print(
            f"run with nothing to do: {whole[0]:.2f} s, of the processor {whole[1]:.2f} s; "
            f"of that the report, by `report`: {report[0]:.2f} s, of the processor {report[1]:.2f} s"
        )


def write(place: Path, seeds: int) -> None:
    sys.path.insert(0, str(HERE.parent))
    import tiny

    tiny.write_folder(place / "data", 60)
    suite = {
        "name": "overhead",
        "datasets": [{"name": "tiny", "path": "data"}],
        "features": [{"name": "shallow", "dimension": 4}],
        "training": {"epochs": 1},
        "backbones": [{"name": name, "hidden": 4} for name in ("mlp", "gcn", "sage")],
        "ensembles": [{"name": "all", "members": [f"{name}(hidden=4)" for name in ("mlp", "gcn", "sage")]}],
        "seeds": seeds,
    }
    (place / "suite.yaml").write_text(json.dumps(suite))


def command(place: Path, *arguments: str) -> tuple[float, float]:
    return seconds_of([str(SCRIPT), *arguments], place)


def seconds_of(command: list[str], place: Path) -> tuple[float, float]:
    """Seconds of a process, and of the processor in it."""
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=place, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - begin, spent


def shown(what: str, seconds: float, processor: float, bar: float) -> None:
    print(f"{what}: {seconds:.3f} s, of the processor {processor:.3f} s (asked: under {bar:g})", flush=True)


def inside(arguments: argparse.Namespace, place: Path) -> None:
    """One `run`, measured from within."""
    from rich.console import Console

    from stage_bench.execution import running
    from stage_bench.execution.fitting import Fitter
    from stage_bench.execution.progress import Progress

    in_fit = processor = 0.0
    first = last = 0.0
    ticks: list[float] = []
    held: dict[int, float] = {}
    fit, start, finish = Fitter.fit, Progress.start, Progress.finish

    def timed(self: Any, *given: Any, **more: Any) -> Any:
        nonlocal in_fit, processor
        begin, ticked = time.perf_counter(), time.process_time()
        try:
            return fit(self, *given, **more)
        finally:
            in_fit += time.perf_counter() - begin
            processor += time.process_time() - ticked

    def started(self: Progress, job: Any) -> None:
        nonlocal first
        if job.kind == "train" and not first:  # the embedding, and what training does once, are no overhead of a job
            first = time.perf_counter()
            ticks.append(time.process_time())
            if profile:
                profile.enable()
        start(self, job)

    def finished(self: Progress, job: Any, result: str) -> None:
        nonlocal last
        finish(self, job, result)
        if self.done in (EARLY, self.total):
            held[self.done] = resident()
        last = time.perf_counter()
        ticks[1:] = [time.process_time()]

    Fitter.fit, Progress.start, Progress.finish = timed, started, finished  # type: ignore[method-assign]
    profile = cProfile.Profile() if arguments.profile else None
    folders = running.Folders(place, place / "results", place / "reports")
    plan = running.make_plan(place / "suite.yaml", folders)
    jobs = running.todo(plan, folders, print)
    began = time.time() - time.perf_counter()
    with (place / "said").open("w") as said:
        failed = running.carry_out(plan, jobs, folders, "cpu", Console(file=said), arguments.workers)
    if profile:
        profile.disable()
    assert not failed, failed[0]
    until = began + first - arguments.began
    print(f"start-up, run until its first model: {until:.2f} s, of the processor {ticks[0]:.2f} s")
    own, ticked = last - first - in_fit, ticks[1] - ticks[0] - processor
    if arguments.workers > 1:
        records = [json.loads(path.read_text()) for path in (place / "results" / "runs").glob("*/run.json")]
        trained = [record["seconds"] for record in records if record["kind"] == "train"]
        own = (last - first) * arguments.workers - sum(each["train"] + each["infer"] for each in trained)
    shown(
        f"the runner's own, a job ({own:.1f} s of {last - first:.1f})",
        own / len(jobs),
        ticked / len(jobs),
        BARS["a job"],
    )
    print(", ".join(f"{megabytes:.1f} MB at job {number:,}" for number, megabytes in held.items()), flush=True)
    if profile:
        pstats.Stats(profile).sort_stats("cumtime").print_stats("stage_bench", 45)


def resident() -> float:
    """MB that this process holds."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in status if line.startswith("VmRSS:"))


if __name__ == "__main__":
    main()
