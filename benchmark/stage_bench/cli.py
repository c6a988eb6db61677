"""The commands. Nothing heavy is imported here: `--help` and `ls` answer at once."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stage_bench import full_disk, printing, stopping
from stage_bench.errors import StageBenchError, shown

if TYPE_CHECKING:
    from rich.console import Console

    from stage_bench.execution.running import Folders

app = typer.Typer(
    help="Benchmark embedding models and GNNs on text-attributed graphs: suites in, leaderboards out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Suite = Annotated[Path, typer.Argument(help="A suite, such as suites/quick.yaml.", metavar="SUITE")]
Results = Annotated[Path, typer.Option(help="Runs, embeddings and studies.", metavar="DIR")]
Reports = Annotated[Path, typer.Option(help="Leaderboards.", metavar="DIR")]
Data = Annotated[
    Path | None,
    typer.Option(help="Datasets; by default $STAGE_BENCH_DATA, else the user's cache folder.", metavar="DIR"),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.", metavar="auto|cpu|cuda")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Jobs on small graphs side by side; by default one a core.", metavar="N")
]
Executor = Annotated[str, typer.Option(help="Where jobs are done (`stage-bench ls executors`).", metavar="local|ray")]
MaxFailures = Annotated[
    int | None, typer.Option(min=1, help="Start no more jobs after so many have failed.", metavar="N")
]
RetryFailed = Annotated[
    bool | None,
    typer.Option(
        "--retry-failed/--no-retry-failed",
        help="Try what fails in this call once more at its end, alone; or leave alone what failed in earlier ones. "
        "By default what failed in earlier calls is tried again.",
        show_default=False,
    ),
]
JobTime = Annotated[
    float | None, typer.Option(min=0.001, help="What a job may take; one that takes longer fails.", metavar="SECONDS")
]
JobMemory = Annotated[str | None, typer.Option(help="What a job may hold in memory, such as 8GiB.", metavar="SIZE")]
StudyStorage = Annotated[
    str | None,
    typer.Option(
        "--storage",
        help="Where studies share their trials: journal:PATH, or a database such as sqlite:///PATH or "
        "postgresql://user@host/name. By default in the results folder.",
        metavar="URL",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        help="Of a Ray cluster's head, or auto; by default $RAY_ADDRESS, else Ray is started here.", metavar="HOST:PORT"
    ),
]
RayRetries = Annotated[
    int | None,
    typer.Option(
        min=0, help="How often a job is done again whose node or process was lost; 3 unless said.", metavar="N"
    ),
]
SharedResults = Annotated[
    bool | None,
    typer.Option(
        "--shared-results/--no-shared-results",
        help="Ray nodes all work in the results folder; or none does, and files are fetched. "
        "By default those do that see it.",
        show_default=False,
    ),
]
Available = Annotated[
    bool, typer.Option("--available", help="Leave out, with a word, what needs data or weights that are not here.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Plugins = Annotated[
    list[Path] | None,
    typer.Option("--plugin", help="A Python file that registers more; may be repeated.", metavar="FILE"),
]
KINDS = {"dataset": "datasets", "llm": "llms", "feature": "features", "backbone": "backbones"}
SHOWN = {**KINDS, "run": "runs"}
CHECKED = {**KINDS, "report": "reports"}


@app.command()
def run(
    suite: Suite,
    results: Results = Path("results"),
    data: Data = None,
    reports: Reports = Path("reports"),
    device: Device = "auto",
    workers: Workers = None,
    executor: Executor = "local",
    max_failures: MaxFailures = None,
    retry_failed: RetryFailed = None,
    job_time: JobTime = None,
    job_memory: JobMemory = None,
    storage: StudyStorage = None,
    address: Address = None,
    ray_retries: RayRetries = None,
    shared_results: SharedResults = None,
    available: Available = False,
    as_json: Json = False,
    plugin: Plugins = None,
) -> None:
    """Do what is missing of a suite, then write and show its leaderboard."""
    from stage_bench.execution import running

    console, folders = _start(data, results, reports, device, plugin)
    options = running.options(
        executor, max_failures, job_time, job_memory, storage, address, ray_retries, shared_results
    )
    running.check_folders(folders)
    plan = running.make_plan(suite, folders, lambda line: printing.note(console, line), available)
    for line in plan.left_out:
        printing.say(console, line)
    leave = retry_failed is False
    jobs = running.todo(plan, folders, lambda line: printing.say(console, line), leave)
    printing.say(console, f"{plan.choices.suite.name}: {len(plan.jobs)} jobs, {len(jobs)} to do")
    failed: list[str] = []
    interrupted = False
    try:
        again = (lambda: running.todo(plan, folders, lambda line: None)) if retry_failed else None
        failed = running.carry_out(plan, jobs, folders, device, console, workers, executor, options, again)
    except KeyboardInterrupt:
        interrupted = True
        printing.say(console, "interrupted; what is done is kept. The same command goes on from here.")
    counts = printing.report(plan, folders, console, as_json)
    if failed:
        printing.say(console, f"{len(failed)} job{'s' if len(failed) > 1 else ''} failed:")
        for line in failed[:20]:
            printing.say(console, f"  {line}")
    elif leave and counts["failed"]:
        printing.say(console, f"failed before, and left as they are (--no-retry-failed): {counts['failed']} runs")
    if interrupted:
        raise typer.Exit(stopping.EXIT_CODE)
    raise typer.Exit(1 if failed or (leave and counts["failed"]) else 0)


@app.command()
def plan(
    suite: Suite,
    results: Results = Path("results"),
    data: Data = None,
    available: Available = False,
    as_json: Json = False,
    plugin: Plugins = None,
) -> None:
    """Show the jobs of a suite, and which of them are done."""
    from stage_bench.execution import running

    console, folders = _start(data, results, Path("reports"), "auto", plugin)
    made = running.make_plan(suite, folders, available=available)
    jobs = running.todo(made, folders, lambda line: printing.say(console, line))
    if as_json:
        print(running.plan_json(made, jobs))
        return
    for line in made.left_out:
        printing.say(console, line)
    printing.table(running.plan_table(made, jobs))
    print(f"{len(made.jobs)} jobs, {len(jobs)} to do")


@app.command()
def validate(suite: Suite, data: Data = None, plugin: Plugins = None) -> None:
    """Check a suite and the datasets it names; nothing is run or written."""
    from stage_bench.execution import running

    console, folders = _start(data, Path("results"), Path("reports"), "auto", plugin)
    made = running.make_plan(suite, folders)
    for line in made.left_out:
        printing.say(console, line)
    print(f"{suite} is valid: {len(made.jobs)} jobs")


@app.command()
def prepare(
    suite: Suite,
    results: Results = Path("results"),
    data: Data = None,
    device: Device = "auto",
    executor: Executor = "local",
    max_failures: MaxFailures = None,
    job_time: JobTime = None,
    job_memory: JobMemory = None,
    address: Address = None,
    ray_retries: RayRetries = None,
    shared_results: SharedResults = None,
    available: Available = False,
    plugin: Plugins = None,
) -> None:
    """Fetch a suite's datasets and embed their texts; after that `run` needs no network."""
    from stage_bench.execution import preparing, running

    console, folders = _start(data, results, Path("reports"), device, plugin)
    options = running.options(executor, max_failures, job_time, job_memory, None, address, ray_retries, shared_results)
    preparing.obtain_datasets(running.read_suite(suite), folders.data, console, available)
    made = running.make_plan(suite, folders, available=available)
    for line in made.left_out:
        printing.say(console, line)
    missing = running.features_to_prepare(made, folders)
    failed = running.carry_out(made, missing, folders, device, console, executor=executor, options=options)
    printing.say(console, "prepared" if not failed else f"{len(failed)} failed")
    raise typer.Exit(1 if failed else 0)


