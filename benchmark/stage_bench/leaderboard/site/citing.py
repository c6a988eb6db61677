"""How to cite a site: the paper whose benchmark this is, and the program that made the numbers."""

from __future__ import annotations

from collections.abc import Mapping

PAPER = """\
@inproceedings{zolnai-lucas-etal-2024-stage,
  title         = {{STAGE}: Simplified Text-Attributed Graph Embeddings using Pre-trained {LLM}s},
  author        = {Zolnai-Lucas, Aaron and Boylan, Jack and Hokamp, Chris and Ghaffari, Parsa},
  booktitle     = {Proceedings of the 1st Workshop on Knowledge Graphs and Large Language Models (KaLLM 2024)},
  pages         = {92--104},
  address       = {Bangkok, Thailand},
  publisher     = {Association for Computational Linguistics},
  year          = {2024},
  archiveprefix = {arXiv},
  eprint        = {2407.12860},
}"""


def bibtex(program: Mapping[str, str]) -> str:
    """The paper (arXiv 2407.12860) and the program. program: `version` and `commit`, empty where not known."""
    fields = {"title": "{stage-bench}: node classification on text-attributed graphs", **_only_known(program)}
    width = max(map(len, fields))
    lines = "".join(f"  {name:<{width}} = {{{value}}},\n" for name, value in fields.items())
    return f"{PAPER}\n\n@software{{stage-bench,\n{lines}}}"


def _only_known(program: Mapping[str, str]) -> dict[str, str]:
    found = {"version": program.get("version", "")}
    if program.get("commit"):
        found["note"] = f"commit {program['commit']}"
    return {name: value for name, value in found.items() if value}
