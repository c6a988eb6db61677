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
        builder="stage_bench.features.gpt_predictions:build",
        options="stage_bench.features.options:PredictionOptions",
        reads="stage_bench.features.gpt_predictions:reads",
        needs_text=False,
    ),
    FeatureSpec(
        name="ogb-features",
        summary="the features OGB ships with a dataset: its ogb_features.npy",
        builder="stage_bench.features.matrix:build_ogb",
        options="stage_bench.features.options:StoredOptions",
        reads="stage_bench.features.matrix:reads_ogb",
        needs_text=False,
    ),
    FeatureSpec(
        name="matrix",
        summary="any .npy file in the dataset's folder with a row a node",
        builder="stage_bench.features.matrix:build",
        options="stage_bench.features.options:MatrixOptions",
        reads="stage_bench.features.matrix:reads",
        needs_text=False,
    ),
    FeatureSpec(name="finetuned-lm", summary="a language model fine-tuned on the training labels", needs=_LATER),
    FeatureSpec(name="lora", summary="STAGE's parameter-efficient fine-tuning", needs=_LATER),
    FeatureSpec(name="tape", summary="TAPE: title and abstract, explanation, prediction", needs=_LATER),
    FeatureSpec(name="simteg", summary="SimTeG: a LoRA-tuned encoder", needs=_LATER),
    FeatureSpec(name="glem", summary="GLEM: alternating language model and GNN", needs=_LATER),
)
