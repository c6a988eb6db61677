"""What a suite may say. Unknown keys are errors; every list entry is a name or a mapping with that entry's options."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    Tag,
)

from stage_bench.diffusion.budget import bytes_of
from stage_bench.llms.spec import DTYPES, POOLINGS
from stage_bench.training.options import TrainingOptions, TuningOptions

Seed = Annotated[StrictInt, Field(ge=0, lt=2**32)]
Name = Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _check_size(size: str) -> str:
    bytes_of(size)
    return size


_Size = Annotated[StrictStr, AfterValidator(_check_size)]


class ResourcesEntry(_Strict):
    """What a job reserves on a node of a cluster (docs/machines.md); on one machine nothing is reserved."""

    cpus: Annotated[StrictInt, Field(ge=1)] | None = Field(
        None, description="cores; by default 1 to train on a small graph, else all of a node"
    )
    gpus: Annotated[StrictInt | StrictFloat, Field(ge=0)] | None = Field(
        None, description="GPUs; a fraction shares one; by default 1 where it is of use"
    )
    memory: _Size | None = Field(None, description="such as 16GB; by default none is reserved")


class DatasetEntry(_Strict):
    name: Name = Field(description="registry name; with `path` the short name to show")
    path: StrictStr | None = Field(None, description="a folder in the folder format, relative to the suite")
    split: StrictStr | None = Field(None, description="a split of this dataset, such as `public` or random-60-20-20")
    undirected: StrictBool = Field(True, description="add the reverse of every edge")
    optional: StrictBool = Field(False, description="leave the dataset out, with a word, where its files are absent")


class LLMEntry(_Strict):
    name: StrictStr = Field(description="registry name")
    instruction: StrictStr | None = Field(
        None, description="default, graph-aware, dataset, none, or the instruction itself"
    )
    pooling: Literal[POOLINGS] | None = Field(None, description="how token vectors become one")  # type: ignore[valid-type]
    max_length: StrictInt | None = Field(None, ge=1, description="tokens kept of a text")
    dtype: Literal[DTYPES] | None = Field(None, description="of the weights")  # type: ignore[valid-type]
    normalize: StrictBool | None = Field(None, description="scale embeddings to length 1")
    path: StrictStr | None = Field(None, description="a folder with the weights, relative to the suite")
    trust_remote_code: StrictBool = Field(False, description="run the code that lies beside the weights")
    allow_pickled_weights: StrictBool = Field(False, description="read .bin weights where there are no safetensors")
    dimensions: StrictInt | None = Field(None, ge=1, description="keep the first ones (Matryoshka models)")
    pca: StrictInt | None = Field(None, ge=1, description="dimensions after PCA, fitted on all nodes' embeddings")
    svd: StrictInt | None = Field(None, ge=1, description="dimensions after truncated SVD, fitted likewise")
    batch_tokens: StrictInt | None = Field(None, ge=1, description="most tokens in a batch; changes the speed only")
    device: Literal["cpu", "cuda"] | None = Field(None, description="where this model runs; else as --device says")
    endpoint: StrictBool | StrictStr | None = Field(
        None, description="an OpenAI-compatible server embeds: its base URL, or true for $OPENAI_BASE_URL"
    )
    endpoint_model: StrictStr | None = Field(None, description="what the server calls the model, if not its hub id")
    resources: ResourcesEntry | None = Field(None, description="of this entry's jobs on a cluster")


class FeatureEntry(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)
    name: StrictStr = Field(description="registry name")
    resources: ResourcesEntry | None = Field(None, description="of this entry's jobs on a cluster")


class BackboneEntry(BaseModel):
    """Other keys are options of that backbone and of its training (`stage-bench show backbone NAME`)."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: StrictStr = Field(description="registry name")
    recipe: StrictStr | None = Field(None, description="another recipe than the suite's")
    tuning: TuningOptions | None = Field(None, description="search this entry's hyperparameters")
    resources: ResourcesEntry | None = Field(None, description="of this entry's jobs on a cluster")


class Limits(_Strict):
    """What one job may take; one that goes beyond it fails, and the others go on."""

    seconds: Annotated[StrictInt | StrictFloat, Field(gt=0)] | None = Field(None, description="from its beginning on")
    memory: _Size | None = Field(None, description="what its process may hold, such as 8GiB")


Combine = Literal["mean-probability", "mean-logit", "weighted", "fitted", "greedy"]


class EnsembleEntry(_Strict):
    name: Name
    members: list[StrictStr] = Field(min_length=1, description="backbones of this suite, as the leaderboard names them")
    inputs: Literal["each", "all"] | list[StrictStr] = Field(
        "each", description="each: within every LLM and feature source; all, or a list of them: across these"
    )
    combine: Combine = Field(
        "mean-probability",
        description="weighted: by `weights`; fitted, greedy: weights or members chosen on validation nodes",
    )
    weights: list[Annotated[StrictInt | StrictFloat, Field(ge=0)]] | None = Field(
        None, description="of the members; across inputs of the first input's members, then the second's, ..."
    )


def _shape(value: Any) -> str:
    return "list" if isinstance(value, list) else "axes" if isinstance(value, dict) else "number"


