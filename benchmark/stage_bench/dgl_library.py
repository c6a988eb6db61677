"""The one place that imports DGL, so that a failed import is one line of advice.

Import torch before DGL (the other order loads two OpenMP runtimes), and never at start-up: it takes seconds.
"""

import os

os.environ.setdefault("DGLBACKEND", "pytorch")

import torch

from stage_bench.errors import StageBenchError

try:
    import dgl
except Exception as error:  # whatever DGL's import raises means the same to the user
    raise StageBenchError(
        f"dgl cannot be imported ({type(error).__name__}: {error}); with torch {torch.__version__} install it with: "
        "pip install dgl==1.1.3 packaging (wheels exist for Python 3.10 and 3.11)"
    ) from error

__all__ = ["dgl"]
