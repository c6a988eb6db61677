"""Plots of tuning, as SVG: the best so far against trials and against seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stage_bench.leaderboard import svg
from stage_bench.leaderboard.files import file_stem
from stage_bench.leaderboard.tables import plain, short_inputs
from stage_bench.leaderboard.tuning import Key, Study, key, trajectory

_STYLES = ("-", "--", "-.", ":")
_SIZE = (9.0, 3.8)  # inches


def file_names(studies: Sequence[Study]) -> dict[Key, str]:
    """The SVG file of each (dataset, split, features, LLM, instruction) that was tuned on."""
    found = {}
    for where in sorted({key(study) for study in studies}):
        found[where] = file_stem(f"tuning.{'.'.join(filter(None, where))}") + ".svg"
    return found


def trajectories(studies: Sequence[Study], path: Path) -> str | None:
    """Draw the best validation accuracy so far of each study to the SVG file `path`.

    `studies` are those of one key. The same studies give the same bytes. Returns None, or, where matplotlib is not
    installed, the sentence that says how to install it.
    """
    drawn = sorted(studies, key=lambda study: str(study["backbone"]))
    return svg.write(path, _SIZE, lambda figure: _draw(figure, drawn))


def _draw(figure: Any, studies: Sequence[Study]) -> None:
    by_trials, by_seconds = figure.subplots(1, 2, sharey=True)
    for index, study in enumerate(studies):
        look = {
            "color": svg.COLOURS[index % len(svg.COLOURS)],
            "linestyle": _STYLES[index // len(svg.COLOURS) % len(_STYLES)],
            "linewidth": 1.2,
        }
        points = [point for point in trajectory(study) if point[2] is not None]
        accuracies = [accuracy for _, _, accuracy in points]
        by_trials.step([n for n, _, _ in points], accuracies, where="post", label=plain(study["backbone"]), **look)
        by_seconds.step([seconds for _, seconds, _ in points], accuracies, where="post", **look)
        for axes, place in ((by_trials, 0), (by_seconds, 1)):  # a study of one point has no line
            axes.plot([points[-1][place]], [accuracies[-1]], marker="o", markersize=3, color=look["color"])
    by_trials.set_xlabel("trials")
    by_seconds.set_xlabel("seconds of trials")
    by_trials.set_ylabel("validation accuracy of the best so far")
    for axes in (by_trials, by_seconds):
        axes.set_xlim(left=0)
        axes.grid(True, color="0.92")
        axes.set_axisbelow(True)
    if studies:
        where = ", ".join(filter(None, (studies[0]["dataset"], studies[0]["split"], *short_inputs(studies[:1]))))
        figure.suptitle(plain(where), fontsize=10, parse_math=False)
    handles, labels = by_trials.get_legend_handles_labels()
    legend = figure.legend(
        handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=4, fontsize=8, frameon=False
    )
    for entry in legend.get_texts():
        entry.set_parse_math(False)
