"""What tuning came to, for leaderboard.md: budgets, winners, trajectories, which options mattered."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from stage_bench.leaderboard.wording import escape, seconds_text, short_inputs

Study = Mapping[str, Any]
Key = tuple[str, str, str, str, str]
"""Dataset, split, features, LLM and instruction: studies of one key can be compared."""

_SHOWN_IMPORTANCES = 3
_STOPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

LEGEND = """\
All of this is on the validation nodes of the tuning seeds; no study is handed a test label. *Recipe*: the recipe's own
values, which are the first trial; empty where they lie outside the space or their trial failed. *Trials*: carried to
their end / given up by the pruner / failed. *Matters*: the options with the largest shares in the variance of what was
selected on (fANOVA over the trials that were carried to their end)."""


def key(study: Study) -> Key:
    return study["dataset"], study["split"], study["features"], study["llm"], study["instruction"]


def markdown(studies: Sequence[Study]) -> list[str]:
    """A section, or nothing where nothing was tuned.

    studies: summaries (training/tuning.py) with `dataset`, `split`, `features`, `llm`, `instruction` and `backbone`.
    The same arguments give the same text.
    """
    if not studies:
        return []
    ordered = in_order(studies)
    names = dict(zip(map(id, ordered), short_inputs(ordered), strict=True))
    heads = [[study["dataset"], names[id(study)], study["backbone"]] for study in ordered]
    parts = ["## Tuning", *_budgets(ordered), _winners(ordered, heads), _trajectories(ordered, heads)]
    if notes := list(remarks(ordered, heads)):
        parts.append("\n".join(f"* {escape(note)}" for note in notes))
    parts.append(LEGEND)
    return parts


def trajectory(study: Study) -> Iterator[tuple[int, float, float | None]]:
    """After each trial: how many there were, the seconds of all, the winner's validation accuracy so far."""
    sign = 1 if study["metric"] == "val_accuracy" else -1
    seconds, best = 0.0, None
    for number, row in enumerate(study["history"], 1):
        seconds += row["seconds"]
        if row["state"] == "ok" and (best is None or sign * row[study["metric"]] > sign * best[study["metric"]]):
            best = row
        yield number, seconds, best["val_accuracy"] if best else None


def in_order(studies: Sequence[Study]) -> list[Study]:
    return sorted(studies, key=lambda study: (key(study), study["backbone"]))


def budgets(studies: Sequence[Study]) -> dict[str, list[str]]:
    """Each budget, in words, with the backbones that had it; one where every competitor had the same."""
    found: dict[str, list[str]] = {}
    for study in studies:
        names = found.setdefault(_budget(study), [])
        if study["backbone"] not in names:
            names.append(study["backbone"])
    return found


def total_seconds(studies: Sequence[Study]) -> float:
    """Of all trials of all studies."""
    return sum(row["seconds"] for study in studies for row in study["history"])


BUDGETS_DIFFER = "rows of different budgets were not tuned alike, and do not compare as equals."


def _budgets(studies: Sequence[Study]) -> list[str]:
    """Whether every competitor had the same, and what it was."""
    took = f"All studies together took {seconds_text(total_seconds(studies))} s."
    found = budgets(studies)
    if len(found) == 1:
        (budget,) = found
        return [f"Equal budget for every study: {escape(budget)}. {took}"]
    lines = [f"* {escape(budget)}: {escape(', '.join(names))}" for budget, names in found.items()]
    return [f"**Budgets differ**: {BUDGETS_DIFFER} {took}", "\n".join(lines)]


def _budget(study: Study) -> str:
    seeds = ", ".join(map(str, study["seeds"]))
    parts = [
        f"{study['asked']} trials",
        f"sampler {study['sampler']}",
        "no pruner" if study["pruner"] == "none" else f"pruner {study['pruner']}",
        f"{'seed' if len(study['seeds']) == 1 else 'seeds'} {seeds}",
        "best validation accuracy" if study["metric"] == "val_accuracy" else "lowest validation loss",
        "no limit of seconds" if study["timeout"] is None else f"at most {study['timeout']:g} s",
    ]
    return ", ".join(parts)


@dataclass(frozen=True, kw_only=True)
class Winner:
    """What a study came to.

    values: the winning ones, in words. recipe, accuracy: validation accuracy of the recipe's own values, None where
    they were not tried or failed, and of the winner. trial: the winner's, from 1; after_seconds: of all trials up to
    it. ended: trials carried to their end, given up, failed. seconds: of all trials. matters: the options that
    decided most, in words.
    """

    values: str
    recipe: float | None
    accuracy: float
    trial: int
    after_seconds: float
    ended: tuple[int, int, int]
    seconds: float
    matters: str


