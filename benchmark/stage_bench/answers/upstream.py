"""Responses that are there already: TAPE's own, or those of a folder that stage-bench filled."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from stage_bench import fingerprint as fingerprints
from stage_bench.answers import store
from stage_bench.answers.store import Answer
from stage_bench.errors import StageBenchError

if TYPE_CHECKING:
    from stage_bench.answers.choice import AnswersChoice
    from stage_bench.datasets.textgraph import TextGraph

_NUMBERED = re.compile(r"(\d+)\.json")


def folder(graph: TextGraph, choice: AnswersChoice) -> Path:
    """Where the responses are.

    Raises:
        StageBenchError: the suite names no folder, and the dataset has none.
    """
    found = choice.folder or graph.answers_path
    if found is None:
        raise StageBenchError(
            f"dataset '{graph.name}' has no folder answers/ with a chat model's responses ({{i}}.json for node i); put "
            "TAPE's there, name a folder (answers: {upstream: FOLDER}), or ask a model (answers: {endpoint: URL, "
            "model: NAME} or {local: FOLDER})"
        )
    return found


def read(place: Path, num_nodes: int) -> Iterator[Answer]:
    """One answer a node, in order.

    Raises:
        StageBenchError: some are absent, damaged, or of nodes that there are not.
    """
    _check_names(place, num_nodes)
    for node in range(num_nodes):
        try:
            answer = store.read(place, node)
        except store.Damaged as problem:
            raise StageBenchError(f"{store.path(place, node)}: no response of a chat model: {problem}") from None
        except OSError as problem:
            raise StageBenchError(f"{store.path(place, node)} cannot be read: {problem.strerror}") from None
        if answer is None:
            raise StageBenchError(f"{store.path(place, node)}: no such file")
        yield answer


def fingerprint(place: Path, num_nodes: int) -> str:
    """Of what the answers say, wherever they lie; read once while the folder's list of files stays as it is.

    Raises:
        StageBenchError: as for `read`.
    """
    return _fingerprint(place.resolve(), num_nodes, place.stat().st_mtime_ns)


@cache
def _fingerprint(place: Path, num_nodes: int, changed: int) -> str:
    return of_answers(read(place, num_nodes))


def of_answers(answers: Iterator[Answer] | list[Answer]) -> str:
    return fingerprints.of_texts(text for answer in answers for text in (answer.content, answer.refused))


def _check_names(place: Path, num_nodes: int) -> None:
    """Every node has a file, and no file is of another node: texts and answers may otherwise be shifted."""
    numbers = set()
    for name in os.listdir(place):
        match = _NUMBERED.fullmatch(name)
        if match is not None and name == f"{int(match[1])}.json":
            numbers.add(int(match[1]))
    if not numbers:
        raise StageBenchError(f"{place}: holds no responses named 0.json, 1.json and so on, one a node")
    beyond = sorted(number for number in numbers if number >= num_nodes)
    if beyond:
        raise StageBenchError(
            f"{place}: holds {beyond[0]}.json and {len(beyond) - 1} more of nodes that are not among the dataset's "
            f"{num_nodes}: are these answers of another dataset?"
        )
    if len(numbers) < num_nodes:
        first = next(node for node in range(num_nodes) if node not in numbers)
        raise StageBenchError(
            f"{place}: {num_nodes - len(numbers)} of {num_nodes} nodes have no response; the first is {first}.json. "
            "Every node needs one"
        )
