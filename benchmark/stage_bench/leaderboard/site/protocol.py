"""Was the protocol kept? What a reader would ask of the runs of a report, a line for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from stage_bench.checks import Line
from stage_bench.leaderboard import splits
from stage_bench.leaderboard.rows import KEY, records
from stage_bench.leaderboard.wording import inputs, plain

SEEDS = 4
"""Fewest seeds of a complete row: what papers of the field use. A suite has 10 unless it says otherwise."""

Run = dict[str, Any]
_Seed = tuple[int | None, int | None]


def check(runs: pd.DataFrame) -> Iterator[Line]:
    """Lines on checked runs (rows.check_runs); each one that failed says what to do."""
    rows = records(runs)
    if not rows:
        yield Line("runs.csv has no runs; `stage-bench run` the suite", False)
        return
    yield _statuses(rows)
    by_row: dict[tuple[str, ...], list[Run]] = {}
    for run in rows:
        by_row.setdefault(tuple(run[column] or "" for column in KEY), []).append(run)
    groups = list(by_row.values())
    yield from _seeds(groups)
    yield _splits(rows)
    done = [run for run in rows if run["status"] == "ok"]
    yield _fingerprints(done)
    yield _provenance([run for run in rows if run["status"] != "missing"])
    yield _hardware(done)
    yield _embeddings(done)


def seeds(runs: Sequence[Run]) -> set[_Seed]:
    """The pairs (split seed, initialisation seed) of some runs; where the split is fixed it has no seed."""
    return {(run["split_seed"], run["init_seed"]) for run in runs}


def row_name(row: Run) -> str:
    """What a row is called where its table is not at hand."""
    what = ", ".join(filter(None, (row["backbone"], inputs(row), row["instruction"])))
    return plain(f"{what} on {row['dataset']} ({row['split']})")


def _statuses(rows: Sequence[Run]) -> Line:
    failed = [run for run in rows if run["status"] == "failed"]
    missing = [run for run in rows if run["status"] == "missing"]
    if missing:
        return Line(
            f"runs: {len(missing)} of {_count(len(rows), 'run')} {_are(missing)} not there yet, the first of "
            f"{row_name(missing[0])}; finish with `stage-bench run`, then report again",
            False,
        )
    if not failed:
        return Line(f"runs: {_count(len(rows), 'run')}, all finished")
    names = list(dict.fromkeys(map(row_name, failed)))
    return Line(f"runs: {len(failed)} of {_count(len(rows), 'run')} failed, and are shown: {_some(names)}")


def _seeds(groups: Sequence[list[Run]]) -> Iterator[Line]:
    unknown = [run for group in groups for run in group if run["init_seed"] is None]
    if unknown:
        yield Line(f"seeds: run {unknown[0]['id']} has no init_seed, so that it may stand here twice", False)
        return
    twice = [group for group in groups if len(seeds(group)) < len(group)]
    if twice:
        yield Line(
            f"seeds: {row_name(twice[0][0])} has two runs with the same seeds; two configurations need two names", False
        )
    complete = [group for group in groups if all(run["status"] == "ok" for run in group)]
    counts = [len(seeds(group)) for group in complete]
    few = [row_name(group[0]) for group, count in zip(complete, counts, strict=True) if count < SEEDS]
    rows = _count(len(complete), "complete row")
    if not complete:
        yield Line(
            "seeds: no row is complete, so there is nothing to rank; `stage-bench run` does what is missing", False
        )
    elif few:
        yield Line(
            f"seeds: {len(few)} of {rows} {'has' if len(few) == 1 else 'have'} fewer than {SEEDS} (as few as "
            f"{min(counts)}): {_some(few)}; raise `seeds:` in the suite, 10 is usual, and run it again",
            False,
        )
    else:
        span = str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"
        yield Line(f"seeds: {span} a row, in {rows} (at least {SEEDS} are needed)")
    yield _hidden(groups)


def _hidden(groups: Sequence[list[Run]]) -> Line:
    """A suite gives every row of a table the same seeds; a run that failed stands there as failed."""
    tables: dict[tuple[str, str], set[_Seed]] = {}
    for group in groups:
        tables.setdefault(_table(group[0]), set()).update(seeds(group))
    for group in groups:
        lacking = tables[_table(group[0])] - seeds(group)
        if lacking:
            first = min(lacking, key=str)
            return Line(
                f"seeds: {row_name(group[0])} has no run of {_seed(first)}, other rows of its table have; a run that "
                "failed stands in runs.csv as failed: report the whole suite again",
                False,
            )
    return Line("seeds: the same in all rows of a table, so no run is left out")


def _splits(rows: Sequence[Run]) -> Line:
    tables: dict[tuple[str, str], list[Run]] = {}
    for run in rows:
        tables.setdefault(_table(run), []).append(run)
    said = []
    for (dataset, split), members in sorted(tables.items()):
        sizes = {tuple(run[f"{part}_nodes"] for part in ("train", "val", "test")) for run in members}
        recorded = not any(None in size for size in sizes)
        if not split or not (recorded or split in splits.NAMES):
            what = f"split {plain(split)!r} has neither sizes nor a description" if split else "the split has no name"
            return Line(
                f"splits: {plain(dataset)}: {what}; report the suite again with this stage-bench, which records how "
                "many nodes train, validate and test",
                False,
            )
        first = min(sizes, key=str)
        nodes = " / ".join(f"{size:,}" for size in first if size is not None)
        said.append(f"{dataset} {split}" + (f" ({nodes} nodes)" if recorded else f" ({splits.NAMES[split]})"))
    return Line(plain(f"splits: {_some(said)}"))


def _fingerprints(done: Sequence[Run]) -> Line:
    datasets: dict[str, str] = {}
    drawn: dict[tuple[Any, ...], str] = {}
    for run in done:
        where = plain(f"{run['dataset']} ({run['split']}, {_seed((run['split_seed'], None))})")
        if not run["dataset_fingerprint"] or not run["split_fingerprint"]:
            return Line(
                f"fingerprints: run {run['id']} names no dataset_fingerprint and split_fingerprint; run it again with "
                "this stage-bench",
                False,
            )
        if datasets.setdefault(run["dataset"], run["dataset_fingerprint"]) != run["dataset_fingerprint"]:
            return Line(
                f"fingerprints: run {run['id']} is on another {plain(run['dataset'])} than the others "
                f"({run['dataset_fingerprint']}, not {datasets[run['dataset']]}); run all of them on one",
                False,
            )
        key = (run["dataset"], run["split"], run["split_seed"])
        if drawn.setdefault(key, run["split_fingerprint"]) != run["split_fingerprint"]:
            return Line(
                f"fingerprints: run {run['id']} has another split than the others of {where}; run all of them on one",
                False,
            )
    counts = f"{_count(len(datasets), 'dataset')} and {_count(len(drawn), 'split')}"
    return Line(f"fingerprints: every run names its own, one for each of {counts}")


def _provenance(rows: Sequence[Run]) -> Line:
    nameless = [run for run in rows if not run["version"] or not run["commit"]]
    dirty = [run for run in rows if (run["commit"] or "").endswith("-dirty")]
    if nameless:
        what = "version" if not nameless[0]["version"] else "commit"
        return Line(
            f"provenance: {_count(len(nameless), 'run')} {'names' if len(nameless) == 1 else 'name'} no {what}, the "
            f"first is {nameless[0]['id']}; run them again from a checkout of stage-bench",
            False,
        )
    if dirty:
        return Line(
            f"provenance: {_count(len(dirty), 'run')} {'was' if len(dirty) == 1 else 'were'} made with code that no "
            f"commit has ({plain(dirty[0]['commit'])}), the first is {dirty[0]['id']}; commit, remove these runs from "
            "results/runs and run the suite again",
            False,
        )
    return Line(f"provenance: {_some(made_with(rows))}")


def made_with(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Version and commit of stage-bench that these runs were made with, each pair once."""
    pairs = sorted({(run.get("version") or "", run.get("commit") or "") for run in rows} - {("", "")})
    return [plain(f"stage-bench {version or 'unknown'} at {short(commit) or 'no commit'}") for version, commit in pairs]


