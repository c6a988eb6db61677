"""The feature sources that stage-bench knows by name, besides zero-shot LLM embeddings."""

from stage_bench.features.spec import FeatureSpec

_LATER = "not in this version of stage-bench"

SPECS = (
    FeatureSpec(
        name="shallow",
        summary="TF-IDF of the node's text, reduced by truncated SVD: no language model",
        builder="stage_bench.features.shallow:build",
        options="stage_bench.features.options:ShallowOptions",
    ),
    FeatureSpec(
        name="gpt-predictions",
        summary="TAPE's P features: the ranked classes a chat model answered",
        needs_text=False,
        needs=_LATER,
    ),
    FeatureSpec(name="ogb-features", summary="the features OGB ships with a dataset", needs_text=False, needs=_LATER),
    FeatureSpec(name="finetuned-lm", summary="a language model fine-tuned on the training labels", needs=_LATER),
    FeatureSpec(name="lora", summary="STAGE's parameter-efficient fine-tuning", needs=_LATER),
    FeatureSpec(name="tape", summary="TAPE: title and abstract, explanation, prediction", needs=_LATER),
    FeatureSpec(name="simteg", summary="SimTeG: a LoRA-tuned encoder", needs=_LATER),
    FeatureSpec(name="glem", summary="GLEM: alternating language model and GNN", needs=_LATER),
)
