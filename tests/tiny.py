"""Tiny real objects for the tests: graphs with text, models with random weights, suites run here and now."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from stage_bench.datasets.textgraph import TextGraph, clean_edges
from stage_bench.execution import running
from stage_bench.llms.spec import LLMChoice, LLMSpec
from stage_bench.runs.record import RunRecord

WORDS = tuple(
    line.split()
    for line in (
        "neuron layer gradient weight backpropagation activation perceptron training hidden epoch",
        "crossover mutation chromosome fitness population evolution genome selection offspring parent",
        "reward policy agent action state bandit exploration return discount episode",
        "the a of we show results method problem study paper new approach using data",
    )
)  # three classes' own words, and what all texts share


def texts(num_nodes: int = 120, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Texts of three classes in turn: a few words of the class among shared ones; and the labels."""
    random = np.random.RandomState(seed)
    labels = np.arange(num_nodes) % 3
    made = [
        f"{' '.join(random.choice(WORDS[3], 6))} {' '.join(random.choice(WORDS[label], 3))} number {node}"
        for node, label in enumerate(labels)
    ]
    return made, labels.astype(np.int64)


def edges(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """int64 [2, pairs]: about four neighbours a node, nearly all of its own class."""
    random = np.random.RandomState(seed)
    same = labels[:, None] == labels[None, :]
    joined = random.rand(len(labels), len(labels)) < np.where(same, 8 / len(labels), 1 / len(labels))
    return np.stack(np.nonzero(np.triu(joined, 1)))


def text_graph(num_nodes: int = 120, seed: int = 0, name: str = "tiny", **fields: Any) -> TextGraph:
    made, labels = texts(num_nodes, seed)
    both, _ = clean_edges(edges(labels, seed), num_nodes, directed=False)
    return TextGraph(
        **{"name": name, "texts": made, "edges": both, "labels": labels, "label_names": ["nn", "ga", "rl"], **fields}
    )


def write_folder(path: Path, num_nodes: int = 120, seed: int = 0) -> Path:
    """The same graph in the folder format."""
    made, labels = texts(num_nodes, seed)
    path.mkdir(parents=True, exist_ok=True)
    (path / "dataset.yaml").write_text("name: tiny\ntext: '{text}'\nlabel_names: [nn, ga, rl]\n")
    rows = [{"text": text, "label": int(label)} for text, label in zip(made, labels, strict=True)]
    (path / "nodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [f"{src},{dst}\n" for src, dst in edges(labels, seed).T]
    (path / "edges.csv").write_text("src,dst\n" + "".join(lines))
    return path


def relabel(path: Path, nodes: Iterable[int]) -> None:
    """Give some nodes of a folder another label."""
    rows = [json.loads(line) for line in (path / "nodes.jsonl").read_text().splitlines()]
    for node in nodes:
        rows[node]["label"] = (rows[node]["label"] + 1) % 3
    (path / "nodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def carry_out(place: Path, suite: dict[str, Any], workers: int = 1) -> list[str]:
    """Do what is missing of a suite in this process, on the dataset in `place/data`; a line for each failed job."""
    standard = {"name": "tiny", "datasets": [{"name": "tiny", "path": "data"}]}
    (place / "suite.yaml").write_text(json.dumps({**standard, **suite}))  # JSON is YAML
    folders = running.Folders(place, place / "results", place / "reports")
    plan = running.make_plan(place / "suite.yaml", folders)
    jobs = running.todo(plan, folders, lambda line: None)
    return running.carry_out(plan, jobs, folders, "cpu", Console(quiet=True), workers)


def records(place: Path) -> list[RunRecord]:
    """Every run below `place/results`."""
    paths = sorted((place / "results" / "runs").glob("*/run.json"))
    return [RunRecord.from_json(json.loads(path.read_text())) for path in paths]


def choice(spec: LLMSpec, path: Path | None = None, **changes: Any) -> LLMChoice:
    """An LLM with its registered options, as a suite that names only the LLM would have it."""
    return LLMChoice(
        **{
            "spec": spec,
            "label": spec.name,
            "instruction": "none",
            "pooling": spec.pooling,
            "max_length": spec.max_length,
            "dtype": spec.dtype,
            "normalize": spec.normalize,
            "path": path,
            "trust_remote_code": False,
            **changes,
        }
    )


# --- models with random weights, as a hub repository would hold them ---


def word_tokenizer(words: Sequence[str], **special: str) -> Any:
    """A fast tokenizer, one id a word, with the special tokens given; BERT's frame where it has [CLS] and [SEP]."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = dict.fromkeys([*special.values(), *words])
    ids = {word: number for number, word in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=special.get("unk_token", "[UNK]")))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if "cls_token" in special:
        cls, sep = special["cls_token"], special["sep_token"]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{cls} $A {sep}", special_tokens=[(cls, ids[cls]), (sep, ids[sep])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=["input_ids", "attention_mask"], **special
    )


def byte_tokenizer(corpus: Sequence[str], eos: str = "<|end|>") -> Any:
    """GPT-2's kind: byte-level BPE, a word's leading space inside its token, an end token and no padding token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=[eos],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(list(corpus), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=eos, model_input_names=["input_ids", "attention_mask"]
    )


def save_bert(path: Path, words: Sequence[str], **config: Any) -> Path:
    import torch
    from transformers import BertConfig, BertModel

    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = word_tokenizer(words, **special)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    model = BertModel(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **{**shape, **config}))
    return _save(path, model, tokenizer)


def save_gpt2(path: Path, corpus: Sequence[str]) -> Path:
    import torch
    from transformers import GPT2Config, GPT2Model

    tokenizer = byte_tokenizer(corpus)
    torch.manual_seed(0)
    end = tokenizer.eos_token_id
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=256, bos_token_id=end, eos_token_id=end
    )
    return _save(path, GPT2Model(config), tokenizer)


def save_llama(path: Path, words: Sequence[str]) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaModel

    tokenizer = word_tokenizer(words, unk_token="<unk>", eos_token="</s>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=1,
        eos_token_id=1,
    )
    return _save(path, LlamaModel(config), tokenizer)


def _save(path: Path, model: Any, tokenizer: Any) -> Path:
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    assert (path / "model.safetensors").is_file()
    return path
