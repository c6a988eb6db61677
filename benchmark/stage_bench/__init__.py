"""stage-bench: a benchmark suite for node classification on text-attributed graphs."""

from stage_bench.registry import register_backbone, register_dataset, register_features, register_llm

__version__ = "0.1.0"
__all__ = ["__version__", "register_backbone", "register_dataset", "register_features", "register_llm"]
