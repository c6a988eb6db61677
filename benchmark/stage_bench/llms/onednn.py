"""Faster products on a CPU: oneDNN in the place of MKL.

Why, and for training: kernels/products.py.
"""

from __future__ import annotations

from typing import Any

import torch

from stage_bench.kernels.products import has_onednn


class _Linear(torch.nn.Module):
    """`torch.nn.Linear` for inference, through oneDNN; `then`: what is applied to its result in the same step."""

    def __init__(self, linear: torch.nn.Linear, then: str = "none") -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.then = then

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            inputs, self.weight, self.bias, self.then, [], "none" if self.then == "gelu" else ""
        )
        return result


def speed_up(model: torch.nn.Module) -> None:
    """Replace a model's float32 linear layers, in place; nothing happens where this torch has no oneDNN."""
    if not has_onednn():
        return
    for module in list(model.modules()):
        _fuse_gelu(module)
        for name, child in list(module.named_children()):
            if type(child) is torch.nn.Linear and child.weight.dtype == torch.float32:
                setattr(module, name, _Linear(child))


def _fuse_gelu(module: Any) -> None:
    """The first half of a feed-forward layer, as BERT and its relatives in transformers name it: dense, then GELU."""
    from transformers.activations import GELUActivation

    dense, activation = getattr(module, "dense", None), getattr(module, "intermediate_act_fn", None)
    exact = isinstance(activation, GELUActivation) and activation.act is torch.nn.functional.gelu
    if exact and type(dense) is torch.nn.Linear and dense.weight.dtype == torch.float32:
        module.dense = _Linear(dense, "gelu")
        module.intermediate_act_fn = torch.nn.Identity()
