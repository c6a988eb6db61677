"""The words of a sheet, set without matplotlib's layout of text, which took half of a plot's time.

In the SVG they are text, to be found and copied; in the PNG Pillow, which matplotlib needs as well, draws them in the
font that comes with matplotlib. No name from the data reaches matplotlib, so none is taken for a formula.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

DPI = 144
"""Of the PNG, and of what is raster in the SVG."""

FONTS = ("DejaVu Sans", "Verdana", "Arial", "Helvetica")
"""What the SVG asks for. All is measured in the first, and none of the others is wider."""

_CAPITAL = 0.73  # the height of a capital, of the letter's size
_ANCHORS = {"left": ("start", "ls"), "center": ("middle", "ms"), "right": ("end", "rs")}


@dataclass(frozen=True, kw_only=True)
class Words:
    """One line of text. x, y: inches from the top left corner; the capitals have their middle at y.

    align: whether it begins, is centred or ends at x: `left`, `center` or `right`. size: points. color: `#rrggbb`.
    """

    x: float
    y: float
    text: str
    size: float
    align: str
    color: str

    @property
    def baseline(self) -> float:
        """Inches from the top."""
        return self.y + _CAPITAL / 2 * self.size / 72


@lru_cache(maxsize=8192)
def width(text: str, size: float) -> float:
    """How wide a line of text is, in inches, in letters of `size` points."""
    length: float = _font(size).getlength(text)
    return length / DPI


def fit(text: str, inches: float, size: float) -> str:
    """The text, with an ellipsis where it is wider than this: its end stays, since names often differ there."""
    if width(text, size) <= inches:
        return text
    low, high = 0, len(text) - 1  # letters that stay
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if width(_cut(text, middle), size) <= inches else (low, middle - 1)
    return _cut(text, low)


def wrapped(text: str, inches: float, size: float) -> list[str]:
    """The text as lines that are no wider than this."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and width(longer, size) <= inches:
            lines[-1] = longer
        else:
            lines.append(fit(word, inches, size))
    return lines


def svg(words: Sequence[Words]) -> str:
    """The words as an SVG element, in a picture that counts in points."""
    fonts = ", ".join(f"'{name}'" for name in FONTS)
    lines = [
        f'<text x="{one.x * 72:.2f}" y="{one.baseline * 72:.2f}" font-size="{one.size:g}" fill="{one.color}"'
        f' text-anchor="{_ANCHORS[one.align][0]}">{html.escape(one.text, quote=False)}</text>'
        for one in words
    ]
    return "\n".join([f'<g font-family="{fonts}, sans-serif">', *lines, "</g>"])


def draw(words: Sequence[Words], image: Any) -> None:
    """The words onto an image of Pillow's, whose pixels are 1/DPI inch."""
    from PIL import ImageDraw

    canvas = ImageDraw.Draw(image)
    for one in words:
        # Whole pixels, or letters of one line would stand unlike those of the next.
        place = (round(one.x * DPI), round(one.baseline * DPI))
        canvas.text(place, one.text, fill=one.color, font=_font(one.size), anchor=_ANCHORS[one.align][1])


@lru_cache(maxsize=16)
def _font(size: float) -> Any:
    import matplotlib
    from PIL import ImageFont

    file = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    # The other engine is not in every build of Pillow.
    return ImageFont.truetype(str(file), round(size / 72 * DPI), layout_engine=ImageFont.Layout.BASIC)


def _cut(text: str, letters: int) -> str:
    head = math.ceil(letters * 2 / 3)
    return f"{text[:head]}…{text[len(text) - (letters - head) :]}"
