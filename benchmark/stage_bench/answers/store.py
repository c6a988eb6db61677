"""Answers on the disk: one file a node, `{i}.json`, in the form in which OpenAI's servers give them and TAPE has them.

Beside what a server said a file holds `stage_bench`: the seconds of its request, its share of the wall time, dollars
where the price is known, why there is no answer where there is none, and a checksum of all of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stage_bench import files, seals

OURS = "stage_bench"


class Damaged(ValueError):
    """A file is there and holds no answer that can be read."""


@dataclass(frozen=True)
class Answer:
    """content: what the model wrote, as it came. refused: why there is none. cut: it ended at the limit of tokens.

    usage: tokens of the prompt and of the answer as far as they were counted. spent: `seconds` of the request, `wall`
    seconds, `dollars`, as far as they are known.
    """

    content: str
    refused: str = ""
    cut: bool = False
    usage: dict[str, int] | None = None
    spent: dict[str, float] | None = None


def path(folder: Path, node: int) -> Path:
    return folder / f"{node}.json"


def read(folder: Path, node: int) -> Answer | None:
    """None where there is no file.

    Raises:
        Damaged: what is in it is no answer.
    """
    try:
        data = path(folder, node).read_bytes()
    except FileNotFoundError:
        return None
    try:
        response = json.loads(data)
        _check(response, node)
        return understood(response)
    except (ValueError, RecursionError) as error:  # Damaged is a ValueError, and so is what JSON and UTF-8 raise
        raise Damaged(str(error) if isinstance(error, Damaged) else "not JSON") from None


def write(folder: Path, node: int, response: dict[str, Any], ours: dict[str, Any]) -> None:
    whole = seals.sealed({**response, OURS: ours}, str(node))
    text = json.dumps({**response, OURS: {**ours, seals.KEY: whole[seals.KEY]}}, ensure_ascii=False, allow_nan=False)
    files.write_bytes(path(folder, node), text.encode("utf-8", "backslashreplace"))


def _check(response: Any, node: int) -> None:
    """Raises Damaged: it is not what was written. Answers from elsewhere, and old ones, have no checksum."""
    ours = response.get(OURS) if isinstance(response, dict) else None
    if isinstance(ours, dict) and seals.KEY in ours:
        bare = {key: value for key, value in ours.items() if key != seals.KEY}
        whole = {**response, OURS: bare, seals.KEY: ours[seals.KEY]}
        if problem := seals.problem(whole, needed=True, context=str(node)):
            raise Damaged(problem)


def understood(response: Any) -> Answer:
    """What a response says, of a chat model or, as in old completions, of a plain one.

    Raises:
        Damaged: it is no response.
    """
    if not isinstance(response, dict):
        raise Damaged("no JSON object")
    ours = response.get(OURS)
    ours = ours if isinstance(ours, dict) else {}
    choices = response.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(first, dict):
        if isinstance(ours.get("refused"), str) and ours["refused"]:
            return Answer("", ours["refused"], spent=_spent(ours))
        raise Damaged("no `choices`")
    message = first.get("message")
    if isinstance(message, dict):
        content = message.get("content")
        content = "" if content is None and "content" in message else content
    else:
        content = first.get("text")
    if not isinstance(content, str):
        raise Damaged("no text in `choices[0].message.content`, nor in `choices[0].text`")
    why = first.get("finish_reason")
    refusal = message.get("refusal") if isinstance(message, dict) else None
    refused = ours.get("refused", "") or ("filtered by the server" if why == "content_filter" else "")
    if not refused and not content and isinstance(refusal, str) and refusal:
        refused = refusal
    return Answer(content, str(refused), why == "length", _usage(response.get("usage")), _spent(ours))


def spent(answers: Iterable[Answer]) -> dict[str, float]:
    """What answers cost when they were given: `answer_seconds` (wall), `answer_tokens`, `answer_dollars` if known."""
    total: dict[str, float] = {}
    for answer in answers:
        costs: dict[str, float] = {}
        if answer.usage is not None:
            costs["answer_tokens"] = sum(answer.usage.values())
        for ours, name in (("wall", "answer_seconds"), ("dollars", "answer_dollars")):
            if answer.spent and ours in answer.spent:
                costs[name] = answer.spent[ours]
        for name, value in costs.items():
            total[name] = total.get(name, 0) + value
    return {name: round(value, 6) for name, value in total.items()}


def _usage(usage: Any) -> dict[str, int] | None:
    if not isinstance(usage, dict):
        return None
    counts = {key: usage.get(key, 0) for key in ("prompt_tokens", "completion_tokens")}
    if not any(key in usage for key in counts) and isinstance(usage.get("total_tokens"), int):
        counts = {"prompt_tokens": usage["total_tokens"], "completion_tokens": 0}
    elif not any(key in usage for key in counts):
        return None
    good = all(isinstance(count, int) and not isinstance(count, bool) and count >= 0 for count in counts.values())
    return counts if good else None


def _spent(ours: dict[str, Any]) -> dict[str, float]:
    known = {key: ours.get(key) for key in ("seconds", "wall", "dollars")}
    return {
        key: float(value)
        for key, value in known.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")
    }
