"""From an entry under `llms:` to the choice it stands for: every option checked, nothing loaded."""

from __future__ import annotations

from stage_bench import registry
from stage_bench.llms.prompts import VARIANTS
from stage_bench.llms.spec import Endpoint, LLMChoice, LLMSpec, Reduction
from stage_bench.located_yaml import Document
from stage_bench.suite.labels import label
from stage_bench.suite.schema import LLMEntry


def choose_llm(entry: LLMEntry, document: Document, location: list[str | int]) -> LLMChoice:
    """Raises StageBenchError with the place in the suite, what is valid and the nearest."""
    known = registry.specs("llms")
    if entry.name not in known:
        raise document.error([*location, "name"], registry.unknown("llm", entry.name, registry.ready("llms")))
    spec: LLMSpec = known[entry.name]
    if spec.needs:
        raise document.error([*location, "name"], f"llm '{entry.name}' needs {spec.needs}")
    endpoint = _endpoint(entry, spec, document, location)
    if spec.remote_code and not entry.trust_remote_code and not spec.encoder and endpoint is None:
        problem = f"llm '{entry.name}' runs code of its repository; allow it with trust_remote_code: true"
        raise document.error([*location, "name"], problem)
    reduction = _reduction(entry, spec, document, location)
    instruction = entry.instruction
    if instruction is None:
        instruction = "default" if spec.takes_instruction else "none"
    elif instruction != "none" and not spec.takes_instruction:
        problem = f"llm '{entry.name}' takes no instruction; write instruction: none, or leave it out"
        raise document.error([*location, "instruction"], problem)
    elif not instruction.strip():
        raise document.error([*location, "instruction"], "an empty instruction; write instruction: none")
    elif instruction not in (*VARIANTS, "none") and len(instruction.split()) == 1:
        problem = registry.unknown("instruction", instruction, [*VARIANTS, "none"])
        raise document.error([*location, "instruction"], f"{problem}; an instruction of your own is a sentence")
    differing = {
        key: value
        for key in ("pooling", "max_length", "dtype", "normalize", "path")
        if (value := getattr(entry, key)) is not None and (key == "path" or value != getattr(spec, key))
    }
    if reduction is not None:
        differing["dimensions" if reduction.kind == "truncate" else reduction.kind] = reduction.dimensions
    if endpoint is not None and spec.loader != "endpoint":
        differing["endpoint"] = True  # not which one: an address is nobody else's business
    if entry.endpoint_model is not None:
        differing["endpoint_model"] = entry.endpoint_model
    return LLMChoice(
        spec=spec,
        label=label(entry.name, differing),
        instruction=instruction,
        pooling=entry.pooling or spec.pooling,
        # A server cuts texts where its operator said, unless the suite asks for a length.
        max_length=entry.max_length or (spec.max_length if endpoint is None else None),
        dtype=entry.dtype or spec.dtype,
        normalize=spec.normalize if entry.normalize is None else entry.normalize,
        path=document.beside([*location, "path"], entry.path) if entry.path else None,
        trust_remote_code=entry.trust_remote_code,
        allow_pickle=entry.allow_pickled_weights,
        reduction=reduction,
        endpoint=endpoint,
        batch_tokens=entry.batch_tokens,
        device=entry.device,
    )


_NOT_OF_A_SERVER = ("pooling", "dtype", "path", "trust_remote_code", "allow_pickled_weights", "device")


def _endpoint(entry: LLMEntry, spec: LLMSpec, document: Document, location: list[str | int]) -> Endpoint | None:
    served = bool(entry.endpoint) or (spec.loader == "endpoint" and entry.endpoint is not False)
    if not served:
        if entry.endpoint_model is not None:
            problem = "endpoint_model is for a model that a server embeds; set endpoint: too"
            raise document.error([*location, "endpoint_model"], problem)
        if spec.loader == "endpoint":
            raise document.error([*location, "endpoint"], f"llm '{entry.name}' is only to be had from a server")
        return None
    if spec.encoder:
        raise document.error([*location, "endpoint"], f"llm '{entry.name}' is code of a plug-in; no server has it")
    for key in _NOT_OF_A_SERVER:
        if getattr(entry, key):
            problem = f"{key}: has no effect on a model that a server embeds; its operator decides"
            raise document.error([*location, key], problem)
    url = entry.endpoint if isinstance(entry.endpoint, str) else ""
    if "@" in url:
        problem = "an address with a name or password in it; a key belongs in $OPENAI_API_KEY"
        raise document.error([*location, "endpoint"], problem)
    if "?" in url or "#" in url:  # here, before it is written down anywhere: a key may stand there
        problem = "an address that goes on after a `?` or `#`; write the base, such as https://host/v1"
        raise document.error([*location, "endpoint"], problem)
    if url and not url.startswith(("http://", "https://")):
        raise document.error([*location, "endpoint"], f"'{url}' is no base URL, such as http://localhost:8000/v1")
    return Endpoint(url.rstrip("/"), entry.endpoint_model or spec.hub_id or spec.name)


def _reduction(entry: LLMEntry, spec: LLMSpec, document: Document, location: list[str | int]) -> Reduction | None:
    given = {key: value for key in ("dimensions", "pca", "svd") if (value := getattr(entry, key)) is not None}
    if not given:
        return None
    if len(given) > 1:
        raise document.error([*location, list(given)[1]], f"{' and '.join(given)}: choose one")
    ((key, dimensions),) = given.items()
    if spec.dimension is not None and dimensions > spec.dimension:
        problem = f"{key}: {dimensions} is more than the {spec.dimension} dimensions of '{entry.name}'"
        raise document.error([*location, key], problem)
    if key == "dimensions" and not spec.matryoshka:
        problem = (
            f"llm '{entry.name}' is not registered as one whose first dimensions are an embedding by themselves "
            f"(matryoshka); use pca: {dimensions} or svd: {dimensions}"
        )
        raise document.error([*location, key], problem)
    return Reduction("truncate" if key == "dimensions" else key, dimensions)
