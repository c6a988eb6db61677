"""Fine-tuned language models as feature sources: that they learn from training labels alone, and as is said."""

import dataclasses
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import finetuned
import tiny
from stage_bench.errors import JobError
from stage_bench.features.spec import Built, Setting
from stage_bench.finetuning import trainer
from stage_bench.finetuning.batches import Batches
from stage_bench.finetuning.options import FinetuningOptions, LoraOptions
from stage_bench.finetuning.source import build
from stage_bench.llms import encoders
from stage_bench.runs.provenance import has_bfloat16

QUICK = {"lr": 3e-3, "epochs": 6, "batch_size": 6, "accumulate": 1, "label_smoothing": 0.1}
LORA = {"lr": 2e-2, "epochs": 6, "batch_size": 6, "label_smoothing": 0.1, "lora_dropout": 0.0, "dropout": 0.0}
STILL = {"lr": 1e-30, "epochs": 1, "batch_size": 6, "accumulate": 1}  # steps that no weight can show
MODELS = {
    "bert": lambda path: tiny.save_bert(path, finetuned.WORDS),
    "deberta": lambda path: finetuned.save_deberta(path, finetuned.WORDS),
    "deberta-v2": lambda path: finetuned.save_deberta(path, finetuned.WORDS, version=2),
    "mpnet": lambda path: finetuned.save_mpnet(path, finetuned.WORDS),
    "gpt2": lambda path: tiny.save_gpt2(path, tiny.texts()[0]),
    "llama": lambda path: tiny.save_llama(path, finetuned.WORDS),
}
TRUE = tiny.text_graph(90).labels


