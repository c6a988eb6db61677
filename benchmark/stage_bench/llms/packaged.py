"""Weights that lie in packages of the registry: found without running the packages' code, checked, made ready once."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import platformdirs
from filelock import FileLock

from stage_bench import files
from stage_bench.datasets.upstream import archives
from stage_bench.errors import JobError, StageBenchError
from stage_bench.llms.spec import LLMSpec, Packed

VERSION = 1  # raise when the same packages would give another folder
_NOTE = "source.json"  # what a folder was made from, and the sha256 of each file in it
_DOING = {"zip": "unpacking", "gguf": "converting", "static": "converting"}


def find(spec: LLMSpec) -> Path | None:
    """The folder with a model's config and safetensors, made now if it was not; None: its packages are not here.

    Raises:
        JobError: the packages hold something else, or it cannot be made from them; says what to do.
    """
    if spec.packed is None:
        return _as_it_lies(spec)
    place = _place(spec, spec.packed)
    if place.is_dir():
        return _sound(spec, place)
    sources = [_source(file) for file in spec.packed.files]
    if None in sources:
        return None
    _make(spec, spec.packed, [source for source in sources if source is not None], place)
    return place


def lack(spec: LLMSpec) -> str:
    """What of a model's packages is missing; empty: nothing. Nothing is read or made."""
    packed = spec.packed
    if packed is None or _place(spec, packed).is_dir():
        return ""
    absent = list(dict.fromkeys(file.partition("/")[0] for file in packed.files if _source(file) is None))
    absent += ["gguf"] if packed.kind == "gguf" and importlib.util.find_spec("gguf") is None else []
    if not absent:
        return ""
    return f"it needs the package{'s' if len(absent) > 1 else ''} {', '.join(absent)}: {packed.install}"


def _as_it_lies(spec: LLMSpec) -> Path | None:
    """The folder inside one installed package."""
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


def _source(file: str) -> Path | None:
    """Where `package/path/in/it` lies; None: the package is not installed, or has no such file."""
    package, _, path = file.partition("/")
    found = importlib.util.find_spec(package)
    places = (found.submodule_search_locations or []) if found else []
    return next((Path(place) / path for place in places if (Path(place) / path).is_file()), None)


def _place(spec: LLMSpec, packed: Packed) -> Path:
    """In the user's cache: what a GGUF file becomes is transformers' work, so another version makes it anew."""
    by = f"-transformers-{importlib.metadata.version('transformers')}" if packed.kind == "gguf" else ""
    name = f"{spec.name}-{packed.sha256}{by}-{VERSION}"
    return Path(platformdirs.user_cache_dir("stage-bench")) / "weights" / name


def _sound(spec: LLMSpec, place: Path) -> Path:
    """A folder that was made before.

    Raises:
        JobError: it is not what was made.
    """
    try:
        kept: dict[str, str] = json.loads((place / _NOTE).read_text(encoding="utf-8"))["files"]
        whole = all(files.sha256(place / name) == digest for name, digest in kept.items())
    except (OSError, ValueError, KeyError):
        whole = False
    if not whole:
        raise JobError(f"llm '{spec.name}': {place} is damaged; delete it, and it is made again from its packages")
    return place


def _make(spec: LLMSpec, packed: Packed, sources: Sequence[Path], place: Path) -> None:
    """The folder appears when it is complete; another process that wants it too waits."""
    missing = lack(spec)
    if missing:
        raise JobError(f"llm '{spec.name}': {missing}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place.parent / f"{place.name}.lock"):
            if place.is_dir():
                return
            for left in place.parent.glob(f".{place.name}.*"):  # by one that was killed
                shutil.rmtree(left, ignore_errors=True)
            size = sum(source.stat().st_size for source in sources)
            doing = f"{_DOING[packed.kind]} the weights of its packages ({size / 1e6:.0f} MB) once on this machine"
            print(f"llm '{spec.name}': {doing}", file=sys.stderr, flush=True)
            temporary = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
            try:
                _checked_copy(spec, packed, sources, temporary / "source")
                made = {"zip": _unzip, "gguf": _convert, "static": _static}[packed.kind](sources, temporary)
                kept = {path.relative_to(made).as_posix(): path for path in made.rglob("*") if path.is_file()}
                note = {"source": packed.sha256, "files": {name: files.sha256(path) for name, path in kept.items()}}
                files.write_json(made / _NOTE, note)
                made.rename(place)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except StageBenchError as error:
        raise JobError(str(error)) from None
    except OSError as error:
        what = error.strerror or str(error)
        raise JobError(f"llm '{spec.name}': its weights cannot be made ready in {place.parent}: {what}") from None


def _checked_copy(spec: LLMSpec, packed: Packed, sources: Sequence[Path], path: Path) -> None:
    """What the packages hold, as one file. Raises JobError: it is something else."""
    digest = hashlib.sha256()
    with path.open("wb") as out:
        for source in sources:
            with source.open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
                    out.write(chunk)
    if digest.hexdigest() != packed.sha256:
        names = ", ".join(dict.fromkeys(file.partition("/")[0] for file in packed.files))
        raise JobError(
            f"llm '{spec.name}': what {names} hold has sha256 {digest.hexdigest()[:12]}..., expected "
            f"{packed.sha256[:12]}...; {packed.install} --force-reinstall"
        )


def _unzip(sources: Sequence[Path], temporary: Path) -> Path:
    """A model's folder as it was packed, wherever in the zip it is."""
    size = (temporary / "source").stat().st_size
    archives.unpack(temporary / "source", temporary / "made", max_bytes=4 * size)  # weights hardly shrink in a zip
    for config in sorted((temporary / "made").rglob("config.json"), key=lambda path: len(path.parts)):
        if list(config.parent.glob("*.safetensors")):
            return config.parent
    raise JobError(f"{sources[0].name} holds no folder with config.json and safetensors")


def _convert(sources: Sequence[Path], temporary: Path) -> Path:
    """A GGUF file's language model without its head, dequantised to float32, and its tokenizer.

    The template for chats is left out: nothing here chats, and sentence-transformers would wrap every text into one.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    made = temporary / "made"
    made.mkdir()
    try:
        known = {"gguf_file": "source", "local_files_only": True, "trust_remote_code": False}
        tokenizer = AutoTokenizer.from_pretrained(str(temporary), **known)
        model = AutoModel.from_pretrained(str(temporary), dtype=torch.float32, **known)
    except Exception as error:  # whatever transformers and gguf raise for a kind of model that they do not know
        what = " ".join(str(error).split()) or type(error).__name__
        raise JobError(f"transformers cannot read {sources[0].name}: {what}") from error
    tokenizer.chat_template = None
    tokenizer.save_pretrained(made)
    # The weights are plain float32 now, and say so; save_pretrained refuses a model that was read from GGUF.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.save_pretrained(made)
    weights = {name: weight.contiguous() for name, weight in model.state_dict().items()}
    save_file(weights, made / "model.safetensors", metadata={"format": "pt"})
    return made


def _static(sources: Sequence[Path], temporary: Path) -> Path:
    """A table of vectors, one a token, and its tokenizer: a sentence-transformers model that averages them."""
    from safetensors.torch import load_file
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    table, tokenizer = sources
    (weights,) = load_file(table).values()
    static = StaticEmbedding(Tokenizer.from_file(str(tokenizer)), embedding_weights=weights.float().numpy())
    made = temporary / "made"
    SentenceTransformer(modules=[static], device="cpu").save(str(made), create_model_card=False)
    return made
