"""What a chat model is asked about a node's text: TAPE's prompts, a general one, or a suite's own."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from stage_bench.errors import StageBenchError

TOP = 5  # classes asked for where neither the prompt nor the suite says how many
_SLOT = re.compile(r"\{(text|classes|top)\}")

# TAPE's questions (arXiv 2305.19523, appendix), to the letter: inputs to reproduce. TAPE's repository holds none of
# them; they are compared with the published code of several who repeat TAPE, all of which agree. TAPE puts
# "Abstract: ... \n Title: ..." in front of a question; here it is the dataset's own text.
_TAPE = "{text} \n Question: %s \n \n Answer:"
_CORA = _TAPE % (
    "Which of the following sub-categories of AI does this paper belong to: Case Based, Genetic Algorithms, Neural "
    "Networks, Probabilistic Methods, Reinforcement Learning, Rule Learning, Theory? If multiple options apply, "
    "provide a comma-separated list ordered from most to least related, then for each choice you gave, explain how it "
    "is present in the text."
)
_PUBMED = _TAPE % (
    "Does the paper involve any cases of Type 1 diabetes, Type 2 diabetes, or Experimentally induced diabetes? Please "
    "give one or more answers of either Type 1 diabetes, Type 2 diabetes, or Experimentally induced diabetes; if "
    "multiple options apply, provide a comma-separated list ordered from most to least related, then for each choice "
    "you gave, give a detailed explanation with quotes from the text explaining why it is related to the chosen option."
)
_ARXIV = _TAPE % (
    "Which arXiv CS subcategory does this paper belong to? Give 5 likely arXiv CS sub-categories as a comma-separated "
    "list ordered from most to least likely, in the form “cs.XX”, and provide your reasoning."
)
# Ours, for every other dataset. TAPE's for ogbn-products is not among what its authors released.
GENERAL = (
    "{text}\n\n"
    "Which of these classes does the text above belong to?\n{classes}\n\n"
    "Name up to {top} of them, the most likely first. Write each on a line of its own that begins with `Class:`, with "
    "its name as it stands in the list. Then write a line that begins with `Explanation:`, and explain for each class "
    "you named how it shows in the text."
)

_CORA_CLASSES = (
    *("case based", "genetic algorithms", "neural networks", "probabilistic methods"),
    *("reinforcement learning", "rule learning", "theory"),
)
_PUBMED_WORDS = {
    "diabetes mellitus experimental": ("Experimentally induced diabetes",),
    "diabetes mellitus type 1": ("Type 1 diabetes", "Type 1 diabetes mellitus"),
    "diabetes mellitus type 2": ("Type 2 diabetes", "Type 2 diabetes mellitus"),
}
_ARXIV_NAME = re.compile(r"(?:arxiv )?(cs [a-z]{2})")


@dataclass(frozen=True)
class Question:
    """A prompt for a dataset's nodes.

    template: has `{text}` alone left to fill in. other_names: what a class may also be called in an answer to it.
    """

    template: str
    other_names: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def about(self, text: str) -> str:
        """The prompt for a text; braces in it are those characters."""
        return self.template.replace("{text}", text)


def question(dataset: str, classes: Sequence[str], own: str | None = None, top: int | None = None) -> Question:
    """The dataset's prompt, or the one that a suite writes.

    TAPE's stand for the classes they list, whatever the dataset is called.

    Raises:
        StageBenchError: the classes have no names, or `top` has no place in the prompt.
    """
    check_names(dataset, classes)
    template = own or _of_tape(classes) or GENERAL
    if top is not None and "{top}" not in template:
        whose = "the suite's prompt" if own else f"TAPE's prompt, which fits the classes of '{dataset}',"
        raise StageBenchError(f"answers: top: {top}, but {whose} does not ask for a number of classes; leave it out")
    names = [html.unescape(name) for name in classes]
    between = "; " if any("," in name for name in names) else ", "
    listed = between.join(names) if own else "\n".join(f"- {name}" for name in names)
    values = {"text": "{text}", "classes": listed, "top": str(min(top or TOP, len(classes)))}
    return Question(_SLOT.sub(lambda slot: values[slot.group(1)], template), other_names(classes))


def other_names(classes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """By class name: what TAPE's prompts call PubMed's classes, and OGB's "arxiv cs ai" for cs.AI."""
    found: dict[str, tuple[str, ...]] = {}
    if _plain_all(classes) == set(_PUBMED_WORDS):
        return {name: _PUBMED_WORDS[_plain(name)] for name in classes}
    for name in classes:
        match = _ARXIV_NAME.fullmatch(_plain(name))
        if match is None:
            return {}
        found[name] = (match.group(1), f"arxiv {match.group(1)}")
    return found


def check_names(dataset: str, classes: Sequence[str]) -> None:
    """Raises StageBenchError where classes are numbers, which mean nothing to a chat model."""
    if not classes:
        raise StageBenchError(f"dataset '{dataset}' has no classes that a chat model could name")
    bare = [name for name in classes if not re.search(r"[^\W\d_]", name)]
    if len(bare) * 2 > len(classes):
        raise StageBenchError(
            f"dataset '{dataset}': its classes are called {', '.join(bare[:3])} and so on, which means nothing to a "
            "chat model; give them names (label_names in dataset.yaml, or label_names.csv)"
        )


def _of_tape(classes: Sequence[str]) -> str | None:
    names = _plain_all(classes)
    if names == set(_CORA_CLASSES):
        return _CORA
    if names == set(_PUBMED_WORDS):
        return _PUBMED
    return _ARXIV if all(_ARXIV_NAME.fullmatch(name) for name in names) else None


def _plain_all(classes: Sequence[str]) -> set[str]:
    return {_plain(name) for name in classes}


def _plain(name: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", name.casefold()))
