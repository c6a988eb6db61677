"""NV-Embed: a Mistral without its causal mask, its states mixed with learned latents before they are averaged.

Lee et al., NV-Embed: Improved Techniques for Training LLMs as Generalist Embedding Models, arXiv 2405.17428, section 3.
The repository's code does not run: this is the model anew, under the names of the tensors in its safetensors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from stage_bench.errors import JobError
from stage_bench.llms.bidirectional import Bidirectional, states
from stage_bench.llms.token_model import Tokens

# What configuration_nvembed.py takes where config.json is silent, as the published one is.
_LATENT_DEFAULTS = {
    "num_latents_value": 512,
    "num_cross_heads": 8,
    "hidden_dim": 4096,
    "latent_dim": 4096,
    "cross_dim_head": 4096,
}
_MISTRAL = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "rope_parameters",
)


class NVEmbed(Bidirectional):
    """Right padding, an end token after every text, the instruction's tokens left out of the mean (`mean-text`)."""

    def _tokenizer(self, folder: Path) -> Any:
        # AutoTokenizer would ask config.json, whose model type only the repository's code knows.
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)

    def _model(self, folder: Path) -> nn.Module:
        return load(folder, getattr(torch, self.choice.dtype), self.device, self.choice.spec.name)

    def tokenize(self, prompts: Sequence[str], text_starts: Sequence[int]) -> list[Tokens]:
        items = super().tokenize(prompts, text_starts)
        for item, start in zip(items, text_starts, strict=True):
            if start == 0:  # without an instruction nothing is left out, the token that begins every text neither
                item.counted[:] = True
        return items

    def _states(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        hidden: torch.Tensor = self.model.latent_attention_model(states(self.model.embedding_model, inputs))
        return hidden


class Network(nn.Module):
    """The two parts, named as in the repository's safetensors."""

    def __init__(self, text: dict[str, Any], latent: dict[str, Any]) -> None:
        from transformers import MistralConfig, MistralModel

        super().__init__()
        # Layers with a sliding window would be asked for another mask; ours lets every token see every other.
        self.embedding_model = MistralModel(MistralConfig(**text, sliding_window=None))
        self.latent_attention_model = LatentAttention(**{**_LATENT_DEFAULTS, **latent})


class LatentAttention(nn.Module):
    """Every token attends to learned latents, then a feed-forward step; both are added to what came in.

    x [batch, tokens, d] -> x' = x + A(norm(x), norm(latents)), x' + F(norm(x')), of the same shape.
    """

    def __init__(
        self, num_latents_value: int, num_cross_heads: int, hidden_dim: int, latent_dim: int, cross_dim_head: int
    ) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.empty(num_latents_value, latent_dim))
        attention = CrossAttention(latent_dim, hidden_dim, num_cross_heads, cross_dim_head)
        self.cross_attend_blocks = nn.ModuleList(
            [_Normed(attention, latent_dim, hidden_dim), _Normed(FeedForward(latent_dim), latent_dim)]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        attend, feed_forward = self.cross_attend_blocks
        x = x + attend(x, self.latents)
        mixed: torch.Tensor = x + feed_forward(x)
        return mixed


class CrossAttention(nn.Module):
    """x [batch, tokens, d] attends to context [latents, c]; heads of a width of their own, no biases."""

    def __init__(self, dimension: int, context_dimension: int, heads: int, head_dimension: int) -> None:
        super().__init__()
        inner = heads * head_dimension
        self.heads = heads
        self.to_q = nn.Linear(dimension, inner, bias=False)
        self.to_kv = nn.Linear(context_dimension, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, dimension, bias=False)

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        query = self.to_q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = (
            half.unflatten(-1, (self.heads, -1)).transpose(0, 1).expand(len(x), -1, -1, -1)
            for half in self.to_kv(context).chunk(2, dim=-1)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value)
        out: torch.Tensor = self.to_out(mixed.transpose(1, 2).flatten(2))
        return out


class FeedForward(nn.Module):
    """GEGLU (arXiv 2002.05202): half of a layer four times as wide is gated by the GELU of the other half."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        wide = 4 * dimension
        # The gate in the middle has no weights; the repository numbers it among the layers all the same.
        self.net = nn.ModuleList([nn.Linear(dimension, 2 * wide), nn.Identity(), nn.Linear(wide, dimension)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values, gates = self.net[0](x).chunk(2, dim=-1)
        out: torch.Tensor = self.net[2](values * functional.gelu(gates))
        return out


class _Normed(nn.Module):
    """A block and the layer norms of what goes into it."""

    def __init__(self, fn: nn.Module, dimension: int, context_dimension: int | None = None) -> None:
        super().__init__()
        self.fn = fn
        self.norm = nn.LayerNorm(dimension)
        if context_dimension is not None:
            self.norm_context = nn.LayerNorm(context_dimension)

    def forward(self, x: torch.Tensor, *context: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fn(self.norm(x), *[self.norm_context(each) for each in context])
        return out


def load(folder: Path, dtype: torch.dtype, device: str, name: str) -> nn.Module:
    """The network of a repository's folder, its weights in memory as `dtype`.

    Raises:
        JobError: config.json is another model's, or a tensor is missing, left over or of another shape.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text, latent = config.get("text_config"), config.get("latent_attention_config")
    if not isinstance(text, dict) or not isinstance(latent, dict):
        raise JobError(f"llm '{name}': config.json has no text_config and latent_attention_config: not an NV-Embed")
    with torch.device("meta"):  # no memory until the weights come
        network = Network(
            {key: text[key] for key in _MISTRAL if text.get(key) is not None},
            {key: latent[key] for key in _LATENT_DEFAULTS if key in latent},
        )
    # The rotary frequencies are computed, not stored.
    rotary = network.embedding_model.rotary_emb
    network.embedding_model.rotary_emb = type(rotary)(config=network.embedding_model.config)
    expected = {key: tensor.shape for key, tensor in network.state_dict().items()}
    tensors = {key: tensor.to(dtype) for key, tensor in _tensors(folder, device)}
    wrong = {
        "missing": expected.keys() - tensors.keys(),
        "left over": tensors.keys() - expected.keys(),
        "of another shape": {key for key in expected.keys() & tensors.keys() if tensors[key].shape != expected[key]},
    }
    if any(wrong.values()):
        said = "; ".join(f"{len(keys)} {how}, such as {min(keys)}" for how, keys in wrong.items() if keys)
        raise JobError(f"llm '{name}': the weights do not fit the model: {said}")
    network.load_state_dict(tensors, assign=True)
    return network


def _tensors(folder: Path, device: str) -> Iterator[tuple[str, torch.Tensor]]:
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(str(path), framework="pt", device=device) as file:
            for key in file.keys():  # noqa: SIM118 - it is no mapping
                yield key, file.get_tensor(key)
