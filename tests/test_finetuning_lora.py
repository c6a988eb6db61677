"""LoRA: which layers get adapters, what is trained and what is not, and what merging gives."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import finetuned
import tiny
from stage_bench.errors import JobError
from stage_bench.features.spec import Setting
from stage_bench.finetuning import adapters
from stage_bench.finetuning.options import LoraOptions
from stage_bench.finetuning.source import build
from stage_bench.llms import encoders

QUICK = {"lr": 2e-2, "epochs": 2, "batch_size": 6, "label_smoothing": 0.1, "lora_dropout": 0.0, "dropout": 0.0}
MODELS = {
    "bert": (lambda path: tiny.save_bert(path, finetuned.WORDS), ["query", "value"]),
    "deberta": (lambda path: finetuned.save_deberta(path, finetuned.WORDS), ["in_proj"]),
    "deberta-v2": (lambda path: finetuned.save_deberta(path, finetuned.WORDS, version=2), ["query_proj", "value_proj"]),
    "mpnet": (lambda path: finetuned.save_mpnet(path, finetuned.WORDS), ["q", "v"]),
    "gpt2": (lambda path: tiny.save_gpt2(path, tiny.texts()[0]), ["c_attn"]),
    "llama": (lambda path: tiny.save_llama(path, finetuned.WORDS), ["q_proj", "v_proj"]),
}


@pytest.fixture(autouse=True)
def one_core() -> Iterator[None]:
    with finetuned.one_core():
        yield


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for name, (save, _) in MODELS.items():
        save(root / name)
    return root


def stored(setting: Setting) -> dict[str, torch.Tensor]:
    last = max(setting.folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    return load_file(last / "model.safetensors")


@pytest.mark.parametrize("name", MODELS)
def test_adapters_and_head_are_trained_and_nothing_else(name: str, models: Path, tmp_path: Path):
    """Every adapter: one that the model passes by would stay at the zero it begins with."""
    setting = finetuned.setting(tmp_path, models / name)
    kept = {}
    encoder = encoders.load(setting.llm, "cpu", training=True)
    before = {key: tensor.clone() for key, tensor in encoder.model.state_dict().items()}
    adapters.attach(encoder.model, LoraOptions(**QUICK), "tiny")
    for key, parameter in encoder.model.named_parameters():
        assert parameter.requires_grad == ("lora_" in key)
        kept[key.replace(".base_layer", "")] = parameter
    assert all(torch.equal(kept[key], value) for key, value in before.items() if key in kept)

    built = build(setting, LoraOptions(**QUICK))
    weights = stored(setting)
    _, targets = MODELS[name]
    adapted = [key for key in weights if "lora_B" in key]
    assert len(adapted) == 2 * len(targets)
    assert {next(target for target in targets if f".{target}." in key) for key in adapted} == set(targets)
    assert all(weights[key].abs().max() > 0 for key in adapted)
    assert all("lora_" in key or key.startswith("head.") for key in weights)
    assert {weights[key].shape[1] for key in adapted} == {8}
    assert np.isfinite(built.matrix).all()


@pytest.mark.parametrize("name", MODELS)
def test_merged_and_unmerged_are_the_same(name: str, models: Path, tmp_path: Path):
    merged, apart = (
        build(
            finetuned.setting(tmp_path, models / name, folder=tmp_path / str(merge)), LoraOptions(**QUICK, merge=merge)
        )
        for merge in (True, False)
    )
    np.testing.assert_allclose(merged.matrix, apart.matrix, atol=2e-5)
    np.testing.assert_allclose(merged.logits, apart.logits, atol=2e-4)


def test_merging_leaves_the_model_as_it_was_built(models: Path, tmp_path: Path):
    encoder = encoders.load(finetuned.setting(tmp_path, models / "llama").llm, "cpu", training=True)
    before = {name: type(module) for name, module in encoder.model.named_modules()}
    adapters.attach(encoder.model, LoraOptions(**QUICK), "tiny")
    adapters.merge(encoder.model)
    assert {name: type(module) for name, module in encoder.model.named_modules()} == before


def test_adapters_by_hand(models: Path, tmp_path: Path):
    """W + alpha / r B A is the weight of a plain model that embeds the same."""
    setting = finetuned.setting(tmp_path, models / "bert", normalize=False)
    built = build(setting, LoraOptions(**{**QUICK, "epochs": 1}, r=2, alpha=6))
    weights = stored(setting)
    encoder = encoders.load(setting.llm, "cpu", training=True)
    for name, module in encoder.model.named_modules():
        down = weights.get(f"body.{name}.lora_A.default.weight")
        if down is not None:
            assert down.shape == (2, 32)
            module.weight.data += 3 * weights[f"body.{name}.lora_B.default.weight"] @ down
    expected = encoders.encode(encoder, list(setting.graph.texts), [0] * 90)
    np.testing.assert_allclose(built.matrix, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["mpnet", "deberta-v2"])
def test_it_learns(name: str, models: Path, tmp_path: Path):
    setting = finetuned.setting(tmp_path, models / name)
    built = build(setting, LoraOptions(**{**QUICK, "epochs": 8}))
    labels = tiny.text_graph(90).labels
    right = built.logits.argmax(axis=1) == labels
    assert right[setting.train].mean() > 0.8
    assert right[setting.val].mean() > 0.6


def test_frozen_weights_may_be_bfloat16(models: Path, tmp_path: Path):
    setting = finetuned.setting(tmp_path, models / "llama", dtype="bfloat16")
    built = build(setting, LoraOptions(**QUICK))
    assert {tensor.dtype for tensor in stored(setting).values()} == {torch.float32}
    assert built.matrix.dtype == np.float32
    apart = build(dataclasses.replace(setting, folder=tmp_path / "2"), LoraOptions(**QUICK, merge=False))
    np.testing.assert_allclose(built.matrix, apart.matrix, atol=0.1)


def test_target_modules_of_ones_own(models: Path, tmp_path: Path):
    setting = finetuned.setting(tmp_path, models / "llama")
    build(setting, LoraOptions(**QUICK, target_modules=["down_proj", "layers.1.self_attn.k_proj"]))
    adapted = sorted(key.removesuffix(".lora_B.default.weight") for key in stored(setting) if "lora_B" in key)
    assert adapted == ["body.layers.0.mlp.down_proj", "body.layers.1.mlp.down_proj", "body.layers.1.self_attn.k_proj"]


def test_a_target_that_is_not_there(models: Path, tmp_path: Path):
    with pytest.raises(
        JobError, match=r"no linear layer 'q_proj' \(target_modules\); it has dense, key, query, value$"
    ):
        build(finetuned.setting(tmp_path, models / "bert"), LoraOptions(**QUICK, target_modules=["query", "q_proj"]))


def test_an_architecture_that_is_not_known():
    class Mixer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix, self.out = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)

    message = r"llm 'odd': its query and value layers are not known \(Mixer\); .*target_modules: it has mix, out$"
    with pytest.raises(JobError, match=message):
        adapters.targets(Mixer(), None, "odd")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("MistralConfig", ["q_proj", "v_proj"]),
        ("Qwen2Config", ["q_proj", "v_proj"]),
        ("Qwen3Config", ["q_proj", "v_proj"]),
        ("RobertaConfig", ["query", "value"]),
        ("XLMRobertaConfig", ["query", "value"]),
        ("ElectraConfig", ["query", "value"]),
        ("DistilBertConfig", ["q_lin", "v_lin"]),
        ("ModernBertConfig", ["Wqkv"]),
        ("NomicBertConfig", ["q_proj", "v_proj"]),
        ("GPTNeoXConfig", ["query_key_value"]),
        ("Phi3Config", ["qkv_proj"]),
    ],
)
def test_other_architectures(config: str, expected: list[str]):
    import transformers

    with torch.device("meta"):
        model = transformers.AutoModel.from_config(getattr(transformers, config)())
    assert adapters.targets(model, None, "any") == expected
