"""From what a chat model wrote to the classes it named: exactly those, in its order, and nothing guessed.

An answer is read in one of three ways:

* lines `Class: NAME`, which the general prompt asks for;
* a list, which TAPE's prompts ask for: classes between commas, or each at the beginning of a line of its own (numbered,
  bulleted, or followed by its explanation);
* a sentence that says what the text belongs to ("The paper falls under ..."): the first that does, and none if it
  denies it.

What stands where a class should stand and is none is reported as unknown. What stands in an explanation never counts.
"""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from stage_bench.errors import StageBenchError

VERSION = 1  # raise when the same answers would be read in another way

_WORD = re.compile(r"[^\W_]+")
_THOUGHT = re.compile(r"\A\s*<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
_LABELLED = re.compile(r"^[ \t>*_#`-]*class(?:es)?(?:[ \t]+\d+)?[ \t*_`]*:(.*)$", re.IGNORECASE | re.MULTILINE)
_HEADING = re.compile(r"^[\s*_#>]*(?:answer|(?:sub-?)?categor(?:y|ies)|class(?:es)?)[\s*_]*:[\s*_]*", re.IGNORECASE)
_ITEM = re.compile(r"^[ \t>]*(?:\(?\d{1,2}[.):]|\(?[a-z]\)|[-*•–])[ \t]+", re.IGNORECASE)
_SENTENCE = re.compile(r"\S.*?(?:[.!?](?=\s|$)|$)")
_BETWEEN = re.compile(r"[,;/|]|\s(?:and|or|then|&|>)\s|\s[-–—]\s")
_AFTER_NAME = re.compile(r"(?:\s*\([^()]*\))?[\s*_`\"'”]*(?::|[-–—]\s)\s*(?P<what>.*)", re.DOTALL)
_DENIAL = re.compile(r"\b(?:not?|none|neither|nor|never|without|cannot|unlikely|n/a|\w+n['’]t)\b", re.IGNORECASE)
_UNABLE = re.compile(r"\b(?:sorry|unable to|cannot|can['’]t|as an ai)\b", re.IGNORECASE)
_CLAIM = re.compile(
    r"\b(?:belong|categor|subcategor|sub-categor|classif|involv|relat|fall|label|about|answer|likely|fit|assign)",
    re.IGNORECASE,
)
_FILLER = {"yes", "no", "sure", "certainly", "and", "or", "possibly", "likely", "answer"}
# A short part of a line with one of these is prose, and no name of a class that does not exist.
_PROSE = {
    *("a", "an", "the", "this", "these", "that", "which", "it", "its", "i", "we", "you", "paper", "product", "text"),
    *("is", "are", "be", "was", "can", "do", "does", "has", "have", "based", "following", "here"),
    *("as", "in", "of", "to", "with"),
}
_LONGEST_NAME = 6  # words of what can be taken for the name of a class


@dataclass(frozen=True)
class Parsed:
    """ranked: class indices, best first, each once. unknown: what stands where a class should, as it was written."""

    ranked: tuple[int, ...] = ()
    unknown: tuple[str, ...] = ()


class Parser:
    """Reads answers that name some of a dataset's classes."""

    def __init__(self, classes: Sequence[str], other_names: Mapping[str, Iterable[str]] | None = None) -> None:
        """other_names: by class, what else it is called.

        Raises:
            StageBenchError: two classes have one name.
        """
        meanings: dict[str, int] = {}
        for number, name in enumerate(classes):
            also = (other_names or {}).get(name, ())
            for called in (html.unescape(each).strip() for each in (name, *also)):
                if meanings.setdefault(called.casefold(), number) != number:
                    raise StageBenchError(f"two classes are called '{called}'; an answer could mean either")
        alike: dict[tuple[str, ...], set[int]] = {}
        for called, number in meanings.items():
            alike.setdefault(tuple(_WORD.findall(called)), set()).add(number)
        patterns = []
        self._numbers: list[int] = []
        # The longest first: "All Beauty" is not "Beauty".
        for called in sorted(filter(None, meanings), key=lambda called: (-len(called), called)):
            words = tuple(_WORD.findall(called))
            exact = not words or len(alike[words]) > 1  # punctuation alone tells it from another class: C and C++
            patterns.append(f"({re.escape(called) if exact else _loose(called)})")
            self._numbers.append(meanings[called])
        whole_words = r"(?<![^\W_])(?<![^\W_]-)(?:%s)(?![+#]|-?[^\W_])"  # "Theory-based" names no class
        self._names = re.compile(whole_words % "|".join(patterns), re.IGNORECASE)

    def __call__(self, answer: str) -> Parsed:
        text = _THOUGHT.sub("", answer.replace("\0", " "))
        labelled = _LABELLED.findall(text)
        if any(_WORD.search(line) for line in labelled):
            return _together(self._listed(line, surely=True) or Parsed() for line in labelled)
        lines = [line for line in (_HEADING.sub("", line) for line in text.splitlines()) if _WORD.search(line)]
        for number, line in enumerate(lines):
            if self._begins_a_list(line):
                return _together(self._item(item) for item in lines[number:] if self._is_item(item))
            for sentence in _SENTENCE.findall(line):
                found = self._listed(sentence)
                if found is not None and (found.ranked or found.unknown):
                    return _together([found, *self._more(lines[number + 1 :] if sentence == line.strip() else [])])
                if found is None and _UNABLE.search(sentence):
                    return Parsed()
                if found is None and _CLAIM.search(sentence):
                    named = self._named(sentence)
                    if named:
                        denied = _DENIAL.search(self._names.sub(" ", sentence))
                        return Parsed() if denied else Parsed(named)
        return Parsed()

    def _number(self, match: re.Match[str]) -> int:
        return self._numbers[(match.lastindex or 1) - 1]

    def _named(self, text: str) -> tuple[int, ...]:
        """Every class named there, each once; what stands in brackets counts only where nothing else does."""
        for where in (_without_brackets(text), text):
            found = dict.fromkeys(self._number(match) for match in self._names.finditer(where))
            if found:
                return tuple(found)
        return ()

    def _more(self, lines: Sequence[str]) -> Iterator[Parsed]:
        """The lines below a list that are nothing but classes as well."""
        for line in lines:
            found = self._listed(line)
            if found is None or not found.ranked or found.unknown:
                return
            yield found

    def _begins_a_list(self, line: str) -> bool:
        """Whether a line is the first of several that begin with a class, or with what should be one."""
        if self._is_explained(line):
            return True
        item = self._item(line)
        return _ITEM.match(line) is not None and bool(item.ranked or item.unknown)

    def _is_item(self, line: str) -> bool:
        return _ITEM.match(line) is not None or self._is_explained(line)

    def _is_explained(self, line: str) -> bool:
        """Whether a line begins with a class, and a colon or a dash behind it."""
        bare = _bare(line)
        match = self._names.match(bare)
        return match is not None and _AFTER_NAME.match(bare[match.end() :]) is not None

    def _item(self, line: str) -> Parsed:
        """What an item names at its beginning: a class, several, or something that is none."""
        bare = _bare(line)
        match = self._names.match(bare)
        if match is None:
            label = re.split(r"[:(–—]|\s-\s", bare, maxsplit=1)[0]
            return self._listed(label) or Parsed()
        after = _AFTER_NAME.match(bare[match.end() :])
        if after is not None:
            denied = re.match(r"[\s*_]*(?:\w+\s+)?" + _DENIAL.pattern, after["what"], re.IGNORECASE)
            return Parsed() if denied else Parsed((self._number(match),))
        sentence = _SENTENCE.search(re.split(r":\s|\s[-–—]\s", bare, maxsplit=1)[0])
        listed = self._listed(sentence[0]) if sentence else None
        return listed if listed is not None and listed.ranked else Parsed((self._number(match),))

    def _listed(self, line: str, surely: bool = False) -> Parsed | None:
        """What a line that is a list names; None where it is prose. surely: it is a list, whatever stands in it."""
        outside = _without_brackets(line)
        if not self._names.search(outside) and self._names.search(line):
            outside = line.replace("(", ",").replace(")", ",") if surely else line
        names: list[str] = []

        def take(match: re.Match[str]) -> str:  # first, since a comma inside a name parts nothing
            names.append(match[0])
            return f"\0{self._number(match)}\0"

        parts = _BETWEEN.split(self._names.sub(take, outside))
        written = iter(names)
        ranked, unknown = [], []
        for part in parts:
            inside = [int(number) for number in re.findall(r"\0(\d+)\0", part)]
            words = [word.casefold() for word in _WORD.findall(re.sub(r"\0\d+\0", " ", part))]
            rest = [word for word in words if word not in _FILLER]
            as_written = re.sub(r"\0\d+\0", lambda _: next(written), part).strip(" \t.:*_`\"'“”")
            if len(inside) == 1 and not rest:
                ranked.append(inside[0])
                continue
            if not surely and (inside or part.rstrip(" *_").endswith(":") or not _is_a_name(rest)):
                if inside or rest:
                    return None
            elif rest or inside:
                unknown.append(as_written)
        return Parsed(tuple(dict.fromkeys(ranked)), tuple(unknown))


def _loose(called: str) -> str:
    """A pattern for a name, up to what stands between its words."""
    words = list(_WORD.finditer(called))
    pattern = re.escape(words[0][0])
    for before, word in itertools.pairwise(words):
        between = called[before.end() : word.start()].strip(" _")
        also = ""
        if between == "&":
            also = r"|\s*&\s*|\s+and\s+"
        elif between:
            # "cs.AI" may be written "cs AI", but the end of a sentence and "It" are not cs.IT.
            also = rf"|{re.escape(between)}" if between == "." else rf"|\s*{re.escape(between)}\s*"
            if between.endswith("&"):
                also += rf"|\s*{re.escape(between[:-1].strip())}\s*and\s+"
        pattern += rf"(?:[ \t_-]+|[.:/]{also})" + re.escape(word[0])
    return pattern


def _bare(line: str) -> str:
    """A line without its number, bullet and marks of emphasis at the beginning."""
    return _ITEM.sub("", line).lstrip(" \t*_#>`\"'“")


def _without_brackets(text: str) -> str:
    return re.sub(r"\([^()]*\)", " ", text)


def _is_a_name(words: Sequence[str]) -> bool:
    return len(words) <= _LONGEST_NAME and not _PROSE.intersection(words)


def _together(parts: Iterable[Parsed]) -> Parsed:
    ranked: dict[int, None] = {}
    unknown: list[str] = []
    for part in parts:
        ranked |= dict.fromkeys(part.ranked)
        unknown.extend(part.unknown)
    return Parsed(tuple(ranked), tuple(unknown))