def short(commit: str) -> str:
    """A commit by its first 12 characters; that it was changed stays said."""
    name, dash, changed = commit.partition("-")
    return f"{name[:12]}{dash}{changed}"


def _hardware(done: Sequence[Run]) -> Line:
    bare = [run for run in done if not run["hardware"]]
    if bare:
        return Line(
            f"hardware: {_count(len(bare), 'run')} {'does' if len(bare) == 1 else 'do'} not say on what, the first is "
            f"{bare[0]['id']}; seconds mean nothing without: run them again with this stage-bench",
            False,
        )
    return Line(f"hardware: {_some(sorted({plain(run['hardware']) for run in done}))}")


def _embeddings(done: Sequence[Run]) -> Line:
    embedded = [run for run in done if run["llm"]]
    bare = [run for run in embedded if not run["embedding_id"]]
    if bare:
        return Line(
            f"embeddings: run {bare[0]['id']} names {plain(bare[0]['llm'])} and no embedding_id, so that nobody can "
            "tell what it read; run it again with this stage-bench",
            False,
        )
    if not embedded:
        return Line("embeddings: no row names a language model")
    models = len({run["llm"] for run in embedded})
    return Line(f"embeddings: the runs of {_count(models, 'language model')} name theirs")


def _table(run: Run) -> tuple[str, str]:
    return run["dataset"] or "", run["split"] or ""


def _seed(pair: tuple[int | None, int | None]) -> str:
    split, init = pair
    if split is None:
        return "a fixed split" if init is None else f"seed {init}"
    return f"split seed {split}" if init is None else f"seed {split}" if split == init else f"seeds {split}/{init}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _are(items: Sequence[Any]) -> str:
    return "is" if len(items) == 1 else "are"


def _some(names: Sequence[str], most: int = 3) -> str:
    more = f"; and {len(names) - most} more" if len(names) > most else ""
    return f"{'; '.join(names[:most])}{more}" or "none"