@pytest.fixture(autouse=True)
def one_core() -> Iterator[None]:
    with finetuned.one_core():
        yield


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one model of each kind; the BERT there drops nothing, so that its steps can be computed by hand."""
    root = tmp_path_factory.mktemp("models")
    for name, save in MODELS.items():
        save(root / name)
    without = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    tiny.save_bert(root / "no-dropout", finetuned.WORDS, **without)
    return root


def accuracy(built: Built, nodes: np.ndarray) -> float:
    assert built.logits is not None
    return float((built.logits[nodes].argmax(axis=1) == TRUE[nodes]).mean())


def joined(batches: list[list[int]]) -> list[int]:
    return [position for batch in batches for position in batch]


def zero_shot(setting: Setting) -> np.ndarray:
    encoder = encoders.load(setting.llm, "cpu")
    return encoders.encode(encoder, list(setting.graph.texts), [0] * setting.graph.num_nodes)


# --- what comes out ---


@pytest.mark.parametrize("name", MODELS)
def test_it_learns(name: str, models: Path, tmp_path: Path):
    """A tokenizer without a padding token (GPT-2's, Llama's here) included."""
    setting = finetuned.setting(tmp_path, models / name, pooling="last-token" if name == "gpt2" else "mean")
    built = build(setting, FinetuningOptions(**QUICK))
    assert accuracy(built, setting.train) > 0.9
    assert accuracy(built, setting.val) > 0.6
    assert built.matrix.shape == (90, 32)
    assert built.logits.shape == (90, 3)
    assert built.matrix.dtype == built.logits.dtype == np.float32
    assert set(built.spent) == {"finetune_seconds", "seconds"}
    assert all(value > 0 for value in built.spent.values())


@pytest.mark.parametrize("head", ["linear", "mlp", "dense"])
@pytest.mark.parametrize("normalize", [True, False])
def test_without_a_step_the_embedding_is_the_zero_shot_one(head: str, normalize: bool, models: Path, tmp_path: Path):
    setting = finetuned.setting(tmp_path, models / "bert", normalize=normalize, pooling="cls")
    built = build(setting, FinetuningOptions(**STILL, head=head))
    np.testing.assert_allclose(built.matrix, zero_shot(setting), atol=1e-6)


@pytest.mark.parametrize(
    ("head", "shapes"),
    [("linear", [(3, 32)]), ("mlp", [(16, 32), (3, 16)]), ("dense", [(32, 32), (3, 32)])],
)
def test_the_heads(head: str, shapes: list[tuple[int, int]], models: Path, tmp_path: Path):
    from safetensors.torch import load_file

    setting = finetuned.setting(tmp_path, models / "bert")
    build(setting, FinetuningOptions(**STILL, head=head))
    (weights,) = setting.folder.glob("*/model.safetensors")
    stored = {name: tuple(tensor.shape) for name, tensor in load_file(weights).items()}
    assert [shape for name, shape in sorted(stored.items()) if re.fullmatch(r"head\.\d\.weight", name)] == shapes


def test_the_instruction_and_the_prompt_are_the_llms(models: Path, tmp_path: Path):
    from stage_bench.llms.spec import LLMSpec

    spec = LLMSpec(name="tiny", prompt="{instruction} training {text}", plain_prompt="{text}")
    setting = finetuned.setting(tmp_path, models / "bert", instruction="fitness fitness", normalize=False)
    setting = dataclasses.replace(setting, llm=dataclasses.replace(setting.llm, spec=spec))
    built = build(setting, FinetuningOptions(**STILL))
    encoder = encoders.load(setting.llm, "cpu")
    prompts = [f"fitness fitness training {text}" for text in setting.graph.texts]
    np.testing.assert_allclose(built.matrix, encoders.encode(encoder, prompts, [0] * 90), atol=1e-6)


def test_a_decoder_without_its_causal_mask(models: Path, tmp_path: Path):
    from stage_bench.llms.spec import LLMSpec

    setting = finetuned.setting(tmp_path, models / "llama")
    llm = dataclasses.replace(setting.llm, spec=LLMSpec(name="tiny", loader="bidirectional"))
    setting = dataclasses.replace(setting, llm=llm)
    built = build(setting, FinetuningOptions(**STILL))
    np.testing.assert_allclose(built.matrix, zero_shot(setting), atol=1e-6)
    assert (
        accuracy(build(dataclasses.replace(setting, folder=tmp_path / "2"), LoraOptions(**LORA)), setting.train) > 0.4
    )


def test_the_epoch_that_is_best_on_validation_is_kept(models: Path, tmp_path: Path):
    """The accuracies by epoch are in the last checkpoint; the scores that come out are those of the first best one."""
    import json

    setting = finetuned.setting(tmp_path, models / "bert")
    built = build(setting, FinetuningOptions(**{**QUICK, "lr": 2e-2, "epochs": 8}))
    last = max(setting.folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    state = json.loads((last / "trainer_state.json").read_text())
    by_epoch = [entry["eval_accuracy"] for entry in state["log_history"] if "eval_accuracy" in entry]
    assert len(by_epoch) == 8
    assert accuracy(built, setting.val) == pytest.approx(max(by_epoch))
    assert state["best_global_step"] == 9 * (1 + by_epoch.index(max(by_epoch)))


# --- what it may see ---


def test_test_labels_never_matter(models: Path, tmp_path: Path):
    made = []
    for number, labels in enumerate((None, TRUE, np.random.RandomState(1).permutation(TRUE))):
        setting = finetuned.setting(tmp_path, models / "bert")
        if labels is not None:
            seen = np.isin(np.arange(90), np.concatenate([setting.train, setting.val]))
            graph = tiny.text_graph(90, texts=setting.graph.texts, labels=np.where(seen, setting.graph.labels, labels))
            setting = dataclasses.replace(setting, graph=graph)
        built = build(dataclasses.replace(setting, folder=tmp_path / str(number)), FinetuningOptions(**QUICK))
        made.append((built.matrix.tobytes(), built.logits.tobytes()))
    assert made[0] == made[1] == made[2]


def test_validation_labels_select_and_do_not_train(models: Path, tmp_path: Path):
    """In one epoch there is nothing to select, so they have no effect at all."""
    made = []
    for shift in (0, 1):
        setting = finetuned.setting(tmp_path, models / "bert", folder=tmp_path / str(shift))
        labels = setting.graph.labels.copy()
        labels[setting.val] = (labels[setting.val] + shift) % 3
        graph = tiny.text_graph(90, texts=setting.graph.texts, labels=labels)
        built = build(dataclasses.replace(setting, graph=graph), FinetuningOptions(**{**QUICK, "epochs": 1}))
        made.append(built.matrix.tobytes())
    assert made[0] == made[1]


def test_the_environment_changes_nothing(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As in a process that torchrun or accelerate's launcher started, or a batch system with MPI."""
    setting = finetuned.setting(tmp_path, models / "bert")
    plain = build(setting, FinetuningOptions(**{**QUICK, "epochs": 1}))
    told = {"ACCELERATE_MIXED_PRECISION": "bf16", "ACCELERATE_USE_DEEPSPEED": "true", "WORLD_SIZE": "2", "RANK": "1"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    other = build(dataclasses.replace(setting, folder=tmp_path / "other"), FinetuningOptions(**{**QUICK, "epochs": 1}))
    assert other.matrix.tobytes() == plain.matrix.tobytes()
    assert {name: os.environ[name] for name in told} == told


def test_the_seed_decides(models: Path, tmp_path: Path):
    def run(name: str, seed: int) -> bytes:
        setting = finetuned.setting(tmp_path, models / "bert", split_seed=seed, folder=tmp_path / name)
        return build(setting, FinetuningOptions(**{**QUICK, "epochs": 1})).matrix.tobytes()

    torch.manual_seed(5)
    first = run("a", 0)
    torch.manual_seed(6)
    assert run("b", 0) == first
    assert run("c", 1) != first


def test_a_class_without_training_nodes_and_a_text_without_words(models: Path, tmp_path: Path):
    setting = finetuned.setting(tmp_path, models / "bert")
    kept = setting.train[TRUE[setting.train] != 2]
    texts = list(setting.graph.texts)
    texts[kept[0]] = texts[setting.val[0]] = ""
    graph = tiny.text_graph(90, texts=texts, labels=setting.graph.labels)
    built = build(dataclasses.replace(setting, graph=graph, train=kept), FinetuningOptions(**QUICK))
    assert built.logits.shape == (90, 3)
    assert accuracy(built, kept[1:]) > 0.9


# --- the step ---


def losses(setting: Setting, options: FinetuningOptions) -> list[float]:
    """Of each step, as they are told."""
    said: list[float] = []

    def step(done: int, total: int, what: str) -> None:
        if "loss" in what:
            assert (done, total) == (len(said) + 1, total)
            said.append(float(what.rpartition(" ")[2]))

    build(dataclasses.replace(setting, step=step), options)
    return said


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_loss_by_hand(smoothing: float, accumulate: int, models: Path, tmp_path: Path):
    """-(1 - s) log p(y) - s / C sum log p(c), the mean over a step's texts, also where the last has fewer."""
    setting = finetuned.setting(tmp_path, models / "no-dropout")
    options = {**STILL, "batch_size": 4, "accumulate": accumulate, "label_smoothing": smoothing}
    said = losses(setting, FinetuningOptions(**options))
    still = build(dataclasses.replace(setting, folder=tmp_path / "again"), FinetuningOptions(**options))
    logits = still.logits[setting.train].astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    right = log_p[np.arange(len(log_p)), TRUE[setting.train]]
    each = -(1 - smoothing) * right - smoothing / 3 * log_p.sum(axis=1)
    encoder = encoders.load(setting.llm, "cpu")
    lengths = encoder.lengths(encoder.tokenize([setting.graph.texts[node] for node in setting.train], [0] * 54))
    batches = list(Batches(lengths, 4, accumulate, 0))
    steps = [joined(batches[start : start + accumulate]) for start in range(0, len(batches), accumulate)]
    np.testing.assert_allclose(said, [each[step].mean() for step in steps], atol=6e-4)


def test_accumulated_batches_are_one_step(models: Path, tmp_path: Path):
    common = {"lr": 1e-3, "epochs": 2, "label_smoothing": 0.0}
    made = []
    for batch_size, accumulate in ((8, 1), (4, 2), (2, 4)):
        setting = finetuned.setting(tmp_path, models / "no-dropout", folder=tmp_path / str(batch_size))
        made.append(build(setting, FinetuningOptions(**common, batch_size=batch_size, accumulate=accumulate)).logits)
    np.testing.assert_allclose(made[1], made[0], atol=2e-4)
    np.testing.assert_allclose(made[2], made[0], atol=2e-4)


def test_the_learning_rate_rises_then_falls(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """9 steps an epoch, 2 epochs; a warm-up of 0.6 epochs is 6 steps, rounded up."""
    monkeypatch.setattr(trainer, "SAVE_SECONDS", 0.0)
    setting = finetuned.setting(tmp_path, models / "bert")
    rates: dict[int, float] = {}

    def step(done: int, total: int, what: str) -> None:
        for path in setting.folder.glob("checkpoint-*/scheduler.pt"):
            (rate,) = set(torch.load(path, weights_only=True)["_last_lr"])  # of weights with and without decay
            rates[int(path.parent.name.split("-")[1])] = rate

    build(
        dataclasses.replace(setting, step=step), FinetuningOptions(**{**QUICK, "epochs": 2, "lr": 1e-3, "warmup": 0.6})
    )
    expected = {done: 1e-3 * (done / 6 if done < 6 else (18 - done) / 12) for done in range(1, 19)}
    assert rates == pytest.approx(expected, abs=1e-12)


def test_weight_decay_reaches_the_weights(models: Path, tmp_path: Path):
    def size(decay: float) -> float:
        setting = finetuned.setting(tmp_path, models / "bert", folder=tmp_path / str(decay))
        return float(np.abs(build(setting, FinetuningOptions(**QUICK, weight_decay=decay)).matrix).sum())

    assert size(20.0) != size(0.0)


def test_head_dropout_reaches_the_head(models: Path, tmp_path: Path):
    def first(dropout: float) -> float:
        setting = finetuned.setting(tmp_path, models / "no-dropout", folder=tmp_path / str(dropout))
        return losses(setting, FinetuningOptions(**STILL, dropout=dropout))[0]

    assert first(0.9) != first(0.0)


def test_gradient_checkpointing_changes_nothing(models: Path, tmp_path: Path):
    made = []
    for flag in (False, True):
        setting = finetuned.setting(tmp_path, models / "llama", folder=tmp_path / str(flag))
        made.append(build(setting, FinetuningOptions(**{**QUICK, "epochs": 1}, gradient_checkpointing=flag)).logits)
    np.testing.assert_allclose(made[1], made[0], atol=1e-5)


@pytest.mark.skipif(not has_bfloat16(), reason="this processor has no bfloat16 products")
def test_bfloat16_products_while_training_alone(models: Path, tmp_path: Path):
    setting = finetuned.setting(tmp_path, models / "bert")
    built = build(setting, FinetuningOptions(**STILL, precision="bfloat16"))
    np.testing.assert_allclose(built.matrix, zero_shot(setting), atol=1e-6)
    folders = [dataclasses.replace(setting, folder=tmp_path / str(number)) for number in range(2)]
    narrow, wide = (
        build(folder, FinetuningOptions(**QUICK, precision=precision))
        for folder, precision in zip(folders, ("bfloat16", "float32"), strict=True)
    )
    assert accuracy(narrow, setting.train) > 0.9
    assert narrow.matrix.tobytes() != wide.matrix.tobytes()


def test_validation_leaves_the_threads_of_training(models: Path, tmp_path: Path):
    """Else all epochs but the first would have one, and a training that is resumed other sums than one that is not."""
    from stage_bench.finetuning.classifier import Classifier

    before = torch.get_num_threads()
    encoder = encoders.load(finetuned.setting(tmp_path, models / "bert").llm, "cpu", training=True)
    try:
        torch.set_num_threads(3)
        Classifier(encoder, 3, FinetuningOptions()).predict(encoder.tokenize(["neuron", "a genome"], [0, 0]))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


# --- batches ---


def test_batches_hold_every_text_once_and_are_others_in_the_next_epoch():
    lengths = np.random.RandomState(0).randint(5, 200, 1000)
    order = Batches(lengths, 9, 4, seed=3)
    first = list(order)
    assert sorted(joined(first)) == list(range(1000))
    assert [len(batch) for batch in first] == [9] * 111 + [1]
    assert len(order) == len(first)
    assert order.steps == 28
    assert list(order) == first
    order.epoch = 1
    assert {tuple(sorted(batch)) for batch in order}.isdisjoint(tuple(sorted(batch)) for batch in first)
    assert list(Batches(lengths, 9, 4, seed=4)) != first


def test_batches_are_of_similar_length():
    lengths = np.random.RandomState(0).randint(5, 200, 1000)
    padded = sum(len(batch) * lengths[batch].max() for batch in Batches(lengths, 9, 4, seed=0))
    assert padded < 1.1 * lengths.sum()


@pytest.mark.parametrize("count", [1, 35, 36, 37, 100])
def test_a_step_is_the_same_texts_however_it_is_divided(count: int):
    lengths = np.random.RandomState(0).randint(5, 200, count)

    def steps(batch_size: int, accumulate: int) -> list[list[int]]:
        batches = list(Batches(lengths, batch_size, accumulate, seed=0))
        return [joined(batches[start : start + accumulate]) for start in range(0, len(batches), accumulate)]

    assert steps(36, 1) == steps(9, 4) == steps(12, 3)


# --- what is said ---


def test_it_is_quiet(models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder):
    build(finetuned.setting(tmp_path, models / "gpt2"), LoraOptions(**LORA))
    assert capfd.readouterr() == ("", "")
    assert [str(warning.message) for warning in recwarn] == []


def test_a_training_that_diverges(models: Path, tmp_path: Path):
    setting = finetuned.setting(tmp_path, models / "bert")
    with pytest.raises(
        JobError, match=r"^the loss is (nan|inf) at step [2-4] of epoch 1; try a lower lr \(here 1e\+30\)$"
    ):
        build(setting, FinetuningOptions(**{**QUICK, "lr": 1e30, "warmup": 0.0}))


def test_a_tokenizer_with_nothing_to_pad_with(models: Path, tmp_path: Path):
    tokenizer = tiny.word_tokenizer(finetuned.WORDS, unk_token="[UNK]")
    path = tiny.save_bert(tmp_path / "bare", finetuned.WORDS)
    for file in path.glob("*token*"):
        file.unlink()
    tokenizer.save_pretrained(path)
    with pytest.raises(JobError, match="neither a padding nor an end token"):
        build(finetuned.setting(tmp_path, path), FinetuningOptions(**QUICK))


@pytest.mark.parametrize(
    ("options", "changes", "message"),
    [
        (FinetuningOptions(), {"dtype": "bfloat16"}, "bfloat16 weights lose the small steps.*dtype: .* with float32$"),
        (LoraOptions(), {"dtype": "float16"}, "float16 weights lose.*with float32 or bfloat16$"),
        (FinetuningOptions(), {"val": np.empty(0, dtype=np.int64)}, "no validation nodes, which 'finetuned-lm' needs"),
        (LoraOptions(), {"train": np.empty(0, dtype=np.int64)}, "no training nodes, which 'lora' needs"),
        (FinetuningOptions(), {"answers": "any"}, "answers, which it reads only with text: explanation"),
        (FinetuningOptions(), {"device": "cuda"}, "torch sees no CUDA device"),
    ],
)
def test_what_cannot_be(options, changes, message: str, models: Path, tmp_path: Path):
    if "cuda" in str(changes) and torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(JobError, match=message):
        build(finetuned.setting(tmp_path, models / "bert", **changes), options)


def test_a_model_that_is_not_transformers(tmp_path: Path, models: Path):
    from stage_bench.llms.spec import LLMSpec

    setting = finetuned.setting(tmp_path, models / "bert")
    spec = LLMSpec(name="static", loader="sentence-transformers")
    with pytest.raises(JobError, match="llm 'tiny' cannot be fine-tuned"):
        build(dataclasses.replace(setting, llm=dataclasses.replace(setting.llm, spec=spec)), FinetuningOptions())


def test_what_a_chat_model_explained(models: Path, tmp_path: Path):
    """The explanations are the texts, and their cost stands beside the training's."""
    import json

    from stage_bench.answers import source
    from stage_bench.answers.choice import AnswersChoice

    (tmp_path / "answers").mkdir()
    for node, word in enumerate(np.array(["neuron", "genome", "reward"])[TRUE]):
        said = {"choices": [{"text": f"{['nn', 'ga', 'rl'][TRUE[node]]}\n\nthe {word} of it"}]}
        (tmp_path / "answers" / f"{node}.json").write_text(json.dumps(said))
    answers = AnswersChoice(label="mine", kind="upstream", folder=tmp_path / "answers")
    setting = finetuned.setting(tmp_path, models / "bert", answers=answers)
    built = build(setting, FinetuningOptions(**STILL, text="explanation"))
    known = source.load(setting)
    expected = zero_shot(dataclasses.replace(setting, graph=tiny.text_graph(90, texts=known.explanations)))
    np.testing.assert_allclose(built.matrix, expected, atol=1e-6)
    assert known.spent.items() <= built.spent.items()


def test_half_a_character(models: Path, tmp_path: Path):
    setting = finetuned.setting(tmp_path, models / "bert")
    texts = list(setting.graph.texts)
    texts[7] = "half \ud800"
    graph = tiny.text_graph(90, texts=texts, labels=setting.graph.labels)
    with pytest.raises(JobError, match="node 7 holds a lone surrogate"):
        build(dataclasses.replace(setting, graph=graph), FinetuningOptions())
