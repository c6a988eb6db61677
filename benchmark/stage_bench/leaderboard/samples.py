"""The finished runs of each row, and the test of one row's runs against another's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
import numpy.typing as npt
import pandas as pd

from stage_bench.leaderboard import significance, splits
from stage_bench.leaderboard.rows import KEY, by_row
from stage_bench.leaderboard.statistics import Seeds

Key = tuple[str, ...]
"""The values of rows.KEY."""

Hits = Mapping[str, npt.NDArray[np.bool_]]
"""Run id to bool [test nodes], whether the run was right about each; of runs on fixed splits, as far as known."""

_NODES_UNKNOWN = "test nodes were not resampled: what was predicted is not at hand"


@dataclass(frozen=True)
class Sample:
    """The finished runs of one row, in the order of their seeds.

    split_seeds, init_seeds: float64 [n], NaN where there was none. accuracies: float64 [n], on the test nodes.
    """

    ids: tuple[str, ...]
    split_seeds: npt.NDArray[np.float64]
    init_seeds: npt.NDArray[np.float64]
    accuracies: npt.NDArray[np.float64]

    def by_id(self) -> dict[str, float]:
        """Run id to accuracy."""
        return dict(zip(self.ids, self.accuracies.tolist(), strict=True))

    def pairs(self) -> Seeds:
        """(split_seed, init_seed) of each run, infinite where there was none."""
        seeds = (
            [math.inf if seed != seed else seed for seed in found.tolist()]
            for found in (self.split_seeds, self.init_seeds)
        )
        return list(zip(*seeds, strict=True))

    def by_split(self) -> dict[float, float]:
        """Split seed to mean accuracy: several initialisations of one split are no more splits."""
        known = dict(zip(self.split_seeds.tolist(), self.accuracies.tolist(), strict=True))
        if len(known) == len(self.ids) and not any(map(math.isnan, known)):  # as most
            return dict(sorted(known.items()))
        seeds, places = np.unique(self.split_seeds, return_inverse=True)
        means = np.bincount(places, self.accuracies) / np.bincount(places)
        return dict(zip(seeds.tolist(), means.tolist(), strict=True))


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How the runs of a (dataset, split) can be compared. drawn: the seed drew the split; ratio: test to training
    nodes, None where it is not known."""

    drawn: bool
    ratio: float | None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a test says of one row against another. p: None where there is no test, `reason` says why; n: pairs."""

    p: float | None = None
    effect: float | None = None
    method: str = ""
    n: int = 0
    reason: str = ""


def samples(runs: pd.DataFrame) -> dict[Key, Sample]:
    """The finished runs of each row of a checked frame (rows.check_runs)."""
    done = runs[runs["status"] == "ok"]
    ids = done["id"].tolist()
    numbers = [
        np.asarray(done[column].astype("float64"), dtype=np.float64)
        for column in ("split_seed", "init_seed", "test_accuracy")
    ]
    found = {}
    for key, start, stop in by_row(done):
        split_seeds, init_seeds, accuracies = (values[start:stop] for values in numbers)
        found[key] = Sample(tuple(ids[start:stop]), split_seeds, init_seeds, accuracies)
    return found


def protocols(runs: pd.DataFrame) -> dict[tuple[str, str], Protocol]:
    """How the runs of each (dataset, split) of a checked frame can be compared."""
    return {
        (str(dataset), str(split)): Protocol(drawn=splits.are_drawn(group), ratio=splits.ratio(group))
        for (dataset, split), group in runs.groupby(["dataset", "split"], sort=True)
    }


def against(
    other: Sample, rows: Sequence[Sample], protocol: Protocol, hits: Hits | None = None, tests: int | None = None
) -> list[Outcome]:
    """Each of `rows` against `other`, runs of the same (dataset, split).

    Where the seed drew the split: significance.corrected_t over the split seeds that both have. Where it is fixed:
    the seed bootstrap, and the test on nodes as far as `hits` has the runs; p is the larger of the two, because a
    difference must stand out against the luck of seeds and against that of test nodes. tests: how many p values Holm
    will correct together (bootstraps need the more resamples); by default those of `rows`.
    """
    if protocol.drawn:
        return _paired(other, rows, protocol.ratio)
    resamples = significance.resamples_for(len(rows) if tests is None else tests)
    by_seeds: list[float | None] = [None] * len(rows)
    several = [place for place, row in enumerate(rows) if len(row.ids) > 1 and len(other.ids) > 1]
    if several:
        ps = significance.seed_bootstrap([rows[place].accuracies for place in several], other.accuracies, resamples)
        for place, p in zip(several, ps.tolist(), strict=True):
            by_seeds[place] = p
    effects = significance.effects([row.accuracies for row in rows], other.accuracies)
    return [
        _fixed(other, row, p, effect, hits or {}, resamples)
        for row, p, effect in zip(rows, by_seeds, effects, strict=True)
    ]


def _paired(other: Sample, rows: Sequence[Sample], ratio: float | None) -> list[Outcome]:
    if ratio is None:
        return [Outcome(reason="the sizes of the split's parts are not known")] * len(rows)
    theirs = other.by_split()
    outcomes: list[Outcome | None] = [None] * len(rows)
    alike: dict[tuple[float, ...], list[tuple[int, dict[float, float]]]] = {}
    for place, row in enumerate(rows):
        ours = row.by_split()
        common = tuple(seed for seed in ours if seed in theirs)
        if len(common) < 2:
            outcomes[place] = Outcome(reason="fewer than two split seeds in common", n=len(common))
        else:
            alike.setdefault(common, []).append((place, ours))
    for common, members in alike.items():
        differences = np.array([[ours[seed] - theirs[seed] for seed in common] for _, ours in members])
        ps = significance.corrected_t(differences, ratio).tolist()
        found = zip(members, ps, significance.paired_effects(differences), strict=True)
        for (place, _), p, effect in found:
            outcomes[place] = Outcome(p=p, effect=effect, method="corrected resampled t-test", n=len(common))
    return [outcome for outcome in outcomes if outcome is not None]


def _fixed(
    other: Sample, row: Sample, by_seeds: float | None, effect: float | None, hits: Hits, resamples: int
) -> Outcome:
    by_nodes, method = None, ""
    if all(id_ in hits for id_ in (*row.ids, *other.ids)):
        if len(row.ids) == len(other.ids) == 1:
            by_nodes, method = significance.mcnemar(hits[row.ids[0]], hits[other.ids[0]]), "McNemar's test"
        else:
            ours, theirs = (np.mean([hits[id_] for id_ in sample.ids], axis=0) for sample in (row, other))
            by_nodes = significance.node_bootstrap(ours, theirs, resamples)
            method = "paired bootstrap of test nodes"
    n = min(len(row.ids), len(other.ids))
    if by_seeds is None and by_nodes is None:
        return Outcome(reason=f"a single run, and {_NODES_UNKNOWN}", n=n)
    names = (["bootstrap of seeds"] if by_seeds is not None else []) + ([method] if method else [])
    reason = "" if by_nodes is not None else _NODES_UNKNOWN
    if by_seeds is None:
        reason = "a single run: nothing is said of other seeds"
    return Outcome(
        p=max(p for p in (by_seeds, by_nodes) if p is not None),
        effect=effect,
        method=" and ".join(names),
        n=n,
        reason=reason,
    )


_KEY_CELLS = itemgetter(*KEY)


def key_of(row: Mapping[str, object]) -> Key:
    """A board row's KEY, empty cells as empty strings."""
    cells: Key = _KEY_CELLS(row)
    return cells if all(cells) else tuple([cell or "" for cell in cells])
