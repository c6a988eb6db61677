"""A model through sentence-transformers, with the modules it ships."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from stage_bench.llms.spec import LLMChoice


class Sentence(NamedTuple):
    """A prompt, its length in tokens as far as the model takes it, and whether it was longer."""

    text: str
    tokens: int
    cut: bool


class SentenceModel:
    """A sentence-transformers model with the modules it ships (pooling, dense layers, normalisation)."""

    threads: int | None = None

    def __init__(self, folder: Path, choice: LLMChoice, device: str) -> None:
        from sentence_transformers import SentenceTransformer

        self.model = SentenceTransformer(
            str(folder),
            device=device,
            local_files_only=True,
            trust_remote_code=choice.trust_remote_code,
            model_kwargs={
                "dtype": getattr(torch, choice.dtype),
                "use_safetensors": None if choice.allow_pickle else True,
            },
        )
        # A static model holds a bare `tokenizers.Tokenizer`, which cuts texts itself.
        self.static = hasattr(self.model.tokenizer, "encode_batch")
        if choice.max_length is not None:
            if self.static:
                self.model.tokenizer.enable_truncation(choice.max_length)
            else:
                self.model.max_seq_length = choice.max_length
        # Where the tokenizer has a chat template, sentence-transformers would wrap every text into a chat.
        getattr(self.model[0], "modality_config", {}).pop("message", None)
        self.model.eval()
        self.device = device
        # Its own normalisation, where it has one, is as coarse as its dtype.
        self.normalize = choice.normalize
        self.tokenizing = threading.Lock()

    def tokenize(self, prompts: Sequence[str], text_starts: Sequence[int]) -> list[Sentence]:
        """The prompts as they are: what the modules make of a text is theirs, and is made batch by batch."""
        with self.tokenizing:
            if self.static:
                encodings = self.model.tokenizer.encode_batch(list(prompts), add_special_tokens=False)
                sizes = [(len(encoding.ids), bool(encoding.overflowing)) for encoding in encodings]
            else:
                longest = self.model.max_seq_length
                encoded = self.model.tokenizer(
                    list(prompts), truncation=longest is not None, max_length=longest, return_attention_mask=False
                )
                cut = [bool(encoding.overflowing) for encoding in encoded.encodings or ()] or [False] * len(prompts)
                sizes = [(len(ids), flag) for ids, flag in zip(encoded["input_ids"], cut, strict=True)]
        return [Sentence(prompt, *size) for prompt, size in zip(prompts, sizes, strict=True)]

    def lengths(self, items: Sequence[Sentence]) -> np.ndarray:
        return np.array([item.tokens for item in items], dtype=np.int64)

    @torch.inference_mode()
    def forward(self, items: Sequence[Sentence]) -> np.ndarray:
        with self.tokenizing:
            batch = self.model.preprocess([item.text for item in items])
        batch = {key: value.to(self.device) if hasattr(value, "to") else value for key, value in batch.items()}
        vectors = self.model(batch)["sentence_embedding"].float()
        if self.normalize:
            vectors = torch.nn.functional.normalize(vectors, dim=1)
        array: np.ndarray = vectors.cpu().numpy()
        return array

    def spent(self) -> dict[str, float]:
        return {}

    def close(self) -> None:
        pass
