"""What every web page of the project is made with: the templates, and assets put inside the one file.

A page extends `shell.html` and may use `macros.html`, `style.css`, `theme.js` and `tables.js`; see `environment`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

FOLDER = Path(__file__).parent

# What would end the block, begin a comment or break a line: as escapes they are the same JSON.
_IN_SCRIPT = {character: f"\\u{ord(character):04x}" for character in ("<", ">", "&", "\u2028", "\u2029")}


def environment(*folders: Path) -> Environment:
    """Jinja with the project's templates, and those in `folders` before them.

    All that is put in is escaped, and an unknown name is an error. Templates can call `asset(name)`, the text of a
    style or script beside them, `policy(styles, scripts)`, the Content-Security-Policy that lets these run and
    nothing else, and `data(value)`, JSON for a script block.
    """
    made = Environment(
        loader=FileSystemLoader([*folders, FOLDER]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )

    def asset(name: str) -> Markup:
        assert made.loader is not None
        # Line ends as the browser has them when it checks the hash.
        return Markup(made.loader.get_source(made, name)[0].replace("\r\n", "\n"))

    def policy(styles: Iterable[str], scripts: Iterable[str]) -> str:
        allowed = {
            "default-src": ["'none'"],
            "img-src": ["data:"],
            "style-src": [_hash(asset(name)) for name in styles] or ["'none'"],
            "script-src": [_hash(asset(name)) for name in scripts] or ["'none'"],
            "base-uri": ["'none'"],
            "form-action": ["'none'"],
        }
        return "; ".join(f"{name} {' '.join(sources)}" for name, sources in allowed.items())

    made.globals.update(asset=asset, policy=policy, data=data)
    return made


def rows_of(table: object) -> Markup:
    """The rows of a table (cells.Table) that are in the document, as HTML: a large part of the work of a page."""
    return Markup(_own().get_template("rows.html").render(table=table))


@cache
def _own() -> Environment:
    return environment()


def data(value: Any) -> Markup:
    """A value as JSON that is safe inside a script element; lists and mappings of text, numbers and None.

    Raises ValueError for NaN and infinities, which JSON does not have.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character, instead in _IN_SCRIPT.items():
        text = text.replace(character, instead)
    return Markup(text)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
