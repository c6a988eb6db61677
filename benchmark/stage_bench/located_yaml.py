"""YAML in which every value knows its place, read by the YAML 1.2 core rules and without PyYAML's traps.

`1e-2` is a number, `no` and `on` are words, a duplicate key is an error. What no suite needs is refused with its place:
tags, recursive aliases, control characters, numbers beyond 64 bits, files without end.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stage_bench.errors import StageBenchError, brief

_MAX_BYTES = 2_000_000  # PyYAML reads some hundred thousand a second
_MAX_NODES = 100_000  # aliases of aliases can make a small file huge
_MAX_DEPTH = 50  # of lists and mappings in each other
_TAG = "tag:yaml.org,2002:"
_DIGITS = 400
_SCALARS = ("str", "null", "bool", "int", "float")
_UNWANTED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]")  # but tabs and line ends


class _Loader(yaml.SafeLoader):
    """SafeLoader with the implicit types of the YAML 1.2 core schema only."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.depth > _MAX_DEPTH:  # else Python's own limit would end it, with no place
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem=f"more than {_MAX_DEPTH} levels of nesting", problem_mark=mark)
        self.depth += 1
        try:
            node: yaml.Node | None = super().compose_node(parent, index)
            return node
        finally:
            self.depth -= 1


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

    def beside(self, location: Sequence[str | int], name: str) -> Path:
        """The path that a file means by the name at that location, relative to its own folder; it need not exist.

        Raises:
            StageBenchError: no path can be of that name, or it must not be looked at; with the place.
        """
        try:
            path = self.folder(location) / Path(name).expanduser()
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise self.error(location, f"'{brief(name)}': {error.strerror or error}") from None
        except (RuntimeError, ValueError) as error:  # ~nobody; characters that no file system has
            raise self.error(location, f"'{brief(name)}' is no path: {error}") from None
        return path


def load(path: Path) -> Document:
    """Read a file whose top level is a mapping.

    Raises:
        StageBenchError: it is absent, not UTF-8, not YAML, not a mapping, or holds a duplicate key; with the place.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise StageBenchError(f"{path}: no such file") from None
    except OSError as error:
        raise StageBenchError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(data) > _MAX_BYTES:
        raise StageBenchError(f"{path}:1:1: has more than {_MAX_BYTES:,} bytes, which is no file that a person wrote")
    try:
        return parse(data.decode("utf-8"), path)
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        raise StageBenchError(f"{path}:{_counted(before)}: not UTF-8: {error.reason}") from None


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
    except yaml.reader.ReaderError as error:
        place = _counted(text[: error.position])
        raise StageBenchError(
            f"{path}:{place}: not YAML: the character {_code(error.character)} is not allowed"
        ) from None
    except yaml.YAMLError as error:
        raise StageBenchError(f"{path}:1:1: not YAML: {' '.join(str(error).split())}") from None
    except (ValueError, OverflowError):  # of an escape, such as \U00110000
        place = f"{loader.line + 1}:{loader.column + 1}"
        raise StageBenchError(f"{path}:{place}: not YAML: an escape stands for no character") from None
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
                    raise StageBenchError(f"{_place(key_node)}: key '{brief(key)}' stands here twice")
                result[key] = self.build(value_node)
            return result
        finally:
            self.open.discard(id(node))

    def _key(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise StageBenchError(f"{_place(node)}: a key must be a word")
        if not (node.tag.startswith(_TAG) and node.tag.removeprefix(_TAG) in _SCALARS):
            raise StageBenchError(f"{_place(node)}: the tag '{brief(node.tag)}' is not allowed")
        return _checked(node)


def _scalar(node: yaml.ScalarNode) -> Any:
    text, kind = _checked(node), node.tag.removeprefix(_TAG)
    if kind == "str":
        return text
    if kind == "null":
        return None
    try:
        if kind == "bool":
            return {"true": True, "false": False}[text.lower()]
        if kind == "int":
            return _whole(text)
        if kind == "float":
            return _fraction(text)
    except OverflowError:
        raise StageBenchError(f"{_place(node)}: '{brief(text, 40)}' is a number that does not fit in 64 bits") from None
    except (KeyError, ValueError):
        raise StageBenchError(f"{_place(node)}: '{brief(text, 40)}' cannot be read as a {kind}") from None
    raise StageBenchError(f"{_place(node)}: the tag '{brief(node.tag)}' is not allowed")


def _whole(text: str) -> int:
    if len(text) > _DIGITS and text.lstrip("+-").isdecimal():  # int() would refuse some thousand for another reason
        raise OverflowError
    number = int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if not -(2**63) <= number < 2**64:
        raise OverflowError
    return number


def _fraction(text: str) -> float:
    number = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    if math.isinf(number) and "inf" not in text.lower():
        raise OverflowError
    return number


def _checked(node: yaml.ScalarNode) -> str:
    """The text of a scalar; only an escape can bring in what is refused here."""
    text = str(node.value)
    found = _UNWANTED.search(text)
    if found:
        raise StageBenchError(f"{_place(node)}: a text with the character {_code(found[0])}, which no file here needs")
    return text


def _code(character: str | int) -> str:
    number = character if isinstance(character, int) else ord(character)
    return f"U+{number:04X}"


def _counted(before: str) -> str:
    """`line:column` of what follows a text."""
    return f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


def _check_tag(node: yaml.Node, kind: str) -> None:
    if node.tag != _TAG + kind:
        raise StageBenchError(f"{_place(node)}: the tag '{brief(node.tag)}' is not allowed")


def _child(node: yaml.Node, step: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        return next(((k, v) for k, v in node.value if k.value == str(step)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step]
    return None


def _place(node: yaml.Node) -> str:
    mark = node.start_mark
    return f"{mark.name}:{mark.line + 1}:{mark.column + 1}"
