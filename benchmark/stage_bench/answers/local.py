"""A chat model through transformers, on this machine: its own chat template, left padding, batches by length."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stage_bench import files
from stage_bench.answers.choice import AnswersChoice, local_weights
from stage_bench.errors import JobError, StageBenchError
from stage_bench.llms import weights
from stage_bench.llms.encoding import batches

# Padded prompts and answers of one batch. Which prompts share one depends on all prompts and not on those still to be
# answered, so that an interrupted job ends with the same answers.
TOKENS_PER_BATCH = {"cpu": 8_192, "cuda": 131_072}

Made = tuple[int, dict[str, Any], dict[str, Any]]
"""A prompt's number, the response in OpenAI's form, and what is noted beside it."""


def identity(choice: AnswersChoice) -> Any:
    """Of the model: its folder's content, or its hub id and revision.

    Raises:
        StageBenchError: there are no weights in the folder.
    """
    if choice.folder is None:
        return [choice.model, choice.revision]
    template = choice.folder / "chat_template.jinja"
    return [
        weights.fingerprint(choice.folder, with_code=choice.trust_remote_code),
        files.sha256(template) if template.is_file() else "",
    ]


class LocalChat:
    """Answers prompts; nothing but its end tokens is taken from the model's generation defaults."""

    def __init__(self, choice: AnswersChoice, device: str) -> None:
        """Raises JobError: the weights are absent or cannot be loaded."""
        if device == "cuda" and not torch.cuda.is_available():
            raise JobError("device: cuda, but torch sees no CUDA device")
        self.choice, self.device = choice, device
        folder = local_weights(choice)
        try:
            self._load(folder)
        except StageBenchError:
            raise
        except Exception as error:
            what = " ".join(str(error).split()) or type(error).__name__
            raise JobError(f"answers of '{choice.label}': {folder} cannot be loaded: {what}") from error

    def _load(self, folder: Path) -> None:
        import transformers

        transformers.utils.logging.disable_progress_bar()
        transformers.utils.logging.set_verbosity_error()
        known = {"local_files_only": True, "trust_remote_code": self.choice.trust_remote_code}
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), **known)
        self.has_template = bool(getattr(self.tokenizer, "chat_template", None))
        dtype = getattr(torch, self.choice.dtype)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            str(folder), use_safetensors=True, dtype=dtype, **known
        )
        self.model = model.to(self.device).eval()
        ends = self.model.generation_config.eos_token_id
        ends = self.tokenizer.eos_token_id if ends is None else ends
        self.ends = [] if ends is None else list(ends) if isinstance(ends, (list, tuple)) else [ends]
        # What stands under the padding is masked, so any token will do.
        padding = self.tokenizer.pad_token_id
        self.padding = padding if padding is not None else self.ends[0] if self.ends else 0
        warm = self.choice.temperature > 0
        self.model.generation_config = transformers.GenerationConfig(
            max_new_tokens=self.choice.max_tokens,
            do_sample=warm,
            eos_token_id=self.ends or None,
            pad_token_id=self.padding,
            **({"temperature": float(self.choice.temperature), "top_k": 0, "top_p": 1.0} if warm else {}),
        )
        self.longest: int | None = getattr(self.model.config, "max_position_embeddings", None)

    def answers(self, prompts: Sequence[str], todo: Sequence[int]) -> Iterator[Made]:
        """One response for each of the prompts numbered in `todo`; batches without any of them are left out."""
        tokens = [self._tokens(prompt) for prompt in prompts]
        wanted = set(todo)
        most = self.choice.max_tokens
        fits = np.array([self.longest is None or len(ids) + most <= self.longest for ids in tokens], dtype=bool)
        for number in np.flatnonzero(~fits).tolist():
            if number in wanted:
                size = f"a prompt of {len(tokens[number])} tokens and max_tokens: {most}"
                yield number, {}, {"refused": f"{size} are more than the model's {self.longest}"}
        rows = np.flatnonzero(fits)
        lengths = np.array([len(tokens[row]) + most for row in rows], dtype=np.int64)
        for batch in batches(lengths, TOKENS_PER_BATCH[self.device]):
            numbers = rows[batch].tolist()
            if not wanted.isdisjoint(numbers):
                yield from (made for made in self._batch(numbers, tokens) if made[0] in wanted)

    def _tokens(self, prompt: str) -> list[int]:
        if self.has_template:
            message = [{"role": "user", "content": prompt}]
            text = self.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
            ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        else:
            ids = self.tokenizer(prompt)["input_ids"]
        return ids or [self.padding]

    @torch.inference_mode()
    def _batch(self, numbers: Sequence[int], tokens: Sequence[list[int]]) -> list[Made]:
        begin = time.perf_counter()
        width = max(len(tokens[number]) for number in numbers)
        ids = torch.full((len(numbers), width), self.padding)
        mask = torch.zeros_like(ids)
        for row, number in enumerate(numbers):
            ids[row, width - len(tokens[number]) :] = torch.tensor(tokens[number])
            mask[row, width - len(tokens[number]) :] = 1
        devices = [torch.cuda.current_device()] if self.device == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(min(numbers))  # counts only where the temperature is above 0
            written = self.model.generate(input_ids=ids.to(self.device), attention_mask=mask.to(self.device))
        seconds = time.perf_counter() - begin
        made = []
        for number, row in zip(numbers, written[:, width:].tolist(), strict=True):
            end = next((place for place, token in enumerate(row) if token in self.ends), None)
            kept = row if end is None else row[:end]
            content = self.tokenizer.decode(kept, skip_special_tokens=True)
            counts = {"prompt_tokens": len(tokens[number]), "completion_tokens": len(kept) + (end is not None)}
            response = {
                "model": self.choice.model,
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": content},
                        "finish_reason": "length" if end is None else "stop",
                    }
                ],
                "usage": {**counts, "total_tokens": sum(counts.values())},
            }
            ours = {"seconds": round(seconds / len(numbers), 6), "chat_template": self.has_template}
            made.append((number, response, ours))
        return made
