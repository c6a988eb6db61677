"""A model through transformers, with our pooling over its last hidden states."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stage_bench.errors import JobError
from stage_bench.llms.pooling import pool
from stage_bench.llms.spec import LLMChoice

_TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer.model", "vocab.txt", "vocab.json"),
    *("spiece.model", "sentencepiece.bpe.model", "spm.model"),
)
_POSITION_TABLES = ("position_embeddings", "wpe", "embed_positions")


@dataclass(frozen=True)
class Tokens:
    """One prompt as the model takes it.

    ids: int64 [tokens]; counted: bool [tokens], whether a token counts in pooling; types: their segments, or None.
    """

    ids: np.ndarray
    counted: np.ndarray
    types: np.ndarray | None = None
    cut: bool = False  # the text was longer

    def __len__(self) -> int:
        return len(self.ids)


class TokenModel:
    """Tokens in, last hidden states pooled; a subclass may build, tokenise or pool in another way."""

    threads: int | None = None

    def __init__(self, folder: Path, choice: LLMChoice, device: str) -> None:
        self.choice = choice
        self.device = device
        self.tokenizer = self._tokenizer(folder)
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        if self.tokenizer.pad_token is None:
            raise JobError(f"llm '{choice.spec.name}': its tokenizer has neither a padding nor an end token")
        self.padding_side = "right"  # a causal model then never sees the padding
        self.end = self._end(folder)
        self.model = self._model(folder).to(device).eval()
        self.max_length = self._longest()

    def _tokenizer(self, folder: Path) -> Any:
        from transformers import AutoTokenizer

        if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
            raise JobError(
                f"llm '{self.choice.spec.name}': {folder} holds no tokenizer ({' or '.join(_TOKENIZER_FILES)})"
            )
        return AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=self.choice.trust_remote_code
        )

    def _longest(self) -> int:
        """Tokens of a text that are kept: what the suite or the spec says, else what the model was made for.

        Raises:
            JobError: the model numbers its tokens from a table, and the table is shorter than that.
        """
        tables = [
            module
            for name, module in self.model.named_modules()
            if isinstance(module, torch.nn.Embedding) and name.rpartition(".")[2] in _POSITION_TABLES
        ]
        wanted = self.choice.max_length
        self.counts_from_the_left = bool(tables)
        if not tables:
            return wanted or getattr(self.model.config, "max_position_embeddings", self.tokenizer.model_max_length)
        # RoBERTa's family begins after the padding token's id, OPT's and BART's at an offset.
        first = 0 if tables[0].padding_idx is None else tables[0].padding_idx + 1
        most = tables[0].num_embeddings - max(first, getattr(tables[0], "offset", 0))
        if wanted is not None and wanted > most:
            raise JobError(f"llm '{self.choice.spec.name}': max_length: {wanted}, but the model takes {most} tokens")
        return wanted or most

    def _end(self, folder: Path) -> str:
        """A token that is put after every text, where the tokenizer does not do it by itself; it is never cut off.

        transformers 5 goes by tokenizer.json alone. Where only tokenizer_config.json asks for an end token, it is lost
        without a word, and with it what SFR-Embedding-Mistral and e5-mistral pool (mteb pull request 5237).
        """
        config = folder / "tokenizer_config.json"
        asked = config.is_file() and json.loads(config.read_text(encoding="utf-8")).get("add_eos_token")
        return self._unless_added(self.tokenizer.eos_token) if asked else ""

    def _unless_added(self, token: str | None) -> str:
        """A token, empty where the tokenizer puts it after every text by itself."""
        last = self.tokenizer("a")["input_ids"][-1:]
        return "" if not token or last == [self.tokenizer.convert_tokens_to_ids(token)] else token

    def _model(self, folder: Path) -> Any:
        from transformers import AutoModel

        return AutoModel.from_pretrained(
            str(folder),
            local_files_only=True,
            trust_remote_code=self.choice.trust_remote_code,
            use_safetensors=None if self.choice.allow_pickle else True,
            dtype=getattr(torch, self.choice.dtype),
        )

    def tokenize(self, prompts: Sequence[str], text_starts: Sequence[int]) -> list[Tokens]:
        only_text = self.choice.pooling == "mean-text"
        encoded = self.tokenizer(
            [prompt + self.end for prompt in prompts],
            padding=False,
            truncation=True,
            max_length=self.max_length,
            return_attention_mask=False,
            return_offsets_mapping=only_text,
        )
        types = encoded.get("token_type_ids")
        cut = [bool(encoding.overflowing) for encoding in encoded.encodings or ()] or [False] * len(prompts)
        end = self.tokenizer.convert_tokens_to_ids(self.end) if self.end else None
        made = []
        for number, ids in enumerate(encoded["input_ids"]):
            if end is not None:
                ids[-1] = end
            counted = np.ones(len(ids), dtype=bool)
            if only_text:
                # A token with a character of the text in it counts: in many vocabularies a word's token begins with
                # the space before it, which belongs to the prompt. Special tokens have the empty span (0, 0).
                counted = np.array([end > text_starts[number] for _, end in encoded["offset_mapping"][number]], bool)
            if not ids:  # a text without a single token is one padding token to the model
                made.append(Tokens(np.array([self.tokenizer.pad_token_id]), np.array([not only_text])))
                continue
            made.append(Tokens(np.array(ids), counted, np.array(types[number]) if types else None, cut[number]))
        return made

    def lengths(self, items: Sequence[Tokens]) -> np.ndarray:
        return np.array([len(item) for item in items], dtype=np.int64)

    def padded(self, batch: Sequence[Tokens]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """The model's inputs, and which tokens count: int64 [batch, longest]."""
        shape = len(batch), max(map(len, batch))
        ids = np.full(shape, self.tokenizer.pad_token_id, dtype=np.int64)
        mask, counted, types = (np.zeros(shape, dtype=np.int64) for _ in range(3))
        for row, tokens in enumerate(batch):
            here = slice(0, len(tokens)) if self.padding_side == "right" else slice(shape[1] - len(tokens), None)
            ids[row, here], mask[row, here], counted[row, here] = tokens.ids, 1, tokens.counted
            if tokens.types is not None:
                types[row, here] = tokens.types
        inputs = {"input_ids": ids, "attention_mask": mask}
        if any(tokens.types is not None for tokens in batch):
            inputs["token_type_ids"] = types
        moved = {name: torch.from_numpy(array).to(self.device) for name, array in inputs.items()}
        return moved, torch.from_numpy(counted).to(self.device)

    @torch.inference_mode()
    def forward(self, items: Sequence[Tokens]) -> np.ndarray:
        vectors = self.vectors(*self.padded(items))
        if self.choice.normalize:
            vectors = torch.nn.functional.normalize(vectors, dim=1)
        array: np.ndarray = vectors.cpu().numpy()
        return array

    def vectors(self, inputs: dict[str, torch.Tensor], counted: torch.Tensor) -> torch.Tensor:
        """float32 [batch, dimension]; counted: int64 [batch, tokens], 1 where a token counts."""
        return pool(self.model(**inputs).last_hidden_state.float(), counted, self.choice.pooling)

    def spent(self) -> dict[str, float]:
        return {}

    def close(self) -> None:
        pass
