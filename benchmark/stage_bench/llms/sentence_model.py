"""A model through sentence-transformers, with the modules it ships."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stage_bench.llms.spec import LLMChoice
from stage_bench.llms.token_model import token_lengths


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
            model_kwargs={"dtype": getattr(torch, choice.dtype), "use_safetensors": True},
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
        self.again = choice.normalize and choice.dtype != "float32"  # its own normalisation is as coarse as its dtype

    def lengths(self, prompts: Sequence[str]) -> np.ndarray:
        if self.static:
            tokens = self.model.tokenizer.encode_batch(list(prompts), add_special_tokens=False)
            return np.array([len(encoding.ids) for encoding in tokens], dtype=np.int64)
        return token_lengths(self.model.tokenizer, prompts, self.model.max_seq_length)

    def tokenize(self, prompts: Sequence[str], text_starts: Sequence[int]) -> Any:
        return self.model.preprocess(list(prompts))

    @torch.inference_mode()
    def forward(self, batch: Any) -> np.ndarray:
        batch = {key: value.to(self.device) if hasattr(value, "to") else value for key, value in batch.items()}
        vectors = self.model(batch)["sentence_embedding"].float()
        if self.again:
            vectors = torch.nn.functional.normalize(vectors, dim=1)
        array: np.ndarray = vectors.cpu().numpy()
        return array

    def spent(self) -> dict[str, float]:
        return {}
