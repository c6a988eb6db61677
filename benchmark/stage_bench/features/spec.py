"""What the registry knows of a feature source other than zero-shot LLM embeddings."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """One feature source. `builder` is `build(graph: TextGraph, options) -> float32 [num_nodes, dim]`.

    `reads` is `reads(graph, options) -> str`, for a source that reads more of a dataset than its texts, edges and
    labels: the fingerprint of that, which becomes part of the features' identity. Where a dataset lacks it, it raises
    a StageBenchError that says so, and the suite is refused before anything is run.
    """

    name: str
    summary: str = ""
    builder: object = ""
    options: object = ""  # a pydantic model of its options
    reads: object = ""
    needs_text: bool = True
    version: int = 1  # raise when the same options would give other features
    needs: str = ""  # what to get before it can be used; empty: ready


@dataclass(frozen=True)
class FeatureChoice:
    """A feature source as a suite wants it; `label` is what the leaderboard shows."""

    name: str
    label: str
    options: dict[str, Any]
