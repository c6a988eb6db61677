"""A model through transformers, with our pooling over its last hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stage_bench.errors import JobError
from stage_bench.llms.pooling import pool
from stage_bench.llms.spec import LLMChoice


class TokenModel:
    """Tokens in, last hidden states pooled; a subclass may build or pool in another way."""

    threads: int | None = None

    def __init__(self, folder: Path, choice: LLMChoice, device: str) -> None:
        self.choice = choice
        self.device = device
        self.tokenizer = self._tokenizer(folder)
        # A chat template is not for embeddings, and an encoder library that finds one may wrap every text into a chat.
        self.tokenizer.chat_template = None
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        if self.tokenizer.pad_token is None:
            raise JobError(f"llm '{choice.spec.name}': its tokenizer has neither a padding nor an end token")
        self.tokenizer.padding_side = "right"  # a causal model then never sees the padding
        self.model = self._model(folder).to(device).eval()

    def _tokenizer(self, folder: Path) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=self.choice.trust_remote_code
        )

    def _model(self, folder: Path) -> Any:
        from transformers import AutoModel

        return AutoModel.from_pretrained(
            str(folder),
            local_files_only=True,
            trust_remote_code=self.choice.trust_remote_code,
            use_safetensors=not self.choice.allow_pickle,
            dtype=getattr(torch, self.choice.dtype),
        )

    def lengths(self, prompts: Sequence[str]) -> np.ndarray:
        return token_lengths(self.tokenizer, prompts, self.choice.max_length)

    def tokenize(self, prompts: Sequence[str], text_starts: Sequence[int]) -> Any:
        """(the model's inputs, int64 [batch, tokens]: 1 where a token counts in pooling)."""
        exclude = self.choice.pooling == "mean-text"
        batch = self.tokenizer(
            list(prompts),
            padding=True,
            truncation=self.choice.max_length is not None,
            max_length=self.choice.max_length,
            return_tensors="pt",
            return_offsets_mapping=exclude,
        )
        offsets = batch.pop("offset_mapping") if exclude else None
        if batch["input_ids"].shape[1] == 0:
            batch["input_ids"] = torch.full((len(prompts), 1), self.tokenizer.pad_token_id)
            batch["attention_mask"] = torch.ones_like(batch["input_ids"])
            batch.pop("token_type_ids", None)
            offsets = torch.zeros(len(prompts), 1, 2) if exclude else None
        # A text without a single token (no tokenizer adds one everywhere) is one padding token to the model.
        nothing = batch["attention_mask"].sum(dim=1) == 0
        batch["attention_mask"][nothing, 0 if self.tokenizer.padding_side == "right" else -1] = 1
        counted = batch["attention_mask"]
        if offsets is not None:
            # A token with a character of the text in it counts: in many vocabularies a word's token begins with the
            # space before it, which belongs to the prompt. Special tokens have the empty span (0, 0).
            counted = counted * (offsets[:, :, 1] > torch.tensor(text_starts)[:, None])
        return batch, counted

    @torch.inference_mode()
    def forward(self, batch: Any) -> np.ndarray:
        inputs, counted = batch
        inputs, counted = inputs.to(self.device), counted.to(self.device)
        vectors = self._vectors(inputs, counted)
        if self.choice.normalize:
            vectors = torch.nn.functional.normalize(vectors, dim=1)
        array: np.ndarray = vectors.cpu().numpy()
        return array

    def _vectors(self, inputs: Any, counted: torch.Tensor) -> torch.Tensor:
        """float32 [batch, dimension]; counted: int64 [batch, tokens], 1 where a token counts."""
        return pool(self.model(**inputs).last_hidden_state.float(), counted, self.choice.pooling)

    def spent(self) -> dict[str, float]:
        return {}


def token_lengths(tokenizer: Any, prompts: Sequence[str], max_length: int | None) -> np.ndarray:
    """Tokens of each prompt as the model will see it, int64 [len(prompts)]."""
    ids = tokenizer(list(prompts), truncation=max_length is not None, max_length=max_length, padding=False)["input_ids"]
    return np.array([len(tokens) for tokens in ids], dtype=np.int64)
