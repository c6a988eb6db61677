"""What tuning came to: the best so far of each study, against trials and against seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from stage_bench.leaderboard.plots import canvas, legend
from stage_bench.leaderboard.plots.canvas import SOFT, Sheet
from stage_bench.leaderboard.plots.looks import COLOURS
from stage_bench.leaderboard.plots.stems import stems
from stage_bench.leaderboard.tuning import Key, Study, key, trajectory
from stage_bench.leaderboard.wording import plain, short_inputs

SHOWN = 28
"""How many studies have room, and a look of their own; the most accurate."""

_DASHES = ("-", "--", "-.", ":")
_MARKERS = "osD^"  # one a dash
_TOP, _UP, _BELOW = 0.6, 2.9, 0.56  # inches
_PANELS = ((0.55, 3.6), (4.3, 3.55))


def names(studies: Sequence[Study]) -> dict[Key, str]:
    """The stem of the file for each (dataset, split, features, LLM, instruction) that was tuned on."""
    places = sorted({key(study) for study in studies})
    splits = Counter(dataset for dataset, _ in {where[:2] for where in places})
    return stems(
        {where: [*where[: 2 if splits[where[0]] > 1 else 1], "tuning", *filter(None, where[2:])] for where in places}
    )


def sheet(studies: Sequence[Study]) -> Sheet:
    """Draw the best validation accuracy so far of each study. `studies` are those of one key. Within `canvas.style`."""
    every = _finished(studies)
    shown = sorted(every[:SHOWN], key=lambda study: str(study["backbone"]))  # one colour, whoever is ahead
    looks = [_look(index) for index in range(len(shown))]
    entries = [legend.Entry(plain(study["backbone"]), look) for study, look in zip(shown, looks, strict=True)]
    below = legend.legend([entries], list(_notes(len(studies), len(every), len(shown))))
    page = canvas.sheet(_TOP + _UP + _BELOW + below.height + 0.1)
    page.heading(f"Validation accuracy of the best trial so far: {_place(studies)}")
    page.write(_PANELS[0][0], _TOP - 0.12, "validation accuracy", color=SOFT)
    (left, width), (left_2, width_2) = _PANELS
    by_trials = page.axes(left, _TOP, width, _UP, "trials")
    by_seconds = page.axes(left_2, _TOP, width_2, _UP, "seconds of trials", sharey=by_trials)
    for study, look in zip(shown, looks, strict=True):
        points = [point for point in trajectory(study) if point[2] is not None]
        accuracies = [accuracy for _, _, accuracy in points]
        for axes, place in ((by_trials, 0), (by_seconds, 1)):
            # Its marker at the end: a study of one point has no line.
            axes.step([point[place] for point in points], accuracies, where="post", markevery=[-1], **look)
    by_seconds.tick_params(labelleft=False)
    for axes in (by_trials, by_seconds):
        axes.set_xlim(left=0)
        axes.grid(True, color=canvas.GRID, linewidth=0.8)
    by_trials.xaxis.get_major_locator().set_params(integer=True)
    below.draw(page, _TOP + _UP + _BELOW)
    return page


def alt(studies: Sequence[Study]) -> str:
    """The plot in words."""
    best = [f"{plain(study['backbone'])} {_accuracy(study):.4f}" for study in _finished(studies)[:8]]
    said = f" Best: {'; '.join(best)}." if best else ""
    return f"Validation accuracy of the best trial so far, against trials and seconds, on {_place(studies)}.{said}"


def _finished(studies: Iterable[Study]) -> list[Study]:
    """The studies with a trial that was carried to its end, the most accurate first."""
    found = [study for study in studies if any(accuracy is not None for _, _, accuracy in trajectory(study))]
    # All that shows of a study, since the order that they came in must not.
    return sorted(found, key=lambda one: (-_accuracy(one), str(one["backbone"]), str(list(trajectory(one)))))


def _accuracy(study: Study) -> float:
    *_, (_, _, accuracy) = trajectory(study)
    assert accuracy is not None, "only studies with a finished trial are drawn"
    return accuracy


def _place(studies: Sequence[Study]) -> str:
    return plain(", ".join(filter(None, (studies[0]["dataset"], studies[0]["split"], *short_inputs(studies[:1])))))


def _look(index: int) -> dict[str, Any]:
    style = index // len(COLOURS) % len(_DASHES)
    return {
        "color": COLOURS[index % len(COLOURS)],
        "linestyle": _DASHES[style],
        "linewidth": 1.3,
        "marker": _MARKERS[style],
        "markersize": 4,
    }


def _notes(every: int, finished: int, shown: int) -> Iterable[str]:
    if shown < finished:
        yield f"Shown are the best {shown} of {finished:,} studies."
    if finished < every:
        yield f"Studies without a trial that was carried to its end: {every - finished:,}."
