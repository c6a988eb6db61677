"""The feature sources `finetuned-lm` and `lora`: an encoder trained on a split's labels, its embeddings and scores."""

from __future__ import annotations

import dataclasses
import importlib.util
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from stage_bench.errors import JobError
from stage_bench.features.spec import Built, Setting
from stage_bench.finetuning.options import FinetuningOptions, LoraOptions
from stage_bench.llms import encoding
from stage_bench.llms.prompts import instruction_text, render
from stage_bench.llms.spec import LLMChoice
from stage_bench.runs.provenance import cores, has_bfloat16

if TYPE_CHECKING:
    from stage_bench.finetuning.classifier import Classifier
    from stage_bench.llms.token_model import TokenModel, Tokens


def build(setting: Setting, options: FinetuningOptions) -> Built:
    """Train on the labels of `setting.train`, keep the epoch that is best on `setting.val`, embed every node.

    The matrix is what zero-shot embedding gives, with other weights; the logits are the head's.

    Raises:
        JobError: a package or the weights are absent, the model cannot be trained so, or the loss is not finite.
    """
    choice = setting.llm
    assert choice is not None
    _check(setting, choice, options)
    texts, spent = _texts(setting, options)
    encoder = _encoder(choice, choice.device or setting.device, options)
    begin = time.perf_counter()  # as with embeddings, loading weights is on no clock
    items = _tokenize(encoder, choice, setting, texts)
    classifier = _classifier(encoder, setting, options)
    prepared = time.perf_counter() - begin
    trained = _train(classifier, items, setting, options)
    begin = time.perf_counter()
    _finish(encoder, options)
    vectors, logits = classifier.predict(items, lambda done: setting.step(done, len(items), "texts"))
    spent |= {"finetune_seconds": prepared + trained, "seconds": time.perf_counter() - begin}
    return Built(matrix=vectors, logits=logits, spent=spent)


def _check(setting: Setting, choice: LLMChoice, options: FinetuningOptions) -> None:
    """Whatever can be known before the weights are loaded."""
    adapted = isinstance(options, LoraOptions)
    name = "lora" if adapted else "finetuned-lm"
    for package in ("accelerate", "peft") if adapted else ("accelerate",):
        if importlib.util.find_spec(package) is None:
            raise JobError(f"'{name}' needs {package}: pip install 'stage-bench[peft]'")
    if options.unfit(choice):
        raise JobError(options.unfit(choice))
    if setting.answers is not None and not options.wants_answers:
        raise JobError(f"'{name}' is given answers, which it reads only with text: explanation")
    device = choice.device or setting.device
    if options.precision == "bfloat16" and device == "cpu" and not has_bfloat16():
        raise JobError("precision: bfloat16, but this processor has no bfloat16 products; use float32")
    for part, nodes in (("training", setting.train), ("validation", setting.val)):
        if not len(nodes):
            raise JobError(f"dataset '{setting.graph.name}': the split has no {part} nodes, which '{name}' needs")


def _texts(setting: Setting, options: FinetuningOptions) -> tuple[Sequence[str], dict[str, float]]:
    """What the model reads, one a node, and what that cost."""
    if not options.wants_answers:
        assert setting.graph.texts is not None
        return setting.graph.texts, {}
    from stage_bench.answers.source import load

    answers = load(setting)
    return answers.explanations, dict(answers.spent)


def _encoder(choice: LLMChoice, device: str, options: FinetuningOptions) -> TokenModel:
    """The model as it embeds zero-shot, with layers that can be trained."""
    from stage_bench.llms import encoders
    from stage_bench.llms.token_model import TokenModel

    encoding.check_device(device)
    encoder = encoders.load(choice, device, training=True)
    if not isinstance(encoder, TokenModel):
        raise JobError(f"llm '{choice.label}' cannot be fine-tuned: {type(encoder).__name__} embeds only")
    if hasattr(encoder.model, "config"):
        encoder.model.config.use_cache = False  # a decoder's memory of a text, which nothing reads
    if options.gradient_checkpointing:
        _checkpoint_gradients(encoder, choice)
    return encoder


def _checkpoint_gradients(encoder: TokenModel, choice: LLMChoice) -> None:
    for name in ("activation_checkpointing_enable", "gradient_checkpointing_enable"):  # as of transformers 5.23, before
        enable = getattr(encoder.model, name, None)
        if enable is not None and getattr(encoder.model, "supports_gradient_checkpointing", False):
            enable({"use_reentrant": False})
            return
    raise JobError(f"llm '{choice.label}' has no gradient checkpointing; leave gradient_checkpointing out")


def _tokenize(encoder: TokenModel, choice: LLMChoice, setting: Setting, texts: Sequence[str]) -> list[Tokens]:
    encoding.check_characters(dataclasses.replace(setting.graph, texts=texts))
    instruction = instruction_text(choice.instruction, setting.graph.name, setting.graph.instructions)
    pairs = [render(choice.spec, instruction, text) for text in texts]
    return encoder.tokenize([prompt for prompt, _ in pairs], [start for _, start in pairs])


def _classifier(encoder: TokenModel, setting: Setting, options: FinetuningOptions) -> Classifier:
    """With the head, and the adapters where there are to be some; both are drawn from the split's seed."""
    import torch

    from stage_bench.finetuning import adapters
    from stage_bench.finetuning.classifier import Classifier

    torch.manual_seed(setting.split_seed)
    if isinstance(options, LoraOptions):
        adapters.attach(encoder.model, options, encoder.choice.spec.name)
    return Classifier(encoder, setting.graph.num_classes, options)


def _train(classifier: Classifier, items: Sequence[Tokens], setting: Setting, options: FinetuningOptions) -> float:
    from stage_bench.finetuning.trainer import Labelled, train

    def labelled(nodes: np.ndarray) -> Labelled:
        return Labelled([items[node] for node in nodes], setting.graph.labels[nodes])

    setting.folder.mkdir(parents=True, exist_ok=True)
    with _all_threads(classifier.encoder.device):
        return train(
            classifier,
            labelled(setting.train),
            labelled(setting.val),
            options,
            setting.split_seed,
            setting.folder,
            setting.step,
            setting.say,
        )


@contextmanager
def _all_threads(device: str) -> Iterator[None]:
    """Unlike an embedding, a step cannot be shared out: the threads work together on it."""
    import torch

    before = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(cores())
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _finish(encoder: TokenModel, options: FinetuningOptions) -> None:
    """What makes embedding faster."""
    from stage_bench.finetuning import adapters
    from stage_bench.llms import onednn

    if isinstance(options, LoraOptions) and options.merge:
        adapters.merge(encoder.model)
    if encoder.device == "cpu":
        onednn.speed_up(encoder.model)
