"""A model through sentence-transformers, with the modules it ships."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from stage_bench.llms import onednn
from stage_bench.llms.spec import LLMChoice


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
        if device == "cpu":
            onednn.speed_up(self.model)
        self.device = device
        # Its own normalisation, where it has one, is as coarse as its dtype.
        self.normalize = choice.normalize
        self.tokenizing = threading.Lock()

    def tokenize(self, prompts: Sequence[str], text_starts: Sequence[int]) -> Sequence[str]:
        """The prompts as they are: what the modules make of a text is theirs, and is made batch by batch."""
        return prompts

    def lengths(self, items: Sequence[str]) -> np.ndarray:
        with self.tokenizing:
            if self.static:
                encodings = self.model.tokenizer.encode_batch(list(items), add_special_tokens=False)
                return np.array([len(encoding.ids) for encoding in encodings], dtype=np.int64)
            longest = self.model.max_seq_length
            ids = self.model.tokenizer(list(items), truncation=longest is not None, max_length=longest)["input_ids"]
            return np.array([len(tokens) for tokens in ids], dtype=np.int64)

    @torch.inference_mode()
    def forward(self, items: Sequence[str]) -> np.ndarray:
        with self.tokenizing:
            batch = self.model.preprocess(list(items))
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
