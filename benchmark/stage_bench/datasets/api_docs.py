"""The built-in dataset `api-docs`: the documentation of scipy, scikit-learn and networkx as a text-attributed graph.

The installed source files are read with `ast`; nothing of the packages is imported.

Nodes are the functions and classes at the top level of a module and the methods of those classes (properties too) that
have a docstring and no name with a leading `_`. Modules may be private: scipy and scikit-learn define most of their API
in private modules. What a module's `__all__` leaves out is no node, and neither are tests, vendored code and build
scripts. A text is in the graph once: of several objects with one text the shortest id stays, then the first.

A node's id is its dotted path without private modules (`scipy.optimize.minimize` for `scipy/optimize/_minimize.py`);
objects that would share an id keep their full paths. Its label is the public subpackage or module below the package
(`scipy.optimize`, `networkx.algorithms`). Its text is the docstring without what names a place (see `_clean`).

Edges go from a class to its methods and to its base classes, and from an object to its See Also entries.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata, util
from itertools import takewhile
from pathlib import Path
from textwrap import dedent
from typing import TypeAlias

from stage_bench.errors import StageBenchError

EXTRACTOR_VERSION = 1
"""Raised when the same packages would give another graph."""

PACKAGES = {"scipy": "scipy", "sklearn": "scikit-learn", "networkx": "networkx"}
"""Import name -> distribution name."""

_TESTING = {"tests", "conftest", "_testing", "_testutils", "_mptestutils", "_tstutils", "_test_common", "_mocking"}
_BUILDING = {"benchmarks", "doc", "docs", "setup", "_build_utils", "_precompute"}
_VENDORED = {"_lib", "_external", "externals"}
_EXCLUDED = frozenset(_TESTING | _BUILDING | _VENDORED)
_DROPPED_SECTIONS = frozenset({"see also", "example", "examples", "reference", "references", "note", "notes"})

_Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

_UNDERLINE = re.compile(r"\s*([-=~^])\1{2,}\s*")
_DOCTEST = re.compile(r"\s*(?:>>>|\.\.\.)(?: .*)?")
_ROLE = re.compile(r":(?:py:)?[a-z]+:(?=`)")  # what stands before `name`
_LINKS = (
    (re.compile(r"\b(?:https?|ftp)://[^\s<>`]+"), ""),
    (re.compile(r":(?:ref|doc|mod|numref):`[^`<]*`"), ""),  # the name of a page or module, with no text of its own
    (re.compile(r"\s*<[^<>`]*>`_*"), "`"),  # `text <target>`
    (_ROLE, ""),
    (re.compile(r"%\(\w+\)s"), ""),  # filled in when the package is imported
)
_NAME = r"[^\W\d]\w*"
# With the quotes and the call brackets around it; "e.g." and "i.e." are words.
_DOTTED = re.compile(rf"(`{{0,2}})~?(?<!\w)(?!(?:e\.g|i\.e)\b){_NAME}(?:\.{_NAME})+(?:\(\))?\1")
_REFERENCE = re.compile(rf"{_NAME}(?:\.{_NAME})*")


@dataclass(frozen=True)
class ApiGraph:
    """`nodes`: keys `id`, `text` and `label`, sorted by id; `edges`: sorted, distinct (source, target) positions in it.

    `versions`: distribution name -> version; empty where other folders than the installed ones were read.
    """

    nodes: list[dict[str, str]]
    edges: list[tuple[int, int]]
    versions: dict[str, str]


@dataclass(frozen=True)
class _Object:
    module: tuple[str, ...]
    names: tuple[str, ...]  # (function,), (class,) or (class, method)
    text: str
    see_also: tuple[str, ...]
    bases: tuple[str, ...] | None  # None: not a class

    @property
    def path(self) -> tuple[str, ...]:
        return self.module + self.names

    @property
    def public_path(self) -> tuple[str, ...]:
        return tuple(part for part in self.path if not part.startswith("_"))

    @property
    def label(self) -> str:
        return ".".join(self.module[:2])


def installed_versions() -> dict[str, str]:
    """Distribution name -> version of the packages that the graph is read from."""
    versions = {}
    for distribution in PACKAGES.values():
        try:
            versions[distribution] = metadata.version(distribution)
        except metadata.PackageNotFoundError as error:
            raise _absent(distribution) from error
    return versions


def extract(roots: Mapping[str, Path] | None = None, min_class_size: int = 60) -> ApiGraph:
    """Read the graph from package folders (import name -> folder; default: the installed `PACKAGES`).

    Labels with fewer than `min_class_size` nodes are dropped with their nodes. Raises StageBenchError where a package
    is absent or a file cannot be read as Python.
    """
    versions = installed_versions() if roots is None else {}
    roots = _installed_roots() if roots is None else roots
    objects = [found for package in sorted(roots) for found in _read_package(package, roots[package])]
    named = _without_repeated_texts(_with_ids(objects))
    sizes = Counter(item.label for item in named.values())
    ids = sorted(id_ for id_, item in named.items() if sizes[item.label] >= min_class_size)
    position = {named[id_].path: index for index, id_ in enumerate(ids)}
    edges = {
        (position[source.path], position[target.path])
        for source, target in _links(list(named.values()))
        if source.path in position and target.path in position
    }
    nodes = [{"id": id_, "text": named[id_].text, "label": named[id_].label} for id_ in ids]
    return ApiGraph(nodes=nodes, edges=sorted(edges), versions=versions)


def _absent(distribution: str) -> StageBenchError:
    return StageBenchError(f"dataset api-docs: {distribution} is not installed; run `pip install {distribution}`")


def _installed_roots() -> dict[str, Path]:
    roots = {}
    for package, distribution in PACKAGES.items():
        spec = util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise _absent(distribution)
        roots[package] = Path(next(iter(spec.submodule_search_locations)))
    return roots


def _read_package(package: str, root: Path) -> Iterator[_Object]:
    if not root.is_dir():
        raise StageBenchError(f"dataset api-docs: {root} is not a folder")
    for file in sorted(root.rglob("*.py")):
        parts = file.relative_to(root).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if parts and not parts[0].startswith("_") and _EXCLUDED.isdisjoint(parts):
            yield from _read_module((package, *parts), file)


def _read_module(module: tuple[str, ...], file: Path) -> Iterator[_Object]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            warnings.simplefilter("ignore", DeprecationWarning)  # what invalid escapes give before Python 3.12
            tree = ast.parse(file.read_bytes(), filename=str(file))
    except (OSError, SyntaxError, ValueError) as error:
        raise StageBenchError(f"dataset api-docs: {file} cannot be read as Python: {error}") from error
    offered = _offered(tree)
    for statement in tree.body:
        if not isinstance(statement, _Definition) or statement.name.startswith("_"):
            continue
        if offered is None or statement.name in offered:
            yield from _read_definition(module, (), statement)
            for member in statement.body if isinstance(statement, ast.ClassDef) else ():
                if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield from _read_definition(module, (statement.name,), member)


def _offered(tree: ast.Module) -> set[str] | None:
    """The names in `__all__`; None where a module has none, or one that is computed."""
    names: set[str] = set()
    found = False
    for statement in tree.body:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id="__all__")], value=ast.expr() as value)
                | ast.AnnAssign(target=ast.Name(id="__all__"), value=ast.expr() as value)
                | ast.AugAssign(target=ast.Name(id="__all__"), value=ast.expr() as value)
            ):
                try:
                    names.update(ast.literal_eval(value))
                except ValueError:
                    return None
                found = True
    return names if found else None


def _read_definition(module: tuple[str, ...], owner: tuple[str, ...], statement: _Definition) -> Iterator[_Object]:
    doc = ast.get_docstring(statement)
    if doc is None or statement.name.startswith("_"):
        return
    text, see_also = _clean(doc)
    if not text:
        return
    bases = None
    if isinstance(statement, ast.ClassDef):  # `nx.Graph` counts as `Graph`: the alias means nothing outside the file
        written = (base for base in statement.bases if isinstance(base, ast.Name | ast.Attribute))
        bases = tuple(base.id if isinstance(base, ast.Name) else base.attr for base in written)
    yield _Object(module, (*owner, statement.name), text, see_also, bases)


def _clean(doc: str) -> tuple[str, tuple[str, ...]]:
    """The text of a docstring, and the names in its See Also sections.

    The text has no See Also, Examples, References and Notes sections, no doctest lines, and nothing that names a
    module: dotted names go as a whole (their last part would often be the label), URLs and reference targets too.
    Underlines of headings and template placeholders, which are not words, go as well.
    """
    kept, see_also = [], []
    title, dropped_under = "", ""  # the open dropped section, and the character that underlines its heading
    lines = doc.splitlines()
    for number, line in enumerate(lines):
        below = _UNDERLINE.fullmatch(lines[number + 1]) if number + 1 < len(lines) else None
        if below and line.strip() and (not dropped_under or below[1] == dropped_under):
            title = line.strip().rstrip(":").lower()
            dropped_under = below[1] if title in _DROPPED_SECTIONS else ""
        if title == "see also":
            see_also.append(line)
        elif not dropped_under and not _UNDERLINE.fullmatch(line) and not _DOCTEST.fullmatch(line):
            kept.append(line)
    text = "\n".join(kept)
    for pattern, replacement in _LINKS:
        text = pattern.sub(replacement, text)
    text = _DOTTED.sub("", text)
    text = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)
    text = re.sub(r"(?<=\S) {2,}", " ", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip(), tuple(_names(see_also))


def _names(see_also: list[str]) -> Iterator[str]:
    """The names before the colon in the entries of a See Also section; indented lines are descriptions."""
    for line in dedent("\n".join(see_also)).splitlines():
        if not line[:1].isspace():
            for name in _ROLE.sub("", line).partition(":")[0].split(","):
                reference = _REFERENCE.fullmatch(name.strip(" `~*-()"))
                if reference:
                    yield reference[0]


def _with_ids(objects: Iterable[_Object]) -> dict[str, _Object]:
    """Of several definitions of one name in a module (a property and its setter) the first is taken."""
    by_path: dict[tuple[str, ...], _Object] = {}
    for item in objects:
        by_path.setdefault(item.path, item)
    uses = Counter(item.public_path for item in by_path.values())
    return {".".join(item.public_path if uses[item.public_path] == 1 else path): item for path, item in by_path.items()}


def _without_repeated_texts(named: Mapping[str, _Object]) -> dict[str, _Object]:
    kept: dict[str, str] = {}
    for id_ in sorted(named, key=lambda id_: (id_.count("."), id_)):
        kept.setdefault(named[id_].text, id_)
    return {id_: named[id_] for id_ in kept.values()}


def _links(objects: list[_Object]) -> Iterator[tuple[_Object, _Object]]:
    by_name: defaultdict[str, list[_Object]] = defaultdict(list)
    for item in objects:
        by_name[item.names[-1]].append(item)
    classes = {item.path: item for item in objects if item.bases is not None}
    for item in objects:
        if item.path[:-1] in classes:
            yield classes[item.path[:-1]], item
        for reference in item.see_also:
            target = _resolve(reference, item, by_name)
            if target:
                yield item, target
        for base in item.bases or ():
            target = _resolve(base, item, by_name)
            if target and target.bases is not None:
                yield item, target


def _resolve(reference: str, source: _Object, by_name: Mapping[str, list[_Object]]) -> _Object | None:
    """The object that a name means: of those it fits, the one that shares most of its path's beginning with `source`.

    None where no object fits or several are equally near. A dotted name fits a path that has its parts in that order,
    so that `scipy.sparse.linalg.eigs` is found where it is defined. A bare name is a method only within its class.
    """
    *parents, name = reference.split(".")
    near: list[_Object] = []
    nearest = 0
    for target in by_name.get(name, ()):
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(source.path, target.path, strict=False)))
        reachable = parents or len(target.names) == 1 or shared > len(source.module)
        rest = iter(target.path[:-1])
        if target is not source and shared >= nearest and reachable and all(part in rest for part in parents):
            near = [*near, target] if shared == nearest else [target]
            nearest = shared
    return near[0] if len(near) == 1 else None