@app.command()
def report(
    suite: Annotated[
        Path,
        typer.Argument(help="A suite; or a report's folder or runs.csv, which needs nothing else.", metavar="SUITE"),
    ],
    results: Results = Path("results"),
    data: Data = None,
    reports: Reports = Path("reports"),
    available: Available = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Keep only these runs and rank them anew, such as backbone=gcn; may be repeated.",
            metavar="COLUMN=VALUE",
        ),
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            help="Published numbers to show, for a runs.csv that does not say; may be repeated.", metavar="NAME"
        ),
    ] = None,
    as_json: Json = False,
    plugin: Plugins = None,
) -> None:
    """Write a leaderboard from the runs that are there."""
    from stage_bench.leaderboard import rereading, selecting
    from stage_bench.leaderboard.files import file_stem

    wanted = selecting.parse(only or [])
    if rereading.is_report(suite):
        from stage_bench.execution import published_numbers
        from stage_bench.leaderboard.beside import Beside
        from stage_bench.leaderboard.rows import checked_csv

        _load_plugins(plugin)
        read = rereading.read(suite, compare, wanted)
        text = Beside(len(read.runs), checked_csv, read.runs)
        made = rereading.make(read, *published_numbers.load(read.facts.compare))
        counts = rereading.counts(made)
        rereading.check_place(suite, reports / file_stem(made.facts.suite), made)
        printing.show(made, counts, reports, as_json, text.result())
    else:
        from stage_bench.execution import running

        if compare:
            raise StageBenchError("--compare is for a runs.csv; a suite says what to compare with under `compare:`")
        console, folders = _start(data, results, reports, "auto", plugin)
        running.check_folders(folders, reports_only=True)
        plan = running.make_plan(suite, folders, available=available)
        if not results.is_dir():
            raise StageBenchError(f"--results {results}: there is no such folder")
        counts = printing.report(plan, folders, console, as_json, wanted)
    raise typer.Exit(1 if counts["failed"] else 0)


