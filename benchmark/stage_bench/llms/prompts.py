"""The exact string that a model receives for a node's text."""

from __future__ import annotations

import re

from stage_bench.errors import StageBenchError

VARIANTS = ("default", "graph-aware", "dataset")
_SLOT = re.compile(r"\{(instruction|text)\}")


def instruction_text(instruction: str, dataset: str, variants: dict[str, str]) -> str | None:
    """The sentence behind a variant; None for `none`, the text itself for anything else.

    Raises:
        StageBenchError: the dataset has no sentence for that variant.
    """
    if instruction == "none":
        return None
    if instruction not in VARIANTS:
        return instruction
    if instruction not in variants:
        raise StageBenchError(
            f"dataset '{dataset}' has no instruction '{instruction}'; write the instruction itself, or put it under "
            "`instructions:` in its dataset.yaml"
        )
    return variants[instruction]


def render(prompt: str, instruction: str | None, text: str) -> tuple[str, int]:
    """The prompt, and the character at which the text begins in it.

    Without an instruction, a template that has a place for one sends the text alone (never "Instruct: None").
    """
    if instruction is None and "{instruction}" in prompt:
        return text, 0
    values = {"instruction": instruction or "", "text": text}
    start = len(_SLOT.sub(lambda match: values[match.group(1)], prompt.partition("{text}")[0]))
    return _SLOT.sub(lambda match: values[match.group(1)], prompt), start
