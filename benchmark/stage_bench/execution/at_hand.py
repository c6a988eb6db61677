"""What is not at hand to make features: weights, a server, a chat model. Nothing is fetched to find out."""

from __future__ import annotations

import os
from collections.abc import Sequence

from stage_bench.answers.choice import AnswersChoice, local_weights
from stage_bench.errors import JobError
from stage_bench.features.spec import FeatureChoice
from stage_bench.llms import weights
from stage_bench.llms.cache import EmbeddingCache
from stage_bench.llms.spec import LLMChoice
from stage_bench.suite.planning import Lack


def judge(cache: EmbeddingCache) -> Lack:
    """For `planning.make`: what a choice lacks to make the features of some ids, which nothing lacks once made."""

    def lack(choice: LLMChoice | FeatureChoice, ids: Sequence[str]) -> str:
        if all(cache.manifest(id_) is not None for id_ in ids):
            return ""
        if isinstance(choice, LLMChoice):
            return weights.lack(choice)
        if choice.llm is not None and (absent := weights.lack(choice.llm)):
            return f"llm '{choice.llm.label}': {absent}"
        return _answers(choice.answers) if choice.answers is not None else ""

    return lack


def _answers(choice: AnswersChoice) -> str:
    """What is missing to ask for answers."""
    if choice.kind == "endpoint" and not (choice.url or os.environ.get("OPENAI_BASE_URL", "").strip()):
        return f"answers of '{choice.label}': no server is named: set $OPENAI_BASE_URL, or write endpoint: URL"
    if choice.kind == "local":
        try:
            local_weights(choice, fetch=False)
        except JobError as error:
            return str(error).replace(f"llm '{choice.model}': ", "")
    return ""
