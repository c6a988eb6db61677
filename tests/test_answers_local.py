"""A chat model on this machine: tiny ones with random weights, with and without a chat template or a padding token."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stage_bench import fingerprint
from stage_bench.answers import choice as choices
from stage_bench.answers import local, source, store
from stage_bench.answers.choice import AnswersChoice
from stage_bench.answers.local import LocalChat
from stage_bench.datasets.textgraph import TextGraph
from stage_bench.errors import JobError, StageBenchError
from stage_bench.features.spec import Setting
from tiny import byte_tokenizer, text_graph, word_tokenizer

NODES = 10
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|> {{ m.content }} {% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def save_gpt2(path: Path, corpus: list[str], **config: Any) -> Path:
    """No padding token, no chat template; positions from a table."""
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = byte_tokenizer(corpus)
    torch.manual_seed(0)
    end = tokenizer.eos_token_id
    shape = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512, "bos_token_id": end, "eos_token_id": end}
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **{**shape, **config})).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def save_llama(path: Path, words: list[str]) -> Path:
    """With a chat template and a padding token."""
    from transformers import LlamaConfig, LlamaForCausalLM

    special = {"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "<pad>"}
    tokenizer = word_tokenizer(["<|user|>", "<|assistant|>", *words], **special)
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    model = LlamaForCausalLM(config)
    # Defaults that a repository may ship, and that would change what is answered.
    model.generation_config.do_sample = True
    model.generation_config.temperature = 5.0
    model.generation_config.repetition_penalty = 3.0
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def graph() -> TextGraph:
    return text_graph(NODES)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, graph: TextGraph) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("models")
    words = sorted({word for text in graph.texts for word in text.split()} | {"Class:", "nn", "ga", "rl"})
    return {"gpt2": save_gpt2(place / "gpt2", list(graph.texts)), "llama": save_llama(place / "llama", words)}


def chat(folder: Path, **changes: Any) -> AnswersChoice:
    given = {"label": "c", "kind": "local", "model": "c", "folder": folder, "max_tokens": 8, "prompt": "{text}"}
    return AnswersChoice(**{**given, **changes})


def by_hand(folder: Path, prompt: str, steps: int) -> list[int]:
    """Greedy, one prompt, one token after another, no cache: the ids of the answer, its end token left out."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    if tokenizer.chat_template:
        prompt = f"<|user|> {prompt} <|assistant|>"
    ids = tokenizer(prompt)["input_ids"]
    start = len(ids)
    for _ in range(steps):
        with torch.no_grad():
            ids = [*ids, int(model(torch.tensor([ids])).logits[0, -1].argmax())]
        if ids[-1] == tokenizer.eos_token_id:
            return ids[start:-1]
    return ids[start:]


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_answers_are_greedy_and_do_not_depend_on_the_batch(folders, graph, name, monkeypatch):
    model = LocalChat(chat(folders[name]), "cpu")
    prompts = list(graph.texts)
    together = {number: response for number, response, _ in model.answers(prompts, range(NODES))}
    assert sorted(together) == list(range(NODES))
    for number, prompt in enumerate(prompts):
        ids = by_hand(folders[name], prompt, 8)
        first = together[number]["choices"][0]
        assert first["message"]["content"] == model.tokenizer.decode(ids, skip_special_tokens=True)
        assert first["finish_reason"] == ("length" if len(ids) == 8 else "stop")
        assert together[number]["usage"]["completion_tokens"] == min(8, len(ids) + 1)
    monkeypatch.setattr(local, "TOKENS_PER_BATCH", {"cpu": 1})
    alone = {number: response for number, response, _ in model.answers(prompts, range(NODES))}
    assert alone == together


def test_the_chat_template_is_used_where_there_is_one(folders):
    with_, without = (LocalChat(chat(folders[name]), "cpu") for name in ("llama", "gpt2"))
    assert with_.tokenizer.decode(with_._tokens("number 3")) == "<|user|> number 3 <|assistant|>"
    assert without._tokens("number 3") == without.tokenizer("number 3")["input_ids"]
    assert without.tokenizer.pad_token is None
    assert without.padding == without.tokenizer.eos_token_id
    for model, has in ((with_, True), (without, False)):
        (_, _, ours) = next(iter(model.answers(["number 3"], [0])))
        assert ours["chat_template"] is has


