"""What the registry knows of a backbone before anything heavy is imported."""

from dataclasses import dataclass


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
    needs: str = ""  # what to get before it can be used; empty: ready
