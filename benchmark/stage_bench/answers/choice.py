"""What a suite says of a chat model's answers under `answers:`, and what it means; light, since the suite reads it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

from stage_bench import registry
from stage_bench.errors import JobError, StageBenchError

if TYPE_CHECKING:
    from stage_bench.datasets.textgraph import TextGraph
    from stage_bench.located_yaml import Document

DATASET = "dataset"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(?:@[\w.-]+)?")
_SLOTS = re.compile(r"\{(\w*)\}")
VERSION = 1  # raise when the same choice would be asked in another way


class AnswersEntry(BaseModel):
    """Answers that are there, or a chat model that is asked; nothing: those in the dataset's folder `answers/`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    upstream: StrictStr | None = Field(None, min_length=1, description="folder of responses, {i}.json for node i")
    endpoint: StrictStr | StrictBool | None = Field(
        None, description="base URL of an OpenAI-compatible chat server; true: $OPENAI_BASE_URL"
    )
    model: StrictStr | None = Field(None, min_length=1, description="as that server calls it")
    local: StrictStr | None = Field(
        None, min_length=1, description="a transformers chat model to run here: a folder, or hub id, perhaps @revision"
    )
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(None, description="of a local model's weights")
    trust_remote_code: StrictBool = Field(False, description="run the code of a local model's repository")
    prompt: StrictStr | None = Field(
        None, description="dataset, or a text of one's own with {text}, and {classes} and {top} where it wants them"
    )
    top: StrictInt | None = Field(None, ge=1, description="classes asked for, where the prompt says how many")
    temperature: StrictInt | StrictFloat | None = Field(None, ge=0, le=2, description="0 unless it stands here")
    max_tokens: StrictInt | None = Field(None, ge=1, description="most tokens of an answer; 512 unless it stands here")
    most_tokens: StrictInt | None = Field(None, ge=1, description="limit over all requests, prompts and answers")
    most_dollars: StrictInt | StrictFloat | None = Field(None, gt=0, description="the same in US dollars")
    price_prompt: StrictInt | StrictFloat | None = Field(None, ge=0, description="US dollars per million prompt tokens")
    price_completion: StrictInt | StrictFloat | None = Field(None, ge=0, description="the same for answers")


@dataclass(frozen=True, kw_only=True)
class AnswersChoice:
    """Answers as a suite wants them, every option settled.

    label: what the leaderboard shows. kind: `upstream`, `endpoint` or `local`. folder: of the responses (None: the
    dataset's), or of the local model (None: `model` is its hub id). url: empty: $OPENAI_BASE_URL. prompt: None: the
    dataset's. Limits and prices change what is spent, not what is answered.
    """

    label: str
    kind: str
    folder: Path | None = None
    url: str = ""
    model: str = ""
    revision: str = ""
    dtype: str = "float32"
    trust_remote_code: bool = False
    prompt: str | None = None
    top: int | None = None
    temperature: float = 0.0
    max_tokens: int = 512
    most_tokens: int | None = None
    most_dollars: float | None = None
    price_prompt: float | None = None
    price_completion: float | None = None


_LIMITS = ("most_tokens", "most_dollars", "price_prompt", "price_completion")
_ASKING = ("prompt", "top", "temperature", "max_tokens")
_NO_EFFECT = {
    "upstream": (("model", "dtype", "trust_remote_code", *_ASKING, *_LIMITS), "answers that are there already"),
    "endpoint": (("dtype", "trust_remote_code"), "a model that a server runs"),
    "local": (("model", *_LIMITS), "a model that runs here"),
}


def choose(entry: AnswersEntry, document: Document, location: list[str | int]) -> AnswersChoice:
    """Raises StageBenchError with the place in the suite, and what is valid."""
    # Where a recipe, or nothing at all, says `answers:`, there is no key to point at.
    given = [key for key in ("upstream", "endpoint", "local") if not _is_absent(getattr(entry, key))]
    if len(given) > 1:
        raise document.error([*location, given[1]], f"{' and '.join(given)}: choose one", key=True)
    kind = given[0] if given else "upstream"
    keys, what = _NO_EFFECT[kind]
    for key in keys:
        if not _is_absent(getattr(entry, key)):
            raise document.error([*location, key], f"{key}: has no effect on {what}", key=True)
    settled: dict[str, Any] = {
        key: value for key in (*_ASKING, *_LIMITS, "dtype") if (value := getattr(entry, key)) is not None
    }
    if settled.get("prompt") == DATASET:
        del settled["prompt"]
    _check_prompt(entry, document, location)
    if kind == "upstream":
        settled |= _upstream(entry, document, location)
    elif kind == "endpoint":
        settled |= _endpoint(entry, document, location)
    else:
        settled |= _local(entry, document, location)
    name = settled.pop("name")
    return AnswersChoice(label=_label(name, settled), kind=kind, **settled)


def identity(graph: TextGraph, choice: AnswersChoice) -> dict[str, Any]:
    """What determines the answers and what is read from them; `asked` alone says what was asked of whom.

    Raises:
        StageBenchError: the dataset lacks the answers, texts to ask about, or names for its classes.
    """
    from stage_bench.answers import parsing, prompts

    question = prompts.question(graph.name, graph.label_names, choice.prompt, choice.top)
    parsing.Parser(graph.label_names, question.other_names)  # refuses classes that cannot be told apart
    asked: dict[str, Any] = {"kind": choice.kind, "version": VERSION}
    if choice.kind == "upstream":
        from stage_bench.answers import upstream

        asked["content"] = upstream.fingerprint(upstream.folder(graph, choice), graph.num_nodes)
    else:
        if graph.texts is None:
            raise StageBenchError(f"dataset '{graph.name}' has no texts, which a chat model could be asked about")
        asked |= {
            "texts": graph.text_fingerprint,
            "prompt": question.template,
            "model": choice.model,
            "temperature": float(choice.temperature),
            "max_tokens": choice.max_tokens,
        }
    if choice.kind == "local":
        from stage_bench.answers import local

        asked |= {"model": local.identity(choice), "dtype": choice.dtype, "remote_code": choice.trust_remote_code}
    return {
        "asked": asked,
        "classes": list(graph.label_names),
        "other_names": {name: list(others) for name, others in question.other_names.items()},
        "parsing": parsing.VERSION,
    }


