"""Model cards: what is known of each LLM and backbone of the boards, and how it did on them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from stage_bench.leaderboard.rows import records
from stage_bench.leaderboard.samples import key_of
from stage_bench.leaderboard.site import layout
from stage_bench.leaderboard.site.boards import Board, Table
from stage_bench.leaderboard.wording import Row, plain

KINDS = {"llm": "Embedding model", "backbone": "Backbone"}

Describe = Callable[[str, str], Mapping[str, Any] | None]
"""What is known of a model, by kind (of KINDS) and name, as plain values; None: nothing."""

_UNKNOWN = "not known"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
_ARXIV = re.compile(r"arXiv (\d{4}\.\d{4,5})", re.ASCII)


class Fact(NamedTuple):
    """A line of a card. href: where more is said; code: text whose blanks and line ends are part of it."""

    label: str
    text: str
    href: str = ""
    code: bool = False


class Option(NamedTuple):
    name: str
    value: str
    meaning: str


class Result(NamedTuple):
    """A row of a board that has the model."""

    board: Board
    table: Table
    row: Row
    ensemble: bool


@dataclass(frozen=True, kw_only=True)
class Card:
    """path: of its page on the site. known: whether anything but results is at hand. options: by what they are of."""

    kind: str
    name: str
    path: str
    known: bool
    summary: str
    facts: Sequence[Fact]
    options: Mapping[str, Sequence[Option]]
    results: Sequence[Result]

    @property
    def boards(self) -> list[str]:
        return list(dict.fromkeys(result.board.name for result in self.results))


def make(boards: Sequence[Board], describe: Describe) -> list[Card]:
    """A card for each LLM and backbone of which the boards have a reproduced row, LLMs first, by name.

    Ensembles have none: what they consist of has.
    """
    found: dict[str, dict[str, list[Result]]] = {kind: {} for kind in KINDS}
    described: dict[tuple[str, str], Mapping[str, Any] | None] = {}

    def known(kind: str, name: str) -> Mapping[str, Any] | None:
        if (kind, name) not in described:
            described[kind, name] = describe(kind, name)
        return described[kind, name]

    for result in _results(boards):
        for name in llms(result.row["llm"]):
            found["llm"].setdefault(name, []).append(result)
        name = _name(result.row["backbone"] or "")
        if name and not (result.ensemble and known("backbone", name) is None):
            found["backbone"].setdefault(name, []).append(result)
    cards = []
    for kind, models in found.items():
        paths = layout.cards(kind, models)
        cards += [_card(kind, name, paths[name], known(kind, name), models[name]) for name in sorted(models)]
    return cards


def llms(label: str | None) -> list[str]:
    """The models that a board's `llm` names: `minilm(pca=64)+bge-m3` are minilm and bge-m3."""
    names, depth, start = [], 0, 0
    text = label or ""
    for place, mark in enumerate(text):
        depth = max(0, depth + {"(": 1, ")": -1}.get(mark, 0))
        if mark == "+" and not depth:
            names.append(text[start:place])
            start = place + 1
    return list(dict.fromkeys(filter(None, map(_name, [*names, text[start:]]))))


def _name(label: str) -> str:
    """A label without its options."""
    return label.partition("(")[0].strip()


def _results(boards: Sequence[Board]) -> Iterator[Result]:
    for board in boards:
        kinds = {key_of(run): run["kind"] == "ensemble" for run in records(board.report.runs)}
        for table in board.tables:
            for row in table.rows:
                yield Result(board, table, row, kinds.get(key_of(row), False))


def _card(kind: str, name: str, path: str, facts: Mapping[str, Any] | None, results: Sequence[Result]) -> Card:
    given = facts or {}
    lines = list((_of_llm if kind == "llm" else _of_backbone)(given)) if facts else []
    options = {
        heading: [_option(line) for line in given.get(key, ())]
        for key, heading in (("of the model", "Of the model"), ("of the training", "Of its training"))
    }
    return Card(
        kind=kind,
        name=plain(name),
        path=path,
        known=facts is not None,
        summary=plain(given.get("summary", "")),
        facts=lines,
        options={heading: found for heading, found in options.items() if found},
        results=results,
    )


