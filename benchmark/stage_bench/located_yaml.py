"""YAML in which every value knows its place, read by the YAML 1.2 core rules and without PyYAML's traps.

`1e-2` is a number, `no` and `on` are words, a duplicate key is an error, tags and recursive aliases are refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stage_bench.errors import StageBenchError

_MAX_NODES = 100_000  # aliases of aliases can make a small file huge
_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """SafeLoader with the implicit types of the YAML 1.2 core schema only."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _kind, _pattern, _first in (
    ("null", r"(?:~|null|Null|NULL|)", ["~", "n", "N", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)", list("tTfF")),
    ("int", r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)", list("-+0123456789")),
    (
        "float",
        r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))",
        list("-+0123456789."),
    ),
):
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(f"^{_pattern}$"), _first)


@dataclass(frozen=True)
class Document:
    """A YAML mapping and the places of its parts."""

    path: Path
    value: dict[str, Any]
    root: yaml.MappingNode

    def place(self, location: Sequence[str | int] = (), *, key: bool = False) -> str:
        """`file:line:column` of the part at that location; steps that do not exist are passed over.

        key: point at the key that leads there, not at its value.
        """
        return _place(self._node(location, key))

    def folder(self, location: Sequence[str | int] = ()) -> Path:
        """The folder of the file that says what stands at that location; an included file has its own."""
        return Path(self._node(location, False).start_mark.name).parent

    def _node(self, location: Sequence[str | int], key: bool) -> yaml.Node:
        node: yaml.Node = self.root
        at = node
        for step in location:
            found = _child(node, step)
            if found is None:  # a key that is missing, or the name of a branch in a pydantic location
                continue
            at, node = (found[0] if key else found[1]), found[1]
        return at

    def error(self, location: Sequence[str | int], message: str, *, key: bool = False) -> StageBenchError:
        return StageBenchError(f"{self.place(location, key=key)}: {message}")


def load(path: Path) -> Document:
    """Read a file whose top level is a mapping.

    Raises:
        StageBenchError: it is absent, not UTF-8, not YAML, not a mapping, or holds a duplicate key; with the place.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StageBenchError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise StageBenchError(f"{path}: cannot be read: {error}") from None
    return parse(text, path)


def parse(text: str, path: Path) -> Document:
    """The same for text that is at hand; `path` is what its places name."""
    try:
        loader = _Loader(text)
        loader.name = str(path)
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise StageBenchError(f"{path}:{line}:{column}: not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise StageBenchError(f"{path}:1:1: not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise StageBenchError(f"{path}:1:1: nested too deeply") from None
    if root is None:
        raise StageBenchError(f"{path}:1:1: the file is empty")
    if not isinstance(root, yaml.MappingNode):
        raise StageBenchError(f"{_place(root)}: expected `key: value` lines at the top")
    return Document(path, build(root), root)


def build(root: yaml.MappingNode) -> dict[str, Any]:
    """The Python value of a node tree."""
    value = _Builder().build(root)
    assert isinstance(value, dict)
    return value


class _Builder:
    def __init__(self) -> None:
        self.count = 0
        self.open: set[int] = set()

    def build(self, node: yaml.Node) -> Any:
        self.count += 1
        if self.count > _MAX_NODES:
            raise StageBenchError(f"{_place(node)}: more than {_MAX_NODES} values")
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        if id(node) in self.open:
            raise StageBenchError(f"{_place(node)}: an alias contains itself")
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                _check_tag(node, "seq")
                return [self.build(child) for child in node.value]
            assert isinstance(node, yaml.MappingNode)
            _check_tag(node, "map")
            result: dict[str, Any] = {}
            for key_node, value_node in node.value:
                key = self._key(key_node)
                if key in result:
                    raise StageBenchError(f"{_place(key_node)}: key '{key}' stands here twice")
                result[key] = self.build(value_node)
            return result
        finally:
            self.open.discard(id(node))

    def _key(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise StageBenchError(f"{_place(node)}: a key must be a word")
        return str(node.value)


def _scalar(node: yaml.ScalarNode) -> Any:
    text, kind = node.value, node.tag.removeprefix(_TAG)
    if kind == "str":
        return text
    if kind == "null":
        return None
    try:
        if kind == "bool":
            return {"true": True, "false": False}[text.lower()]
        if kind == "int":
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if kind == "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    except (KeyError, ValueError):
        raise StageBenchError(f"{_place(node)}: '{text}' cannot be read as a {kind}") from None
    raise StageBenchError(f"{_place(node)}: the tag '{node.tag}' is not allowed")


def _check_tag(node: yaml.Node, kind: str) -> None:
    if node.tag != _TAG + kind:
        raise StageBenchError(f"{_place(node)}: the tag '{node.tag}' is not allowed")


def _child(node: yaml.Node, step: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        return next(((k, v) for k, v in node.value if k.value == str(step)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step]
    return None


def _place(node: yaml.Node) -> str:
    mark = node.start_mark
    return f"{mark.name}:{mark.line + 1}:{mark.column + 1}"
