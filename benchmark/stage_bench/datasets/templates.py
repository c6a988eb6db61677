"""The text template of a folder dataset, such as `"Title: {title}\\nAbstract: {abstract}"`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stage_bench.errors import StageBenchError

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")

_ANSWERS = ("label", "split")


@dataclass(frozen=True)
class Template:
    """Literal parts and node columns in turn: `literals` has one more than `columns`."""

    literals: tuple[str, ...]
    columns: tuple[str, ...]

    @property
    def blank(self) -> str:
        """What a node without any value gets."""
        return "".join(self.literals)

    def fill(self, values: Mapping[str, str]) -> str:
        parts = [self.literals[0]]
        for column, literal in zip(self.columns, self.literals[1:], strict=True):
            parts += (values[column], literal)
        return "".join(parts)


def parse(text: Any) -> Template:
    """A column's name in braces stands for its value; `{{` and `}}` are braces.

    Raises:
        StageBenchError: it is no text, names no column, or has a brace without its other half.
    """
    if not isinstance(text, str):
        raise StageBenchError("text is a template over the node columns, such as '{title}'")
    literals, columns = [""], []
    end = 0
    for token in _TOKEN.finditer(text):
        literals[-1] += text[end : token.start()]
        end = token.end()
        if token[0] in ("{{", "}}"):
            literals[-1] += token[0][0]
        elif token[1] is None:
            what = "opens no column" if token[0] == "{" else "closes no column"
            raise StageBenchError(
                f"the text template's '{token[0]}' at character {token.start() + 1} {what}; a column is {{name}}, a "
                f"brace itself is {token[0] * 2}"
            )
        elif not token[1].strip():
            raise StageBenchError(f"the text template's braces at character {token.start() + 1} name no column")
        elif token[1].strip() in _ANSWERS:
            raise StageBenchError(
                f"the text template names the column '{token[1].strip()}': the text would hold the answer"
            )
        else:
            columns.append(token[1].strip())
            literals.append("")
    literals[-1] += text[end:]
    if not columns:
        raise StageBenchError("the text template names no column, such as '{title}'")
    return Template(tuple(literals), tuple(columns))


def is_empty(value: Any) -> bool:
    """Whether a cell holds nothing: absent, null, NaN or the empty string."""
    return value is None or value == "" or (isinstance(value, float) and value != value)
