"""Encoders: prompts in, one vector each out, through sentence-transformers or plain transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from stage_bench import registry
from stage_bench.errors import JobError
from stage_bench.llms import weights

if TYPE_CHECKING:
    from stage_bench.llms.spec import LLMChoice


class Encoder(Protocol):
    """What the embedding loop needs of a model. Tokenising is apart because tokenizers are not safe in threads."""

    threads: bool  # whether `forward` may run in several threads at once

    def lengths(self, prompts: Sequence[str]) -> np.ndarray:
        """Tokens of each prompt after truncation, int64 [len(prompts)]."""

    def tokenize(self, prompts: Sequence[str], text_starts: Sequence[int]) -> Any:
        """A batch for `forward`; text_starts: the character at which the node's text begins."""

    def forward(self, batch: Any) -> np.ndarray:
        """float32 [len(prompts), dimension]."""


def encode(encoder: Encoder, prompts: Sequence[str], text_starts: Sequence[int]) -> np.ndarray:
    """Prompts to vectors in one batch: float32 [len(prompts), dimension]."""
    return encoder.forward(encoder.tokenize(prompts, text_starts))


def load(choice: LLMChoice, device: str) -> Encoder:
    """The encoder behind a choice, its weights in memory.

    Raises:
        JobError: the weights are absent or not usable.
    """
    if choice.spec.encoder:
        return _Plugin(registry.resolve(choice.spec.encoder)(), choice.normalize)
    folder = weights.find(choice.spec, choice.path)
    import transformers  # takes seconds: not where the weights are absent

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    as_shipped = choice.pooling == choice.spec.pooling and choice.normalize == choice.spec.normalize
    if choice.spec.loader == "sentence-transformers" and as_shipped:
        return _SentenceTransformers(folder, choice, device)
    return _Transformers(folder, choice, device)


class _SentenceTransformers:
    """A sentence-transformers model with the modules it ships (pooling, dense layers, normalisation)."""

    threads = True

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
        return _token_lengths(self.model.tokenizer, prompts, self.model.max_seq_length)

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


class _Transformers:
    """A transformers model with our pooling over its last hidden states."""

    threads = True

    def __init__(self, folder: Path, choice: LLMChoice, device: str) -> None:
        from transformers import AutoModel, AutoTokenizer

        options = {"local_files_only": True, "trust_remote_code": choice.trust_remote_code}
        self.tokenizer = AutoTokenizer.from_pretrained(str(folder), **options)
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        if self.tokenizer.pad_token is None:
            raise JobError(f"llm '{choice.spec.name}': its tokenizer has neither a padding nor an end token")
        self.tokenizer.padding_side = "right"  # a causal model then never sees the padding
        self.model = AutoModel.from_pretrained(
            str(folder), use_safetensors=True, dtype=getattr(torch, choice.dtype), **options
        )
        self.model.to(device).eval()
        self.choice = choice
        self.device = device

    def lengths(self, prompts: Sequence[str]) -> np.ndarray:
        return _token_lengths(self.tokenizer, prompts, self.choice.max_length)

    def tokenize(self, prompts: Sequence[str], text_starts: Sequence[int]) -> Any:
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
        counted = batch["attention_mask"].index_fill_(1, torch.tensor([0]), 1)
        if offsets is not None:
            # A token with a character of the text in it counts: in many vocabularies a word's token begins with the
            # space before it, which belongs to the prompt. Special tokens have the empty span (0, 0).
            counted = counted * (offsets[:, :, 1] > torch.tensor(text_starts)[:, None])
        return batch, counted

    @torch.inference_mode()
    def forward(self, batch: Any) -> np.ndarray:
        batch, counted = batch
        hidden = self.model(**batch.to(self.device)).last_hidden_state.float().cpu()
        vectors = pool(hidden, counted, self.choice.pooling)
        if self.choice.normalize:
            vectors = torch.nn.functional.normalize(vectors, dim=1)
        array: np.ndarray = vectors.numpy()
        return array


class _Plugin:
    """A registered class with `encode(texts) -> float32 [len(texts), dimension]`."""

    threads = False

    def __init__(self, model: Any, normalize: bool) -> None:
        self.model = model
        self.normalize = normalize

    def lengths(self, prompts: Sequence[str]) -> np.ndarray:
        return np.array([len(prompt) for prompt in prompts], dtype=np.int64)

    def tokenize(self, prompts: Sequence[str], text_starts: Sequence[int]) -> Any:
        return list(prompts)

    def forward(self, batch: Any) -> np.ndarray:
        vectors = np.asarray(self.model.encode(batch), dtype=np.float32)
        if self.normalize and vectors.ndim == 2:
            with np.errstate(invalid="ignore"):  # what is not finite is refused where shards are made
                vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """One vector a text from its token vectors.

    hidden: float32 [batch, tokens, dimension]; mask: [batch, tokens], 1 where a token counts, padding on any side.
    Returns float32 [batch, dimension]; a text without tokens gives zeros under `mean`.
    """
    if pooling == "cls":
        return hidden[torch.arange(len(hidden)), mask.argmax(dim=1)]
    if pooling == "last-token":
        last = mask.shape[1] - 1 - mask.flip(1).argmax(dim=1)
        return hidden[torch.arange(len(hidden)), last]
    weight = mask.to(hidden.dtype).unsqueeze(-1)
    return (hidden * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


def _token_lengths(tokenizer: Any, prompts: Sequence[str], max_length: int | None) -> np.ndarray:
    ids = tokenizer(list(prompts), truncation=max_length is not None, max_length=max_length, padding=False)["input_ids"]
    return np.array([len(tokens) for tokens in ids], dtype=np.int64)
