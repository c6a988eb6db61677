"""Plots of tuning, as SVG: the best so far against trials and against seconds."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stage_bench.files import write_bytes
from stage_bench.leaderboard.files import file_stem
from stage_bench.leaderboard.plots import ADVICE
from stage_bench.leaderboard.tables import plain, short_inputs
from stage_bench.leaderboard.tuning import Key, Study, key, trajectory

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito's
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
    try:
        data = _svg(sorted(studies, key=lambda study: str(study["backbone"])))
    except ImportError:
        return ADVICE
    write_bytes(path, data)
    return None


def _svg(studies: Sequence[Study]) -> bytes:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # As in plots.py: neither the user's matplotlibrc, nor a date, nor a random salt may change the bytes.
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.hashsalt": "stage-bench", "font.size": 9, "axes.formatter.useoffset": False})
        figure = Figure(figsize=_SIZE)
        FigureCanvasAgg(figure)
        _draw(figure, studies)
        file = io.BytesIO()
        figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    return file.getvalue()


def _draw(figure: Any, studies: Sequence[Study]) -> None:
    by_trials, by_seconds = figure.subplots(1, 2, sharey=True)
    for index, study in enumerate(studies):
        look = {
            "color": _COLOURS[index % len(_COLOURS)],
            "linestyle": _STYLES[index // len(_COLOURS) % len(_STYLES)],
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
