"""How to read a report: the sentences that stand in it, in every format."""

from __future__ import annotations

from stage_bench.leaderboard.significance import LEVEL
from stage_bench.leaderboard.statistics import RESAMPLES, rank_resamples
from stage_bench.leaderboard.wording import MARK

LINES = (
    "**Rank** is by mean test accuracy among the complete rows of one table; ties share the better rank. Its interval "
    "is the 95 % interval under a bootstrap of the seeds: where all rows ran with the same seeds they are drawn for "
    "all rows together, else for each row alone. A row of one run has a rank but no interval, and enters the resamples "
    f"of the others with its one accuracy. Tables of more than 200 rows have fewer than {RESAMPLES:,} resamples, down "
    f"to {rank_resamples(1000):,}.",
    "**Test accuracy** is the mean over n finished runs ± the standard deviation over runs (ddof 1). The 95 % interval "
    f"is a percentile bootstrap of that mean with {RESAMPLES:,} resamples. One run has neither. With few runs the "
    "interval is little more than their range, and covers less than it says. **Bold** is the best reproduced row.",
    "**p vs. best** is of a test of each complete row against the best of its table, two-sided, corrected by Holm for "
    f"the rows shown. Rows with p of {LEVEL} and more are underlined: they cannot be separated from the best, "
    "whatever their rank. Where the seed draws the split it is the corrected resampled t-test over the split seeds "
    "(Nadeau and Bengio 2003; variance times 1/k + test/train nodes). Where the split is fixed it is the larger of two "
    "p values: a bootstrap of the seeds, and node by node on saved predictions McNemar's exact test (one run each) or "
    "a paired bootstrap of the test nodes. With few seeds much cannot be separated, and the best was found on the same "
    "runs: p is a guide, not a proof. Effect sizes and the uncorrected p are in separation.csv.",
    "Models and epochs are selected on **validation accuracy** (mean over runs).",
    "**Train s/run** is the mean per run. **Total s** = embed + diffuse + tune + n × (train + infer), where train and "
    "infer are means per run and embedding, diffusion and tuning count once for a row: each distinct embedding, "
    "diffusion or study once, whatever number of runs or ensemble members used it. To *embed* belongs all that the "
    "features cost, a chat model's answers and the tuning of a language model included; where these were made "
    "elsewhere, what they cost is not known, and there is no total. Another part that was not measured adds nothing. "
    "An ensemble's seconds are those of its members together.",
    "**Time rank** is by total s among the complete rows of one hardware class: processor, threads, and jobs side by "
    "side, as recorded. Rows of another class are shown, never ranked. On the **front** are rows to which none is "
    "preferable: no other is as accurate for less total s (of that class), or for less memory.",
    "**Memory** is the highest peak of a run in MB, on a CPU that of the whole process with its libraries; "
    "**parameters** are those trained. **Energy** is that of all runs, and of the embedding once, where the machine "
    "has counters and the job had it to itself. **Dollars** are what endpoints charged, each piece of work once.",
    "*partial*: some runs failed or are not there yet; the row has a mean over the others and no rank. *failed*: no "
    "run finished.",
    f"{MARK} marks **published** numbers: copied from their source, not run here, without rank. Their ± is whatever "
    "the source took; only a standard deviation with ddof 1 stands where ours stands in leaderboard.csv.",
    "An empty cell was not measured. It never means zero.",
)
"""Markdown, one entry each, of which only `**bold**` and `*emphasis*` are used."""

REPRODUCTION = (
    "*Agrees*: the difference lies within the errors of both (Welch's t-test on mean, deviation and n, 5 % level). "
    "*Higher*, *lower*: ours is. *Cannot tell*: the reason says why the two say nothing of each other."
)
"""What stands below published numbers with ours beside."""
