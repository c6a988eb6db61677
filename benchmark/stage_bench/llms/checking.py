"""`check llm`: does a model do what the embedding loop will ask of it?"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from stage_bench import registry
from stage_bench.checks import Line
from stage_bench.errors import StageBenchError

_TEXTS = [
    "Title: Graph neural networks\nAbstract: We study how a node learns from its neighbours.",
    "A short one.",
    "Title: Casting shadows\nAbstract: " + "A longer text fills more of the model's window. " * 20,
    "",
]


def check(name: str, device: str) -> Iterator[Line]:
    from stage_bench.llms import encoders
    from stage_bench.llms.spec import LLMChoice

    spec = registry.get("llms", name)
    if spec.needs:
        raise StageBenchError(f"llm '{name}' needs {spec.needs}")
    choice = LLMChoice(
        spec=spec,
        label=name,
        instruction="none",
        pooling=spec.pooling,
        max_length=spec.max_length,
        dtype=spec.dtype,
        normalize=spec.normalize,
        trust_remote_code=spec.remote_code,
    )
    if spec.remote_code:
        raise StageBenchError(
            f"llm '{name}' runs code of its repository; try it in a suite with trust_remote_code: true"
        )
    encoder = encoders.load(choice, device)
    starts = [0] * len(_TEXTS)
    begin = time.perf_counter()
    together = encoders.encode(encoder, _TEXTS, starts)
    seconds = time.perf_counter() - begin
    good = together.shape == (len(_TEXTS), spec.dimension or together.shape[1]) and together.dtype == np.float32
    yield Line(f"shape {together.shape}, {together.dtype} (registered dimension: {spec.dimension})", good)
    yield Line("every number is finite, an empty text too", bool(np.isfinite(together).all()))
    yield Line(
        "the same texts give the same vectors", np.array_equal(together, encoders.encode(encoder, _TEXTS, starts))
    )
    alone = np.concatenate([encoders.encode(encoder, [text], [0]) for text in _TEXTS])
    apart = float(np.abs(alone - together).max())
    yield Line(
        f"a text alone and in a batch differ by {apart:.1e} at most",
        apart < (1e-4 if spec.dtype == "float32" else 2e-2),
    )
    lengths = np.linalg.norm(together[[bool(text) for text in _TEXTS]], axis=1)  # an empty text may be all zeros
    if spec.normalize:
        yield Line(
            f"vectors have length 1 ({lengths.min():.4f} to {lengths.max():.4f})",
            bool(np.allclose(lengths, 1, atol=1e-2)),
        )
    cosine = float(together[0] @ together[1] / max(lengths[0] * lengths[1], 1e-12))
    yield Line(f"different texts differ (cosine {cosine:.3f})", cosine < 0.99)
    yield Line(f"{len(_TEXTS) / seconds:.1f} texts/s over {len(_TEXTS)} texts")
