"""What a suite may say of fine-tuning: presets, and what is refused."""

import pytest
from pydantic import ValidationError

from stage_bench import registry
from stage_bench.finetuning.options import FinetuningOptions, LoraOptions

SIMTEG = {
    "r": 4,
    "alpha": 8,
    "lora_dropout": 0.3,
    "lr": 5e-5,
    "weight_decay": 1e-5,
    "epochs": 10,
    "label_smoothing": 0.3,
}
STAGE = {
    **{"r": 8, "alpha": 16, "lora_dropout": 0.1, "lr": 2e-5, "weight_decay": 0.0, "epochs": 1, "label_smoothing": 0.3},
    **{"batch_size": 8, "accumulate": 1, "warmup": 0.6, "head": "mlp", "dropout": 0.4, "target_modules": None},
}
TAPE = {"lr": 2e-5, "epochs": 4, "label_smoothing": 0.3, "warmup": 0.6, "weight_decay": 0.0, "head": "linear"}


def values(options, keys) -> dict:
    return {key: options.model_dump()[key] for key in keys}


def test_the_papers_settings():
    """stage.md: Models and training (PEFT), SimTeG, TAPE's steps."""
    assert values(LoraOptions(), STAGE) == STAGE
    assert values(LoraOptions(preset="simteg"), SIMTEG) == SIMTEG
    tape = FinetuningOptions()
    assert values(tape, TAPE) == TAPE
    assert tape.batch_size * tape.accumulate == 36


def test_what_is_given_wins_over_the_preset():
    options = LoraOptions(preset="simteg", r=2, epochs=1, warmup=0.5)
    assert values(options, ("r", "epochs", "warmup", "alpha", "lr")) == {
        **{"r": 2, "epochs": 1, "warmup": 0.5, "alpha": 8, "lr": 5e-5}
    }


def test_settled_options_stay_what_they_are():
    """A job is given them complete: its preset must not come in again over what was chosen."""
    for options in (LoraOptions(preset="simteg", r=2), LoraOptions(), FinetuningOptions(epochs=2)):
        assert type(options)(**options.model_dump()) == options


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        (LoraOptions, {"preset": "simtag"}, "'stage' or 'simteg'"),
        (FinetuningOptions, {"preset": "simteg"}, "Extra inputs"),
        (FinetuningOptions, {"epochs": 0}, "greater than or equal to 1"),
        (FinetuningOptions, {"epochs": 1, "warmup": 1.0}, "a warm-up of 1 epochs in 1: lr would never be reached"),
        (FinetuningOptions, {"lr": "2e-5"}, "valid number"),
        (FinetuningOptions, {"lr": float("inf")}, "finite number"),
        (LoraOptions, {"target_modules": []}, "at least 1 item"),
        (LoraOptions, {"label_smoothing": 1.0}, "less than 1"),
    ],
)
def test_what_is_refused(model, given: dict, message: str):
    with pytest.raises(ValidationError, match=message):
        model(**given)


@pytest.mark.parametrize("name", ["finetuned-lm", "lora"])
def test_the_registry_has_them(name: str):
    spec = registry.get("features", name)
    assert spec.per_split is True
    assert spec.predicts
    assert callable(registry.resolve(spec.pipeline))
    options = registry.resolve(spec.options)()
    assert options.llm == "minilm"
    assert not options.wants_answers
    schema = type(options).model_json_schema()["properties"]
    assert all("description" in field for field in schema.values())