def winner(study: Study) -> Winner:
    history, best = study["history"], study["history"][study["winner"]]
    shares = list(study["importances"].items())[:_SHOWN_IMPORTANCES]
    ok, pruned, failed = (sum(row["state"] == state for row in history) for state in ("ok", "pruned", "failed"))
    return Winner(
        values=", ".join(f"{name}={_shown(value)}" for name, value in best["values"].items()),
        recipe=history[0]["val_accuracy"] if study["starts_with_recipe"] else None,
        accuracy=best["val_accuracy"],
        trial=study["winner"] + 1,
        after_seconds=sum(row["seconds"] for row in history[: study["winner"] + 1]),
        ended=(ok, pruned, failed),
        seconds=total_seconds([study]),
        matters=", ".join(f"{name} {share:.2f}" for name, share in shares),
    )


def stops(studies: Sequence[Study]) -> list[int]:
    """Numbers of trials after which to say how far the studies were; the last is that of the longest."""
    longest = max(len(study["history"]) for study in studies)
    return [stop for stop in _STOPS if stop < longest] + [longest]


def best_after(study: Study, after: Sequence[int]) -> list[float | None]:
    """The best validation accuracy after each of these numbers of trials; None where there were not so many."""
    best = [accuracy for _, _, accuracy in trajectory(study)]
    return [best[stop - 1] if stop <= len(best) else None for stop in after]


def _winners(studies: Sequence[Study], heads: Sequence[Sequence[str]]) -> str:
    headings = (
        *("Dataset", "Features", "Backbone", "Winning values", "Recipe", "Winner", "Found at trial", "after s"),
        *("Trials", "Seconds", "Matters"),
    )
    rows = []
    for study, head in zip(studies, heads, strict=True):
        found = winner(study)
        rows.append(
            [
                *map(escape, head),
                escape(found.values),
                "" if found.recipe is None else f"{found.recipe:.4f}",
                f"{found.accuracy:.4f}",
                str(found.trial),
                seconds_text(found.after_seconds),
                " / ".join(map(str, found.ended)),
                seconds_text(found.seconds),
                escape(found.matters),
            ]
        )
    return _grid(headings, rows, left=4)


def _trajectories(studies: Sequence[Study], heads: Sequence[Sequence[str]]) -> str:
    """Best so far after some numbers of trials."""
    after = stops(studies)
    rows = []
    for study, head in zip(studies, heads, strict=True):
        cells = best_after(study, after)
        rows.append([*map(escape, head), *("" if value is None else f"{value:.4f}" for value in cells)])
    words = ["after 1 trial" if stop == 1 else f"after {stop}" for stop in after]
    return _grid(("Dataset", "Features", "Backbone", *words), rows, left=3)


def remarks(studies: Sequence[Study], heads: Sequence[Sequence[str]]) -> Iterator[str]:
    """What was out of the ordinary, a sentence each, from data as it is. heads: what to call each study, in parts."""
    said: dict[str, list[str]] = {}
    for study, head in zip(studies, heads, strict=True):
        name, history = " ".join(filter(None, head)), study["history"]
        count = f"{len(history)} of {study['asked']} trials"
        if study["ended"] == "grid":
            yield f"{name}: the grid has no more than {len(history)} points; {study['asked']} trials were asked for"
        elif study["ended"] == "timeout":
            yield f"{name}: ended after {count}, when its seconds were spent"
        failed = [row["error"] for row in history if row["state"] == "failed"]
        if failed:
            memory = sum(error.startswith("out of memory") for error in failed)
            why = f", {memory} of them for memory" if memory else ""
            noun = "trial" if len(failed) == 1 else "trials"
            yield f"{name}: {len(failed)} {noun} failed{why}; the first: {failed[0]}"
        if study["importances_note"]:
            said.setdefault(study["importances_note"], []).append(name)
    for note, names in said.items():
        yield f"{', '.join(names)}: {note}"


def _grid(headings: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    alignment = [*itertools.repeat("left", left), *itertools.repeat("right", len(headings) - left)]
    return tabulate(rows, headers=headings, tablefmt="pipe", colalign=alignment, disable_numparse=True)


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "null" if value is None else str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)
