"""`check llm`: does a model do what the embedding loop will ask of it?"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from stage_bench import registry
from stage_bench.checks import Line
from stage_bench.errors import StageBenchError
from stage_bench.llms import encoders
from stage_bench.llms.encoders import Encoder, encode
from stage_bench.llms.prompts import render
from stage_bench.llms.spec import Endpoint, LLMChoice, LLMSpec
from stage_bench.runs.provenance import has_bfloat16

_TEXTS = [
    "Title: Graph neural networks\nAbstract: We study how a node learns from its neighbours.",
    "A short one.",
    "Title: Casting shadows\nAbstract: " + "A longer text fills more of the model's window. " * 20,
    "",
]
_INSTRUCTION = "Identify the topic of a text"


def check(name: str, device: str) -> Iterator[Line]:
    """One line for each thing that was tried. Raises StageBenchError: it cannot be tried at all."""
    spec: LLMSpec = registry.get("llms", name)
    if spec.needs:
        raise StageBenchError(f"llm '{name}' needs {spec.needs}")
    if spec.remote_code:
        raise StageBenchError(
            f"llm '{name}' runs code of its repository; try it in a suite with trust_remote_code: true"
        )
    choice = LLMChoice(
        spec=spec,
        label=name,
        instruction="none",
        pooling=spec.pooling,
        max_length=None if spec.loader == "endpoint" else spec.max_length,
        dtype=spec.dtype,
        normalize=spec.normalize,
        endpoint=Endpoint("", spec.hub_id or spec.name) if spec.loader == "endpoint" else None,
    )
    encoder = encoders.load(choice, device)
    yield from _vectors(spec, encoder)
    yield from _prompts(spec, encoder)
    yield from _dtype(spec, encoder, device)
    yield _speed(encoder, device)
    encoder.close()


def _vectors(spec: LLMSpec, encoder: Encoder) -> Iterator[Line]:
    starts = [0] * len(_TEXTS)
    together = encode(encoder, _TEXTS, starts)
    good = together.shape == (len(_TEXTS), spec.dimension or together.shape[-1]) and together.dtype == np.float32
    yield Line(f"shape {together.shape}, {together.dtype} (registered dimension: {spec.dimension})", good)
    yield Line("every number is finite, an empty text's too", bool(np.isfinite(together).all()))
    yield Line("the same texts give the same vectors", np.array_equal(together, encode(encoder, _TEXTS, starts)))
    near = 1e-4 if spec.dtype == "float32" else 2e-2
    alone = np.concatenate([encode(encoder, [text], [0]) for text in _TEXTS])
    apart = float(np.abs(alone - together).max())
    yield Line(f"a text alone and in a batch differ by {apart:.1e} at most", apart < near)
    if getattr(encoder, "counts_from_the_left", False):
        yield Line("positions are counted from the left, so texts are padded on the right only")
    elif hasattr(encoder, "padding_side"):
        usual = encoder.padding_side
        encoder.padding_side = "left" if usual == "right" else "right"
        apart = float(np.abs(encode(encoder, _TEXTS, starts) - together).max())
        encoder.padding_side = usual
        yield Line(f"padded on the {usual} or on the other side: {apart:.1e} apart at most", apart < near)
    lengths = np.linalg.norm(together[[bool(text) for text in _TEXTS]], axis=1)  # an empty text may be all zeros
    if spec.normalize:
        what = f"vectors have length 1 ({lengths.min():.4f} to {lengths.max():.4f})"
        yield Line(what, bool(np.allclose(lengths, 1, atol=1e-2)))
    else:
        yield Line(f"vectors keep their lengths ({lengths.min():.4g} to {lengths.max():.4g})")
    cosine = float(together[0] @ together[1] / max(lengths[0] * lengths[1], 1e-12))
    yield Line(f"different texts differ (cosine {cosine:.3f})", cosine < 0.99)


def _prompts(spec: LLMSpec, encoder: Encoder) -> Iterator[Line]:
    plain, start = render(spec, None, _TEXTS[1])
    yield Line(f"without an instruction the model gets {plain!r}", _TEXTS[1] in plain)
    if not spec.takes_instruction:
        return
    prompt, at = render(spec, _INSTRUCTION, _TEXTS[1])
    vectors = encode(encoder, [plain, prompt], [start, at])
    apart = float(np.abs(vectors[0] - vectors[1]).max())
    yield Line(f"with one: {prompt!r}; the vector changes by {apart:.1e} at most", apart > 0)


def _dtype(spec: LLMSpec, encoder: Encoder, device: str) -> Iterator[Line]:
    model = getattr(encoder, "model", None)
    kinds = {str(weight.dtype).removeprefix("torch.") for weight in getattr(model, "parameters", lambda: [])()}
    if kinds:
        yield Line(f"weights are {', '.join(sorted(kinds))} (registered: {spec.dtype})", kinds == {spec.dtype})
    if device == "cpu" and spec.dtype == "bfloat16" and not has_bfloat16():
        yield Line("this processor has no bfloat16 instructions: dtype: float32 is faster here, and another embedding")


def _speed(encoder: Encoder, device: str) -> Line:
    texts = [f"{text} {number}" for number in range(16) for text in _TEXTS[:3]]
    begin = time.perf_counter()
    items = encoder.tokenize(texts, [0] * len(texts))
    tokens = int(encoder.lengths(items).sum())
    encoder.forward(items)
    seconds = time.perf_counter() - begin
    return Line(f"{len(texts) / seconds:.1f} texts/s, {tokens / seconds:,.0f} tokens/s on {device}, in one batch")
