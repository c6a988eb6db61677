"""Decoders and attention in numpy, from the equations: what the encoders are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

Tensors = Mapping[str, np.ndarray]


def tensors(folder: Path, prefix: str = "") -> dict[str, np.ndarray]:
    """float64 arrays of every safetensors file whose name begins so, without that beginning."""
    from safetensors.numpy import load_file

    pairs = [pair for path in sorted(folder.glob("*.safetensors")) for pair in load_file(path).items()]
    return {key.removeprefix(prefix): array.astype(np.float64) for key, array in pairs if key.startswith(prefix)}


def add_lora(weights: Tensors, adapter: Tensors, scale: float) -> dict[str, np.ndarray]:
    """W + scale B A for every pair of an adapter's matrices."""
    added = dict(weights)
    for key, down in adapter.items():
        if key.endswith(".lora_A.weight"):
            name = key.removeprefix("base_model.model.").replace(".lora_A.weight", ".weight")
            added[name] = added[name] + scale * adapter[key.replace("lora_A", "lora_B")] @ down
    return added


def decoder(weights: Tensors, ids: Sequence[int], heads: int, kv_heads: int, theta: float = 1e4) -> np.ndarray:
    """Last hidden states [tokens, dimension] of a Llama, Mistral or Qwen2 in which every token sees every other."""
    x = weights["embed_tokens.weight"][list(ids)]
    layer = 0
    while f"layers.{layer}.input_layernorm.weight" in weights:
        here = {key.split(".", 2)[2]: value for key, value in weights.items() if key.startswith(f"layers.{layer}.")}
        x = x + _self_attention(here, _rms(x, here["input_layernorm.weight"]), heads, kv_heads, theta)
        h = _rms(x, here["post_attention_layernorm.weight"])
        gate = h @ here["mlp.gate_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ here["mlp.up_proj.weight"].T)) @ here["mlp.down_proj.weight"].T
        layer += 1
    assert layer
    return _rms(x, weights["norm.weight"])


def attention(query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
    """[tokens, width] of one head, nothing masked."""
    scores = query @ key.T / np.sqrt(query.shape[1])
    chances = np.exp(scores - scores.max(axis=1, keepdims=True))
    return chances / chances.sum(axis=1, keepdims=True) @ value


def _self_attention(weights: Tensors, h: np.ndarray, heads: int, kv_heads: int, theta: float) -> np.ndarray:
    projected = []
    for name, count in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
        out = h @ weights[f"self_attn.{name}_proj.weight"].T + weights.get(f"self_attn.{name}_proj.bias", 0)
        projected.append(np.split(out, count, axis=1))
    query, key, value = projected
    mixed = [
        attention(_turned(query[head], theta), _turned(key[shared], theta), value[shared])
        for head in range(heads)
        for shared in [head // (heads // kv_heads)]
    ]
    return np.concatenate(mixed, axis=1) @ weights["self_attn.o_proj.weight"].T


def _turned(x: np.ndarray, theta: float) -> np.ndarray:
    """Rotary positions: the pairs (i, i + width / 2) turned by position theta^(-2 i / width)."""
    half = x.shape[1] // 2
    angle = np.arange(len(x))[:, None] * theta ** (-np.arange(half) / half)
    first, second = x[:, :half], x[:, half:]
    return np.concatenate(
        [first * np.cos(angle) - second * np.sin(angle), second * np.cos(angle) + first * np.sin(angle)], axis=1
    )


def _rms(x: np.ndarray, weight: np.ndarray, epsilon: float = 1e-6) -> np.ndarray:
    return x / np.sqrt((x**2).mean(axis=1, keepdims=True) + epsilon) * weight


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, epsilon: float = 1e-5) -> np.ndarray:
    centred = x - x.mean(axis=1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + epsilon) * weight + bias
