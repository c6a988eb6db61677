"""A sheet to draw on, and its bytes in both formats: the same from the same drawing, whatever the user's settings.

matplotlib is optional: it is imported only by what draws.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from stage_bench.leaderboard.plots import letters
from stage_bench.leaderboard.plots.letters import DPI, FONTS, Words

WIDTH = 8.0  # inches
SMALL, MEDIUM, LARGE = 8.0, 9.0, 10.5  # points
INK, SOFT, PALE, GRID = "#262626", "#595959", "#999999", "#e6e6e6"

_STYLE = {
    "svg.hashsalt": "stage-bench",  # without a salt every file has other ids
    "svg.fonttype": "none",
    "font.sans-serif": list(FONTS),
    "font.size": SMALL,
    "text.hinting": "default",  # as Pillow has it
    "axes.formatter.useoffset": False,
    "axes.edgecolor": PALE,
    "xtick.color": PALE,
    "ytick.color": PALE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}


@contextmanager
def style() -> Iterator[None]:
    """Within it matplotlib has this project's settings; the user's own do not show, and are back after."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


@dataclass(frozen=True)
class Sheet:
    """A white page, `height` inches high; places on it are in inches from its top left corner.

    figure: matplotlib's, with all that is no words.
    """

    figure: Any
    height: float
    words: list[Words] = field(default_factory=list)

    def axes(self, left: float, top: float, width: float, height: float, label: str, **options: Any) -> Any:
        """Axes (matplotlib's) whose frame is this rectangle, over their grid; label: of the scale below."""
        place = (left / WIDTH, 1 - (top + height) / self.height, width / WIDTH, height / self.height)
        axes = self.figure.add_axes(place, **options)
        axes.set_axisbelow(True)
        axes.tick_params(width=0.8, length=3)
        self.write(left + width / 2, top + height + 0.35, label, size=MEDIUM, align="center")
        return axes

    def write(
        self, x: float, y: float, text: str, *, size: float = SMALL, align: str = "left", color: str = INK
    ) -> None:
        """A line of text, over all else; letters.Words says what goes in."""
        self.words.append(Words(x=x, y=y, text=text, size=size, align=align, color=color))

    def heading(self, text: str) -> None:
        """What the sheet shows, on top."""
        self.write(0.12, 0.2, letters.fit(text, WIDTH - 0.24, LARGE), size=LARGE)

    def line(self, xs: Sequence[float], ys: Sequence[float], **options: Any) -> None:
        """A line, or the markers of one (options of matplotlib's Line2D)."""
        from matplotlib.lines import Line2D

        heights = [self.height - y for y in ys]
        self.figure.add_artist(Line2D(xs, heights, transform=self.figure.dpi_scale_trans, **options))

    def ground(self, boxes: Sequence[tuple[float, float, float, float]]) -> None:
        """White under words that stand over other things. boxes: left, top, right, bottom."""
        from matplotlib.collections import PolyCollection

        corners = [((x0, y0), (x1, y0), (x1, y1), (x0, y1)) for x0, y0, x1, y1 in boxes]
        turned = [[(x, self.height - y) for x, y in box] for box in corners]
        place = self.figure.dpi_scale_trans
        white = PolyCollection(turned, facecolors="white", linewidths=0, alpha=0.75, transform=place, zorder=4.8)
        self.figure.add_artist(white)

    def files(self) -> tuple[bytes, bytes]:
        """The sheet as (SVG, PNG)."""
        return self._svg(), self._png()

    def _svg(self) -> bytes:
        file = io.BytesIO()
        # Metadata without date and version: they would change the bytes of an unchanged plot.
        self.figure.savefig(file, format="svg", dpi=DPI, metadata={"Date": None, "Creator": None})
        drawing, end, rest = file.getvalue().rpartition(b"</svg>")
        return drawing + letters.svg(self.words).encode() + b"\n" + end + rest

    def _png(self) -> bytes:
        from PIL import Image

        self.figure.dpi = DPI
        self.figure.canvas.draw()
        size = self.figure.canvas.get_width_height(physical=True)
        pixels = Image.frombuffer("RGBA", size, self.figure.canvas.buffer_rgba(), "raw", "RGBA", 0, 1).convert("RGB")
        letters.draw(self.words, pixels)
        # Lines and letters need few colours: with a palette the file is a third as large, and sooner made.
        few = pixels.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        _whiten(few)
        file = io.BytesIO()
        few.save(file, format="png", dpi=(DPI, DPI))
        return file.getvalue()


def sheet(height: float) -> Sheet:
    """An empty sheet, WIDTH wide. Within `style`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), facecolor="white")
    FigureCanvasAgg(figure)  # a canvas of its own: pyplot would choose a window system for the whole process
    return Sheet(figure, height)


def _whiten(image: Any) -> None:
    """Make the ground of an image with a palette white: as the mean of all that is nearly white it came out greyish."""
    ground = 3 * image.getpixel((0, 0))
    palette = image.getpalette()
    palette[ground : ground + 3] = [255, 255, 255]
    image.putpalette(palette)
