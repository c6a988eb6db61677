"""Plots as SVG, the same bytes from the same rows; matplotlib is optional and loaded only when a plot is drawn."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stage_bench.files import write_bytes

ADVICE = "plots need: pip install 'stage-bench[plots]'"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito's


def write(path: Path, inches: tuple[float, float], draw: Callable[[Any], None]) -> str | None:
    """Write the SVG file of what `draw` puts on a figure (matplotlib's, `inches` wide and high).

    Returns None, or, where matplotlib is not installed, the sentence that says how to install it.
    """
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return ADVICE

    # The user's own matplotlibrc must not show, and without a salt every file has other ids. `with` restores both.
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.hashsalt": "stage-bench", "font.size": 9, "axes.formatter.useoffset": False})
        figure = Figure(figsize=inches)
        FigureCanvasAgg(figure)  # a canvas of its own: pyplot would choose a window system for the whole process
        draw(figure)
        file = io.BytesIO()
        # Metadata without date and version: they would change the bytes of an unchanged plot.
        figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    write_bytes(path, file.getvalue())
    return None
