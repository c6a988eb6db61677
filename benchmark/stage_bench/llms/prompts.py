"""The exact string that a model receives for a node's text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from stage_bench.errors import StageBenchError

if TYPE_CHECKING:
    from stage_bench.llms.spec import LLMSpec

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


def render(spec: LLMSpec, instruction: str | None, text: str) -> tuple[str, int]:
    """The string for a text, and the character at which the text begins in it.

    Without an instruction, a model that takes one gets its `plain_prompt` (never "Instruct: None"). Only the template's
    own slots are filled: braces in a text or in an instruction are those characters.
    """
    template = spec.plain_prompt if instruction is None and spec.takes_instruction else spec.prompt
    values = {"instruction": instruction or "", "text": text}

    def fill(part: str) -> str:
        return _SLOT.sub(lambda slot: values[slot.group(1)], part)

    return fill(template), len(fill(template.partition("{text}")[0]))