@app.command()
def compare(
    a: Annotated[
        Path, typer.Argument(help="A results folder, a report's folder, a runs.csv or leaderboard.csv.", metavar="A")
    ],
    b: Annotated[Path, typer.Argument(help="Another.", metavar="B")],
    fail_on_regression: Annotated[
        bool,
        typer.Option("--fail-on-regression", help="Exit with 1 where a row is significantly worse in B, or failed."),
    ] = False,
    as_json: Json = False,
) -> None:
    """What changed from one leaderboard, or results folder, to another; by test, not by digits."""
    from stage_bench.leaderboard import comparison, resulting

    changes = comparison.compare(resulting.read(a), resulting.read(b))
    if as_json:
        print(changes.to_json(orient="records", indent=1))
    else:
        printing.table(comparison.shown(changes))
        print(comparison.summary(changes))
    if fail_on_regression and not comparison.shared(changes):
        raise StageBenchError(f"no row of {a} is in {b}: nothing was compared, so nothing can be said of regressions")
    raise typer.Exit(1 if fail_on_regression and comparison.regressions(changes) else 0)


@app.command()
def merge(
    folders: Annotated[list[Path], typer.Argument(help="Results folders, of several machines.", metavar="FOLDER")],
    results: Annotated[
        Path, typer.Option(help="Where all of it goes; what is there takes part.", metavar="DIR")
    ] = Path("results"),
    as_json: Json = False,
) -> None:
    """Unite results folders of several machines into one; ids that hold different things are refused."""
    from rich.console import Console

    from stage_bench.counting import Counting
    from stage_bench.runs import merging

    console = Console(stderr=True)
    with Counting(console) as counting:
        made = merging.plan(folders, results, counting.step)
        for line in made.notes:
            printing.say(console, line)
        merging.carry_out(made, counting.step)
    if as_json:
        print(json.dumps(made.to_json(), indent=1))
    else:
        printing.table(made.table())


@app.command()
def publish(
    reports: Annotated[
        list[Path], typer.Argument(help="Reports' folders, or folders of them, such as reports/.", metavar="REPORT")
    ],
    to: Annotated[
        Path, typer.Option("--to", help="The site's folder: empty, new, or an earlier site's.", metavar="DIR")
    ],
    draft: Annotated[
        bool, typer.Option("--draft", help="Publish reports that fail their check too, marked as drafts.")
    ] = False,
    as_json: Json = False,
    plugin: Plugins = None,
) -> None:
    """Make a static site of leaderboards that pass `check report`, with a card for each model."""
    from stage_bench.execution import publishing

    _load_plugins(plugin)
    outcome = publishing.publish(reports, to, draft)
    if as_json:
        print(json.dumps(publishing.plain(outcome), indent=1))
    else:
        printing.published(outcome)
    raise typer.Exit(1 if outcome.refused else 0)


@app.command("ls")
def list_(
    kind: Annotated[
        str | None, typer.Argument(help="datasets, llms, features, backbones, executors or suites.")
    ] = None,
    as_json: Json = False,
    plugin: Plugins = None,
) -> None:
    """List what is registered, and what each entry needs."""
    from stage_bench import registry

    _load_plugins(plugin)
    kinds = [*registry.KINDS, "suites"]
    kind = KINDS.get(kind, kind) if kind else None
    if kind is not None and kind not in kinds:
        raise StageBenchError(registry.unknown("kind", kind, kinds))
    found = {name: printing.entries(name) for name in ([kind] if kind else kinds)}
    if as_json:
        print(json.dumps(found, indent=1))
        return
    for name, rows in found.items():
        print(f"{name}:")
        width = max((len(row["name"]) for row in rows), default=0)
        for row in rows:
            needs = f"  [needs: {row['needs']}]" if row["needs"] else ""
            print(f"  {row['name']:<{width}}  {row['summary']}{needs}".rstrip())


