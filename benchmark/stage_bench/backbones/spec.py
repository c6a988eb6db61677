"""What the registry knows of a backbone before anything heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stage_bench.training.options import TuningChoice


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
    family: str = "message passing"  # or "diffusion", "graph-free", "direct": solved at once, no epochs (base.Direct)
    needs_edges: bool = True  # a graph without any is refused
    reads: str = "features"  # or "predictions": its source's own class scores, or "nothing" but edges and labels
    space: dict[str, Any] | None = None  # what tuning searches where no recipe says so (training/options.py)
    needs: str = ""  # what to get before it can be used; empty: ready


@dataclass(frozen=True)
class BackboneChoice:
    """A backbone as a suite wants it, every option settled.

    `label` is what the leaderboard shows; `tuning` says how its hyperparameters are searched for, None: not at all.
    `training` is empty for one that is not trained (family "direct").
    """

    name: str
    label: str
    version: int
    options: dict[str, Any]
    training: dict[str, Any]
    tuning: TuningChoice | None = None
