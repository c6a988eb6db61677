"""What the registry knows of a backbone before anything heavy is imported."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class BackboneSpec:
    """One backbone: where its code is, which options it takes, and which edition of it made a number.

    `module` and `options` are `"package.module:attribute"` strings, or the classes themselves (plug-ins).
    `version` goes into every run's identity: raise it whenever the same options would give other numbers.
    """

    name: str
    summary: str
    module: object  # "stage_bench.backbones.gcn:GCN"; a Backbone subclass (backbones/base.py)
    options: object  # "stage_bench.backbones.options:GCNOptions"; a pydantic model of its hyperparameters
    version: int = 1
    paper: str = ""
    family: str = "message passing"  # or "diffusion", "graph-free"
    needs_edges: bool = True  # a graph without any is refused
    needs: str = ""  # what to get before it can be used; empty: ready


@dataclass(frozen=True)
class BackboneChoice:
    """A backbone as a suite wants it, every option settled.

    `label` is what the leaderboard shows; `trials`, `sampler`, `tuning_seeds` and `space` are those of its study, if
    there is to be one (trials 0: none).
    """

    name: str
    label: str
    version: int
    options: dict[str, Any]
    training: dict[str, Any]
    trials: int = 0
    sampler: str = ""
    tuning_seeds: tuple[int, ...] = ()
    space: dict[str, Any] | None = None
