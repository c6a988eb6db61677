"""What a report must know of split protocols: their words, and how large their parts are."""

from __future__ import annotations

import pandas as pd

NAMES = {
    "random-60-20-20": "random 60/20/20, drawn by TAPE's rule, a new one for each split seed",
    "official": "the dataset's official split",
    "public": "the public Planetoid split",
    "subset-masks": "the masks in the file of TAPE's subset",
}
"""Protocols in words."""

RATIOS = {"random-60-20-20": 0.2 / 0.6}
"""Test nodes to training nodes of protocols that draw splits."""


def are_drawn(runs: pd.DataFrame) -> bool:
    """Whether the seeds of these runs, of one (dataset, split), drew splits: there is more than one."""
    return bool(runs["split_seed"].nunique() > 1)


def ratio(runs: pd.DataFrame) -> float | None:
    """Test nodes to training nodes: the mean over the runs, else what the protocol's name says; None where neither."""
    sizes = runs[["train_nodes", "test_nodes"]].dropna().astype("float64")
    sizes = sizes[sizes["train_nodes"] > 0]
    if len(sizes):
        return float((sizes["test_nodes"] / sizes["train_nodes"]).mean())
    known = {RATIOS.get(name) for name in set(runs["split"])}
    return known.pop() if len(known) == 1 else None
