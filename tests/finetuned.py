"""Settings and models for the tests of fine-tuning: a tiny task, encoders with random weights."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import tiny
from stage_bench.datasets.textgraph import TextGraph
from stage_bench.features.spec import Setting
from stage_bench.llms.spec import LLMSpec

WORDS = sorted({word for line in tiny.WORDS for word in line} | {"number"})


@contextmanager
def one_core() -> Iterator[None]:
    """So tiny a model trains faster on one, and threads that wait for each other on a busy machine take for ever."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {os.getpid() % len(before)} & before or {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def setting(place: Path, model: Path, seed: int = 0, num_nodes: int = 90, **fields: Any) -> Setting:
    """Texts of three classes in turn; 60 % train, 20 % validate, the labels of the rest are not in it.

    Keywords are fields of the Setting, or of the LLM's choice.
    """
    graph: TextGraph = fields.pop("graph", None) or tiny.text_graph(num_nodes)
    num_nodes = graph.num_nodes
    order = np.random.RandomState(seed).permutation(num_nodes)
    train, val = order[: num_nodes * 6 // 10], order[num_nodes * 6 // 10 : num_nodes * 8 // 10]
    own = {key: fields.pop(key) for key in list(fields) if key in Setting.__dataclass_fields__}
    choice = {"pooling": "mean", "max_length": 32, "normalize": False, "dtype": "float32", **fields}
    return Setting(
        **{
            "graph": hidden(graph, train, val),
            "train": train,
            "val": val,
            "split_seed": seed,
            "folder": place / "work",
            "results": place,
            "device": "cpu",
            "llm": tiny.choice(LLMSpec(name="tiny"), model, **choice),
            **own,
        }
    )


def hidden(graph: TextGraph, train: np.ndarray, val: np.ndarray) -> TextGraph:
    """The graph without test labels."""
    labels = np.full_like(graph.labels, -1)
    labels[train], labels[val] = graph.labels[train], graph.labels[val]
    return tiny.text_graph(graph.num_nodes, texts=graph.texts, labels=labels)


def save_deberta(path: Path, words: Sequence[str], version: int = 1) -> Path:
    import torch
    from transformers import DebertaConfig, DebertaModel, DebertaV2Config, DebertaV2Model

    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = tiny.word_tokenizer(words, **special)
    torch.manual_seed(0)
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
        "relative_attention": True,
        "position_biased_input": False,
        "type_vocab_size": 0,
    }
    if version == 1:
        model = DebertaModel(DebertaConfig(pos_att_type=["c2p", "p2c"], **shape))
    else:
        model = DebertaV2Model(
            DebertaV2Config(pos_att_type=["p2c", "c2p"], share_att_key=True, position_buckets=16, **shape)
        )
    return tiny._save(path, model, tokenizer)


def save_mpnet(path: Path, words: Sequence[str]) -> Path:
    import torch
    from transformers import MPNetConfig, MPNetModel

    special = {"unk_token": "[UNK]", "pad_token": "<pad>", "cls_token": "<s>", "sep_token": "</s>"}
    tokenizer = tiny.word_tokenizer(words, **special)
    torch.manual_seed(0)
    config = MPNetConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
    )
    return tiny._save(path, MPNetModel(config), tokenizer)
