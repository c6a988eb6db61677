"""The sentences of a report as HTML: of Markdown they use `**bold**` and `*emphasis*`."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

_MARKED = re.compile(r"\*\*(.+?)\*\*|\*(.+?)\*", re.DOTALL)


def inline(text: str) -> Markup:
    """The text, escaped, with its bold and emphasis as elements."""
    parts, end = [], 0
    for found in _MARKED.finditer(text):
        tag = "b" if found[1] else "em"
        parts += [escape(text[end : found.start()]), Markup(f"<{tag}>"), escape(found[1] or found[2])]
        parts.append(Markup(f"</{tag}>"))
        end = found.end()
    return Markup("").join([*parts, escape(text[end:])])
