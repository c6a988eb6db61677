"""LLM2Vec: a Llama without its causal mask, two LoRA adapters merged into it.

BehnamGhader et al., LLM2Vec: Large Language Models Are Secretly Powerful Text Encoders, arXiv 2404.05961. What goes in
and what is averaged follow `encode` in the authors' llm2vec.py; the code of their hub repositories does not run.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stage_bench.errors import JobError
from stage_bench.llms import weights
from stage_bench.llms.bidirectional import Bidirectional
from stage_bench.llms.spec import LLMChoice, LLMSpec
from stage_bench.llms.token_model import Tokens

_WEIGHTS = "adapter_model.safetensors"
_DEEPEST = 8  # adapters on adapters; more is a folder that contains itself


class LLM2Vec(Bidirectional):
    """The mean over the text's tokens and the end token; the instruction and the chat's header are left out."""

    def __init__(self, folder: Path, choice: LLMChoice, device: str) -> None:
        self.folders = chain(choice.spec, folder)
        super().__init__(folder, choice, device)

    def _tokenizer(self, folder: Path) -> Any:
        having = [place for place in self.folders if (place / "tokenizer_config.json").is_file()]
        return super()._tokenizer(having[0] if having else folder)

    def _end(self, folder: Path) -> str:
        """What follows the text in the prompt, which has to survive where a text is cut."""
        end = self.choice.spec.prompt.partition("{text}")[2]
        if end and end not in self.tokenizer.get_vocab():
            raise JobError(f"llm '{self.choice.spec.name}': its prompt ends with {end}, no token of its tokenizer")
        return end

    def _model(self, folder: Path) -> Any:
        *adapters, base = self.folders
        model = super()._model(base)
        # Merged in the model's dtype. The authors' example merges the first and leaves the second beside it, which
        # differs by roundings only.
        for adapter in reversed(adapters):
            model = merge(model, adapter, self.choice.spec.name)
        return model

    def tokenize(self, prompts: Sequence[str], text_starts: Sequence[int]) -> list[Tokens]:
        bodies = [self._body(prompt, start) for prompt, start in zip(prompts, text_starts, strict=True)]
        return super().tokenize(bodies, text_starts)

    def _body(self, prompt: str, start: int) -> str:
        """The prompt without its end, which is put after it again, and without white space at the text's end.

        The authors shorten a long text word by word until it has 400 tokens; here it is cut at the token where the
        whole prompt with its end has `max_length`.
        """
        body = prompt.removesuffix(self.end)
        return body[:start] + body[start:].rstrip()


def chain(spec: LLMSpec, folder: Path) -> list[Path]:
    """The folder of an adapter, of what it is put on, and so on down to a model that is whole.

    That is the adapter's subfolder `base`, else for the first adapter `spec.base`, else the repository that
    adapter_config.json names. The spec comes first because peft writes down the model at the bottom: where an adapter
    was trained on a model with another one merged into it, its file does not name that other one.

    Raises:
        JobError: one of them is nowhere and cannot be fetched.
    """
    folders = [folder]
    while (folders[-1] / "adapter_config.json").is_file():
        if len(folders) > _DEEPEST:
            raise JobError(f"llm '{spec.name}': {folder} has adapters on adapters without end")
        folders.append(_base(spec, folders[-1], spec.base if len(folders) == 1 else ("", "")))
    return folders


def _base(spec: LLMSpec, adapter: Path, registered: tuple[str, str]) -> Path:
    if (adapter / "base").is_dir():
        return adapter / "base"
    if registered[0]:
        return weights.repository(*registered, spec)
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    name = config.get("base_model_name_or_path")
    if not name:
        raise JobError(f"llm '{spec.name}': {adapter} is an adapter of an unnamed model; put that into {adapter}/base")
    return weights.repository(name, config.get("revision") or "", spec)


def merge(model: Any, adapter: Path, name: str) -> Any:
    """The model with a LoRA adapter's products added to its weights.

    Raises:
        JobError: peft is not installed, the adapter is not safetensors, or it is not of this model.
    """
    try:
        from peft import PeftModel, get_peft_model_state_dict
    except ImportError:
        raise JobError(f"llm '{name}' is an adapter and needs peft: pip install 'stage-bench[peft]'") from None
    if not (adapter / _WEIGHTS).is_file():  # peft would read a pickle instead
        raise JobError(f"llm '{name}': {adapter} holds no {_WEIGHTS} (pickled weights are refused)")
    from safetensors import safe_open

    with warnings.catch_warnings(action="ignore"):  # of tensors that do not fit: said below, as an error
        adapted = PeftModel.from_pretrained(model, str(adapter))
    with safe_open(str(adapter / _WEIGHTS), framework="pt") as file:
        stored = set(file.keys())
    # peft passes over a tensor that fits nowhere: the model would be used without its adapter. Asked about embedding
    # layers it would look for the base model on the hub.
    strange = stored ^ set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    if strange:
        raise JobError(
            f"llm '{name}': the adapter {adapter} is not of this model: {len(strange)} tensors have no counterpart, "
            f"such as {min(strange)}"
        )
    return adapted.merge_and_unload()