MOST_SEEDS = 10_000
_Count = Annotated[StrictInt, Field(ge=1, le=MOST_SEEDS), Tag("number")]
_Seeds = Annotated[list[Seed], Field(min_length=1, max_length=MOST_SEEDS), Tag("list")]
_CountOrSeeds = Annotated[_Count | _Seeds, Discriminator(_shape)]


class SeedAxes(_Strict):
    """Seeds of each axis; every combination is a run."""

    split: _CountOrSeeds
    initialisation: _CountOrSeeds


_AnySeeds = Annotated[_Count | _Seeds | Annotated[SeedAxes, Tag("axes")], Discriminator(_shape)]


class Suite(_Strict):
    """A benchmark suite."""

    name: Name = Field(description="also the name of the report's folder")
    description: StrictStr = ""
    plugins: list[StrictStr] = Field([], description="Python files that register more, relative to the suite")
    datasets: list[Annotated[DatasetEntry, BeforeValidator(_named)]] = Field(min_length=1)
    llms: list[Annotated[LLMEntry, BeforeValidator(_named)]] = []
    features: list[Annotated[FeatureEntry, BeforeValidator(_named)]] = []
    backbones: list[Annotated[BackboneEntry, BeforeValidator(_named)]] = Field(min_length=1)
    ensembles: list[EnsembleEntry] = []
    seeds: _AnySeeds = Field(10, description="how many (0, 1, ...), which, or {split: ..., initialisation: ...}")
    splits: StrictStr | None = Field(None, description="where a dataset has no official one: random-60-20-20, ...")
    recipe: StrictStr = Field("default", description="hyperparameters: a file under baselines/")
    training: dict[str, Any] = Field({}, description="training values for every backbone instead of the recipe's")
    tuning: TuningOptions | None = Field(None, description="search the hyperparameters of every backbone")
    memory: _Size | None = Field(
        None, description="what a process may hold while it diffuses, such as 8GB; what needs more is made in files"
    )
    limits: Limits | None = Field(None, description="of every job; --job-time and --job-memory come first")
    resources: ResourcesEntry | None = Field(None, description="of every job on a cluster; an entry's own come first")
    compare: list[StrictStr] = Field([], description="published numbers to show: files under baselines/published/")


def json_schema() -> dict[str, Any]:
    """The JSON schema of a suite, with the names and options that are registered now."""
    from stage_bench import registry
    from stage_bench.answers.choice import AnswersEntry
    from stage_bench.suite import bundle as bundles
    from stage_bench.suite.folders import published_names, recipe_names

    schema = Suite.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["properties"]["include"] = {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        "description": "another suite whose keys hold where this one does not set them, relative to this file",
    }
    # What an included suite may have said need not be said again.
    schema["anyOf"] = [{"required": schema.pop("required")}, {"required": ["include"]}]
    definitions = schema["$defs"]
    schema["properties"]["training"] = TrainingOptions.model_json_schema()
    training = TrainingOptions.model_json_schema()["properties"]
    definitions["AnswersEntry"] = AnswersEntry.model_json_schema()
    # Options that stand for more than a value (suite/feature_choices.py).
    settled = {
        "llm": {"anyOf": [{"enum": registry.ready("llms")}, {"$ref": "#/$defs/LLMEntry"}]},
        "answers": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/AnswersEntry"}]},
    }

    def entries(kind: str, definition: str) -> dict[str, Any]:
        names = registry.ready(kind)
        definitions[definition]["properties"]["name"]["enum"] = names
        return {"anyOf": [{"enum": names}, {"$ref": f"#/$defs/{definition}"}]}

    def with_options(kind: str, definition: str, more: dict[str, Any]) -> dict[str, Any]:
        names, choices = [], []
        for name, spec in sorted(registry.specs(kind).items()):
            if spec.needs:
                continue
            names.append(name)
            options = registry.resolve(spec.options).model_json_schema()["properties"] if spec.options else {}
            options |= {key: settled[key] for key in settled if key in options}
            trained = {} if getattr(spec, "family", "") == "direct" else more
            own = {**definitions[definition]["properties"], "name": {"const": name}, **options, **trained}
            choices.append({"type": "object", "additionalProperties": False, "required": ["name"], "properties": own})
        del definitions[definition]
        return {"anyOf": [{"enum": names}, *choices]}

    def with_bundles(entry: dict[str, Any]) -> dict[str, Any]:
        """Their options are those of their sets' sources, and are checked when the suite is read."""
        bundle = {"type": "object", "required": ["name"], "properties": {"name": {"enum": bundles.names()}}}
        return {"anyOf": [*entry["anyOf"], {"enum": bundles.names()}, bundle]}

    schema["properties"]["datasets"]["items"] = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/DatasetEntry"}]}
    schema["properties"]["llms"]["items"] = entries("llms", "LLMEntry")
    schema["properties"]["features"]["items"] = with_bundles(with_options("features", "FeatureEntry", {}))
    schema["properties"]["backbones"]["items"] = with_options(
        "backbones", "BackboneEntry", {**training, "recipe": {"enum": recipe_names()}}
    )
    schema["properties"]["recipe"]["enum"] = recipe_names()
    schema["properties"]["compare"]["items"]["enum"] = published_names()
    return schema