def _is_absent(value: Any) -> bool:
    """0 is there."""
    return value is None or value is False


def local_weights(choice: AnswersChoice, fetch: bool = True) -> Path:
    """The folder of a local chat model's weights; fetch: from the hub if they are not here.

    Raises:
        JobError: they cannot be had; says what to get.
    """
    from stage_bench.llms import weights
    from stage_bench.llms.spec import LLMSpec

    spec = LLMSpec(
        name=choice.model, hub_id=choice.model, revision=choice.revision, remote_code=choice.trust_remote_code
    )
    try:
        return weights.find(spec, choice.folder, fetch=fetch)
    except JobError as error:
        reason = str(error).partition(", or name a folder")[0]
        raise JobError(f"answers of '{choice.label}': {reason}, or name a folder: answers: {{local: FOLDER}}") from None


def _check_prompt(entry: AnswersEntry, document: Document, location: list[str | int]) -> None:
    if entry.prompt is None or entry.prompt == DATASET:
        return
    place = [*location, "prompt"]
    if len(entry.prompt.split()) < 2:
        problem = registry.unknown("prompt", entry.prompt, [DATASET])
        raise document.error(place, f"{problem}; a prompt of your own is a text with {{text}} in it")
    slots = _SLOTS.findall(entry.prompt)
    if "text" not in slots:
        raise document.error(place, "a prompt without {text}: every node would be asked about in the same words")
    for slot in slots:
        if slot not in ("text", "classes", "top"):
            problem = registry.unknown("slot", slot, ("text", "classes", "top"))
            raise document.error(place, f"{problem}; a brace that is meant as such is written twice")
    if entry.top is not None and "top" not in slots:
        raise document.error([*location, "top"], "top: has no effect on a prompt without {top}", key=True)


def _upstream(entry: AnswersEntry, document: Document, location: list[str | int]) -> dict[str, Any]:
    if entry.upstream is None:
        return {"name": "upstream"}
    place = [*location, "upstream"]
    folder = document.beside(place, entry.upstream)
    if not folder.is_dir():
        raise document.error(place, f"there is no folder '{entry.upstream}'")
    return {"name": folder.resolve().name, "folder": folder}


def _endpoint(entry: AnswersEntry, document: Document, location: list[str | int]) -> dict[str, Any]:
    if entry.model is None:
        raise document.error([*location, "endpoint"], "an endpoint needs model: NAME, as the server calls it", key=True)
    url = entry.endpoint if isinstance(entry.endpoint, str) else ""
    place = [*location, "endpoint"]
    if "@" in url:
        raise document.error(place, "an address with a name or password in it; a key belongs in $OPENAI_API_KEY")
    if "?" in url or "#" in url:  # here, before it is written down anywhere: a key may stand there
        raise document.error(
            place, "an address that goes on after a `?` or `#`; write the base, such as https://host/v1"
        )
    if isinstance(entry.endpoint, str) and not url.startswith(("http://", "https://")):
        raise document.error(place, f"'{url}' is no base URL, such as http://localhost:8000/v1")
    if (entry.price_prompt is None) != (entry.price_completion is None):
        one = "price_prompt" if entry.price_completion is None else "price_completion"
        raise document.error([*location, one], "price_prompt and price_completion go together", key=True)
    if entry.most_dollars is not None and entry.price_prompt is None:
        problem = "most_dollars needs price_prompt and price_completion, in US dollars per million tokens"
        raise document.error([*location, "most_dollars"], problem, key=True)
    return {"name": entry.model, "model": entry.model, "url": url.rstrip("/")}


def _local(entry: AnswersEntry, document: Document, location: list[str | int]) -> dict[str, Any]:
    assert entry.local is not None
    place = [*location, "local"]
    settled: dict[str, Any] = {"trust_remote_code": entry.trust_remote_code}
    folder = document.beside(place, entry.local)
    if folder.is_dir():
        return {**settled, "name": folder.resolve().name, "model": folder.resolve().name, "folder": folder}
    if not _HUB_ID.fullmatch(entry.local) or entry.local.startswith("."):
        raise document.error(place, f"'{entry.local}' is neither a folder nor a hub id, such as org/name")
    hub_id, _, revision = entry.local.partition("@")
    return {**settled, "name": hub_id.partition("/")[2], "model": hub_id, "revision": revision}


def _label(name: str, settled: dict[str, Any]) -> str:
    """The model or folder, and in brackets what differs from the usual."""
    usual = AnswersChoice(label="", kind="")
    shown = []
    for key in ("temperature", "max_tokens", "top", "dtype", "revision"):
        value = settled.get(key)
        if value not in (None, "", getattr(usual, key)):
            shown.append(f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}")
    if settled.get("prompt"):
        from stage_bench import fingerprint

        # Two of one's own are compared side by side, and have to be told apart.
        shown.append(f"prompt={fingerprint.of_json(settled['prompt'])[:6]}")
    return f"{name}({','.join(shown)})" if shown else name
