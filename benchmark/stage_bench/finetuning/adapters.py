"""LoRA: low-rank adapters beside frozen weights (Hu et al., arXiv 2106.09685), through peft."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from stage_bench.errors import JobError

if TYPE_CHECKING:
    from stage_bench.finetuning.options import LoraOptions

# What the layers that make queries and values are called, the commonest first. Where one layer makes keys as well
# (DeBERTa, GPT-2, ModernBERT, Phi-3, GPT-NeoX), it gets the adapter whole, as in peft's own table.
_QUERY_AND_VALUE = (
    ("q_proj", "v_proj"),  # Llama, Mistral, Qwen, Gemma, OPT, NomicBert
    ("query", "value"),  # BERT, MiniLM, RoBERTa, XLM-RoBERTa, Electra
    ("query_proj", "value_proj"),  # DeBERTa v2 and v3
    ("in_proj",),  # DeBERTa
    ("q", "v"),  # MPNet
    ("q_lin", "v_lin"),  # DistilBERT
    ("c_attn",),  # GPT-2
    ("Wqkv",),  # ModernBERT
    ("qkv_proj",),  # Phi-3
    ("query_key_value",),  # GPT-NeoX, Falcon, BLOOM
)


def targets(model: nn.Module, wanted: Sequence[str] | None, name: str) -> list[str]:
    """The ends of the names of the layers that get an adapter: `wanted`, else the architecture's query and value.

    Raises:
        JobError: there is no such layer; the message names those there are.
    """
    paths = [path for path, module in model.named_modules() if _is_linear(module)]
    there = sorted({path.rpartition(".")[2] for path in paths})
    shown = ", ".join(there) or "no linear layer"
    if wanted is not None:
        for target in wanted:
            if not any(path == target or path.endswith(f".{target}") for path in paths):
                raise JobError(f"llm '{name}' has no linear layer '{target}' (target_modules); it has {shown}")
        return list(wanted)
    for pair in _QUERY_AND_VALUE:
        if set(pair) <= set(there):
            return list(pair)
    raise JobError(
        f"llm '{name}': its query and value layers are not known ({type(model).__name__}); name the layers that get an "
        f"adapter with target_modules: it has {shown}"
    )


def attach(model: nn.Module, options: LoraOptions, name: str) -> None:
    """Put adapters into a model, in place, and freeze everything else; adapters are float32 whatever the model is."""
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=options.r,
        lora_alpha=options.alpha,
        lora_dropout=options.lora_dropout,
        target_modules=targets(model, options.target_modules, name),
        bias="none",
    )
    with warnings.catch_warnings(action="ignore"):  # GPT-2's layers keep their weights transposed; peft sees it itself
        inject_adapter_in_model(config, model)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def merge(model: Any) -> None:
    """Add the adapters' products to the weights and take the adapters out, in place."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, BaseTunerLayer):
                child.merge()
                setattr(parent, name, child.get_base_layer())


def _is_linear(module: nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, (torch.nn.Linear, Conv1D))
