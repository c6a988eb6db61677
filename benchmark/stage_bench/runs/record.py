"""RunRecord: one run, as `run.json` holds it. Knows nothing of torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from stage_bench import seals
from stage_bench.errors import StageBenchError

SCHEMA_VERSION = 3
_SEALED_SINCE = 3


class Newer(StageBenchError):
    """A newer stage-bench wrote it: not damaged, and not to be read here."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What was run, how it went, and with what.

    content: what determines the run's numbers; its hash is the id.
    metrics: accuracies as fractions, best_epoch, epochs, parameters; empty for a failed run.
    seconds: of the phases (`runs.clock`); embed and diffuse are those of the work this run shares with others.
    energy_joules: what train and infer drew, an ensemble's members together; None: not measured (`runs.energy`).
    embedding: `tokens`, `dollars` and `joules` of the embedding this run shares with others, those that are known.
    """

    id: str
    status: str  # ok | failed
    kind: str  # train | ensemble
    dataset: str
    split: str
    features: str
    llm: str
    instruction: str
    backbone: str
    split_seed: int | None
    init_seed: int | None
    content: dict[str, Any]
    metrics: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    curve: list[float] = field(default_factory=list)  # validation accuracy of every epoch
    embedding_id: str = ""
    diffusion_id: str = ""
    study_id: str = ""
    answers_id: str = ""  # of a chat model's answers that the features are made of
    answers: dict[str, float] = field(default_factory=dict)  # their tokens and dollars, as far as they are known
    embedding: dict[str, float] = field(default_factory=dict)
    energy_joules: float | None = None
    weights: dict[str, float] = field(default_factory=dict)  # of an ensemble: member's id to weight
    split_fingerprint: str = ""
    dataset_fingerprint: str = ""
    predictions_sha256: str = ""
    peak_memory_mb: float | None = None
    hardware: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    commit: dict[str, Any] = field(default_factory=dict)
    finished: str = ""
    error: str = ""
    note: str = ""
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> dict[str, Any]:
        """As `run.json` holds it, with the checksum of all of it."""
        return seals.sealed(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, value: Any) -> RunRecord:
        """The record as of this version: what an older one did not have is empty.

        Raises:
            StageBenchError: not a record, or not as it was written.
            Newer: of a newer version than this program.
        """
        if not isinstance(value, dict) or not isinstance(value.get("schema_version"), int):
            raise StageBenchError("not a run record")
        if value["schema_version"] > SCHEMA_VERSION:
            raise Newer(
                f"record version {value['schema_version']} is newer than this stage-bench reads ({SCHEMA_VERSION}); "
                "update stage-bench"
            )
        fields = {key: field for key, field in value.items() if key != seals.KEY}
        try:
            record = cls(**{**fields, "schema_version": SCHEMA_VERSION})
        except TypeError as error:
            raise StageBenchError(f"not a run record: {error}") from None
        if problem := seals.problem(value, needed=value["schema_version"] >= _SEALED_SINCE):
            raise StageBenchError(problem)
        return record
