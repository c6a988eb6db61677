"""A model that a plug-in brings as code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stage_bench.errors import JobError


class CodeModel:
    """A registered class with `encode(texts) -> float32 [len(texts), dimension]`."""

    threads: int | None = 1

    def __init__(self, model: Any, normalize: bool) -> None:
        self.model = model
        self.normalize = normalize

    def tokenize(self, prompts: Sequence[str], text_starts: Sequence[int]) -> Sequence[str]:
        return prompts

    def lengths(self, items: Sequence[str]) -> np.ndarray:
        return np.array([len(item) for item in items], dtype=np.int64)

    def forward(self, items: Sequence[str]) -> np.ndarray:
        try:
            vectors = np.asarray(self.model.encode(list(items)), dtype=np.float32)
        except SystemExit as error:
            raise JobError(f"its code ended the program (exit code {error.code})") from None
        if self.normalize and vectors.ndim == 2:
            with np.errstate(invalid="ignore"):  # what is not finite is refused where shards are made
                vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors

    def spent(self) -> dict[str, float]:
        return {}

    def close(self) -> None:
        pass
