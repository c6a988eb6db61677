"""What a run owes to work that it shares with others, and what several runs cost together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from stage_bench.runs.clock import ONCE
from stage_bench.runs.record import RunRecord


def together(members: list[RunRecord], infer: float) -> dict[str, float]:
    """An ensemble costs what its members cost; work that they share counts once.

    Where it is not known what one's features cost, it is not known of all together.
    """
    seconds = {"infer": infer + sum(member.seconds["infer"] for member in members)}
    seconds["train"] = sum(member.seconds["train"] for member in members)
    for phase, key in ONCE.items():
        shared = {getattr(member, key): member.seconds[phase] for member in members if phase in member.seconds}
        unknown = phase in FEATURES and any(getattr(member, key) and phase not in member.seconds for member in members)
        if shared and not unknown:
            seconds[phase] = sum(shared.values())
    return {phase: round(value, 4) for phase, value in seconds.items()}


FEATURES = ("answer", "embed")
"""The phases that every run of such features has, unless it is not known what they took."""


def feature_seconds(manifest: dict[str, Any]) -> dict[str, float]:
    """The phases in which features were made; one that was not measured is left out."""
    phases = {"answer": "answer_seconds", "finetune": "finetune_seconds"}
    if not manifest.get("elsewhere"):
        phases["embed"] = "seconds"
    return {phase: manifest[key] for phase, key in phases.items() if key in manifest}


def answers(manifest: dict[str, Any]) -> dict[str, Any]:
    """What features owe to a chat model: the id of its answers, and tokens and dollars as far as they are known."""
    id_ = manifest.get("answers_id", "")
    counted = {key: manifest[f"answer_{key}"] for key in ("tokens", "dollars") if f"answer_{key}" in manifest}
    return {"answers_id": id_, "answers": counted} if id_ else {}


def once_each(members: list[RunRecord]) -> dict[str, float]:
    """Tokens and dollars of the members' answers; answers that several of them share were paid for once."""
    paid = {member.answers_id: member.answers for member in members if member.answers_id}
    total: Counter[str] = Counter()
    for counted in paid.values():
        total.update(counted)
    return dict(total)


def embedding(manifest: dict[str, Any] | None) -> dict[str, float]:
    """`tokens`, `dollars` and `joules` of an embedding, those that are known.

    0 is none of them: the server counted nothing, or the work was shorter than a counter's step.
    """
    known = manifest or {}
    return {key: known[key] for key in ("tokens", "dollars", "joules") if known.get(key)}


def all_embeddings(each: Sequence[dict[str, float]]) -> dict[str, float]:
    """What several embeddings cost together.

    One without tokens was not paid for; one with tokens and no dollars has a price that is not known, and so has the
    sum. Joules are known only where each one's are.
    """
    total: Counter[str] = Counter()
    for costs in each:
        total.update(costs)
    if any("tokens" in costs and "dollars" not in costs for costs in each):
        del total["dollars"]
    if not all("joules" in costs for costs in each):
        del total["joules"]
    return dict(total)


def embedding_of(record: RunRecord, manifest: Callable[[str], dict[str, Any] | None]) -> dict[str, float]:
    """What the embedding of a run cost; records of version 1 do not say so, but the embedding's manifest may."""
    if record.embedding or not record.embedding_id:
        return record.embedding
    return all_embeddings([embedding(manifest(id_)) for id_ in record.embedding_id.split("+")])


def embeddings_once_each(
    members: list[RunRecord], manifest: Callable[[str], dict[str, Any] | None]
) -> dict[str, float]:
    """What the members' embeddings cost; one that several of them share was made once."""
    each = {member.embedding_id: embedding_of(member, manifest) for member in members if member.embedding_id}
    return all_embeddings(list(each.values()))


def energy(members: list[RunRecord]) -> float | None:
    """Joules of all members' training and inference; None where one's were not measured."""
    known = [member.energy_joules for member in members if member.energy_joules is not None]
    return round(sum(known), 3) if known and len(known) == len(members) else None


def largest(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return max(known) if len(known) == len(values) else None