@app.command()
def show(
    kind: Annotated[str, typer.Argument(help="dataset, llm, features, backbone or run.", metavar="KIND")],
    name: Annotated[
        str, typer.Argument(help="A registered name; a dataset's folder; a run's id, or its beginning.", metavar="NAME")
    ],
    results: Results = Path("results"),
    data: Data = None,
    as_json: Json = False,
    plugin: Plugins = None,
) -> None:
    """Print what is known of one entry, or of one run."""
    from stage_bench.execution import describing
    from stage_bench.runs import showing

    _load_plugins(plugin)
    wanted = _kind(kind, SHOWN)
    facts = showing.describe(results, name) if wanted == "runs" else describing.describe(wanted, name, _data(data))
    if as_json:
        print(json.dumps(facts, indent=1, default=str))
    else:
        print(showing.text(facts) if wanted == "runs" else describing.text(facts))


@app.command()
def check(
    kind: Annotated[str, typer.Argument(help="dataset, llm, backbone or report.", metavar="KIND")],
    name: Annotated[
        str, typer.Argument(help="A registered name; for a dataset also a folder; a report's folder.", metavar="NAME")
    ],
    data: Data = None,
    device: Device = "auto",
    plugin: Plugins = None,
) -> None:
    """Try one entry out: is it wired right? Of a report: may it be published?"""
    from stage_bench.checks import guarded
    from stage_bench.execution import checking

    _load_plugins(plugin)
    _check_device(device)
    passed = printing.checks(guarded(checking.check(_kind(kind, CHECKED), name, _data(data), device)))
    raise typer.Exit(0 if passed else 1)


@app.command()
def schema() -> None:
    """Print the JSON schema of suites."""
    from stage_bench.suite.schema import json_schema

    print(json.dumps(json_schema(), indent=2))


@app.command()
def doctor(
    results: Annotated[
        Path | None, typer.Option(help="Check all that this results folder holds instead.", metavar="DIR")
    ] = None,
    fix: Annotated[
        bool,
        typer.Option("--fix", help="Of results: set aside what is damaged, for `run` to make anew; tidy up."),
    ] = False,
    data: Data = None,
    as_json: Json = False,
    plugin: Plugins = None,
) -> None:
    """Look at the installation, line by line, or at all that a results folder holds."""
    if results is not None:
        from stage_bench.execution import examining

        raise typer.Exit(0 if examining.results(results, fix, as_json) else 1)
    if fix:
        raise StageBenchError("--fix mends a results folder: name it with --results")
    from stage_bench.execution import doctor as doctors

    _load_plugins(plugin)
    lines = doctors.examine(_data(data))
    raise typer.Exit(0 if (printing.health(lines) if as_json else printing.checks(lines)) else 1)


def main() -> None:
    """The console script: errors become one line, and exit codes are those of the contract."""
    # Threads that spin while they wait take the core from those that work. Must be set before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    stopping.install()
    for stream in (sys.stdout, sys.stderr):  # a name that is no text, as a file may have, is no reason to fall over
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(standalone_mode=False)
    except StageBenchError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        code = 1 if full_disk.happened(error) else 2
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        code = stopping.EXIT_CODE
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and error.filename:
            print(f"error: {shown(error.filename)}: {error.strerror}; choose another folder", file=sys.stderr)
            sys.exit(2)
        if not full_disk.happened(error):
            if not error.filename:
                raise
            print(f"error: {shown(error.filename)}: {error.strerror}", file=sys.stderr)
            sys.exit(2)
        print(f"error: {full_disk.described(error)}", file=sys.stderr)
        code = 1
    except Exception as error:
        show = getattr(error, "show", None)  # click's usage errors know how to print themselves
        if show is not None:
            show()
        elif not stopping.asked():
            raise
        code = getattr(error, "exit_code", 2)
    if stopping.asked():  # whatever the interruption was turned into on its way
        stopping.leave()
    sys.exit(code if isinstance(code, int) else 0)


def _start(
    data: Path | None, results: Path, reports: Path, device: str, plugins: list[Path] | None
) -> tuple[Console, Folders]:
    from rich.console import Console

    from stage_bench.execution.running import Folders

    _check_device(device)
    _load_plugins(plugins)
    return Console(stderr=True), Folders(_data(data), results, reports)


def _check_device(device: str) -> None:
    if device not in ("auto", "cpu", "cuda"):
        raise StageBenchError(f"--device {device}: valid are auto, cpu and cuda")


def _data(given: Path | None) -> Path:
    if given is not None:
        return given
    if named := os.environ.get("STAGE_BENCH_DATA"):
        return Path(named)
    import platformdirs

    return Path(platformdirs.user_cache_dir("stage-bench")) / "data"


def _load_plugins(plugins: list[Path] | None) -> None:
    from stage_bench import registry

    for path in plugins or []:
        registry.load_plugin(path)


def _kind(kind: str, kinds: dict[str, str] = KINDS) -> str:
    from stage_bench import registry

    plural = kinds.get(kind, kind)
    if plural not in kinds.values():
        raise StageBenchError(registry.unknown("kind", kind, kinds))
    return plural