def test_a_resumed_job_ends_with_the_same_answers(folders, graph):
    model = LocalChat(chat(folders["gpt2"], temperature=1.0), "cpu")
    prompts = list(graph.texts)
    whole = {number: response for number, response, _ in model.answers(prompts, range(NODES))}
    rest = {number: response for number, response, _ in model.answers(prompts, [2, 7])}
    assert rest == {number: whole[number] for number in (2, 7)}


def test_temperature_reaches_the_model(folders, graph):
    prompts = list(graph.texts)
    said = {}
    for temperature in (0.0, 0.7, 2.0):
        before = torch.random.get_rng_state()
        model = LocalChat(chat(folders["gpt2"], temperature=temperature), "cpu")
        said[temperature] = [r["choices"][0]["message"]["content"] for _, r, _ in model.answers(prompts, range(NODES))]
        assert torch.equal(before, torch.random.get_rng_state()), "the seeded stream belongs to what is measured"
    assert said[0.0] != said[2.0] != said[0.7] != said[0.0]


def setting(place: Path, graph: TextGraph, chosen: AnswersChoice) -> Setting:
    nothing = np.empty(0, dtype=np.int64)
    return Setting(
        graph=graph,
        train=nothing,
        val=nothing,
        split_seed=0,
        folder=place / "work",
        results=place / "results",
        device="cpu",
        answers=chosen,
    )


def test_asked_kept_and_counted(folders, graph, tmp_path, monkeypatch):
    """A random model names no class; each of its answers is kept, and nothing is asked again."""
    chosen = chat(folders["gpt2"], prompt=None)
    with pytest.raises(JobError, match=r"answers of 'c': 10 of 10 name no class .*it said: '"):
        source.load(setting(tmp_path, graph, chosen))
    identity = choices.identity(graph, chosen)
    folder = tmp_path / "results" / "answers" / fingerprint.of_json(identity["asked"])
    known = [store.read(folder, node) for node in range(NODES)]
    assert all(answer is not None and answer.content for answer in known)
    spent = store.spent(answer for answer in known if answer is not None)
    assert set(spent) == {"answer_seconds", "answer_tokens"}
    assert spent["answer_tokens"] > 8 * NODES
    assert str(folders["gpt2"]) not in json.dumps(identity)
    monkeypatch.setattr(local, "LocalChat", None)
    with pytest.raises(JobError, match="10 of 10 name no class"):
        source.load(setting(tmp_path, graph, chosen))


def test_a_prompt_that_does_not_fit_is_refused_and_counted(folders, graph, tmp_path):
    long = dataclasses.replace(graph, texts=[*graph.texts[:-1], "neuron " * 600])
    model = LocalChat(chat(folders["gpt2"]), "cpu")
    made = {number: (response, ours) for number, response, ours in model.answers(long.texts, range(NODES))}
    response, ours = made[NODES - 1]
    assert response == {}
    assert ours["refused"].endswith("tokens and max_tokens: 8 are more than the model's 512")
    assert all("choices" in made[number][0] for number in range(NODES - 1))


def test_weights_that_are_not_there(tmp_path, folders, graph):
    (tmp_path / "empty").mkdir()
    with pytest.raises(JobError, match=r"answers of 'c': llm 'c': .*empty holds no config.json"):
        LocalChat(chat(tmp_path / "empty"), "cpu")
    with pytest.raises(StageBenchError, match=r"empty holds no \.safetensors weights"):
        choices.identity(graph, chat(tmp_path / "empty"))
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in folders["gpt2"].iterdir():
        (broken / path.name).write_bytes(b"x" if path.suffix == ".safetensors" else path.read_bytes())
    with pytest.raises(JobError, match=r"answers of 'c': .*broken cannot be loaded: "):
        LocalChat(chat(broken), "cpu")


def test_pickled_weights_are_refused(tmp_path, folders):
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    for path in folders["gpt2"].iterdir():
        if path.suffix != ".safetensors":
            (pickled / path.name).write_bytes(path.read_bytes())
    torch.save({}, pickled / "pytorch_model.bin")
    with pytest.raises(JobError, match=r"holds no \.safetensors weights"):
        LocalChat(chat(pickled), "cpu")


def test_a_model_that_is_not_on_this_machine(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    chosen = AnswersChoice(label="c", kind="local", model="nobody/nothing", revision="abc")
    with pytest.raises(JobError) as caught:
        LocalChat(chosen, "cpu")
    message = str(caught.value)
    assert "hf download nobody/nothing --revision abc, or name a folder: answers: {local: FOLDER}" in message
    assert choices.identity(text_graph(4), chosen)["asked"]["model"] == ["nobody/nothing", "abc"]