def _of_llm(facts: Mapping[str, Any]) -> Iterator[Fact]:
    yield _source(facts)
    base = tuple(facts.get("base", ()))
    if any(base):
        yield Fact("Put on", _at(*base), _hub(*base))
    size = facts.get("dimension")
    shorter = "; its first dimensions are an embedding too (Matryoshka)" if facts.get("matryoshka") else ""
    yield Fact("Dimensions", f"{size:,}{shorter}" if size else _UNKNOWN)
    yield Fact("Parameters", f"{facts['parameters']:,}" if facts.get("parameters") else _UNKNOWN)
    if facts.get("loader") != "endpoint":
        length = "normalised to length 1" if facts.get("normalize") else "not normalised"
        yield Fact("Pooling", f"{facts.get('pooling', '')}, {length}")
        yield Fact("Dtype", str(facts.get("dtype", "")))
    tokens = facts.get("max_length")
    yield Fact("Texts are cut at", f"{tokens:,} tokens" if tokens else "what its server takes")
    yield Fact("Prompt", str(facts.get("prompt", "")), code=True)
    if facts.get("plain_prompt") not in (None, facts.get("prompt")):
        yield Fact("Prompt without instruction", str(facts["plain_prompt"]), code=True)
    yield Fact("Licence", str(facts.get("licence") or _UNKNOWN))
    yield Fact("Released", str(facts.get("released") or _UNKNOWN))
    yield Fact("This benchmark's texts in its training data", plain(facts.get("trained_on") or _UNKNOWN))
    yield Fact("Code of its repository", "must run, and does so only if a suite allows it"
               if facts.get("remote_code") else "does not run")  # fmt: skip
    if facts.get("weights_package"):
        extra = facts.get("weights_extra")
        yield Fact("Weights as a package", f"{facts['weights_package']}{f' (pip extra {extra})' if extra else ''}")
    if packed := facts.get("packed"):
        yield Fact("Weights as a package", str(packed.get("install", "")), code=True)
    if facts.get("price") is not None:
        yield Fact("Price", f"{facts['price']:g} US dollars for a million tokens")
    if facts.get("needs"):
        yield Fact("Needs", plain(facts["needs"]))


def _source(facts: Mapping[str, Any]) -> Fact:
    hub_id, revision = str(facts.get("hub_id", "")), str(facts.get("revision", ""))
    if hub_id:
        return Fact("Source", _at(hub_id, revision), _hub(hub_id, revision))
    if facts.get("loader") == "endpoint":
        return Fact("Source", "its vendor's endpoint")
    return Fact("Source", "a plug-in")


def _at(hub_id: str, revision: str = "") -> str:
    return plain(f"{hub_id} at revision {revision}" if revision else f"{hub_id}, no revision fixed")


def _hub(hub_id: str, revision: str = "") -> str:
    """The address of a repository on the hub; empty where the id is not one."""
    if not _HUB_ID.fullmatch(hub_id):
        return ""
    return f"https://huggingface.co/{hub_id}" + (f"/tree/{revision}" if revision.isalnum() else "")


def _of_backbone(facts: Mapping[str, Any]) -> Iterator[Fact]:
    paper = plain(facts.get("paper", ""))
    if paper:
        number = _ARXIV.fullmatch(paper)
        yield Fact("Paper", paper, f"https://arxiv.org/abs/{number[1]}" if number else "")
    yield Fact("Family", plain(facts.get("family", "")))
    yield Fact("Reads", _READS.get(str(facts.get("reads")), str(facts.get("reads"))))
    yield Fact("Graphs without edges", "are refused" if facts.get("needs_edges") else "will do")
    yield Fact("Edition", f"{facts.get('version', '')}, part of every run's identity")
    if facts.get("needs"):
        yield Fact("Needs", plain(facts["needs"]))


_READS = {
    "features": "features of the nodes",
    "predictions": "what its source says of the classes",
    "nothing": "edges and labels, no features",
}


def _option(line: str) -> Option:
    """`lr = 0.01: learning rate` in its parts."""
    name, _, rest = line.partition(" = ")
    value, _, meaning = rest.partition(": ")
    return Option(plain(name), plain(value), plain(meaning))
