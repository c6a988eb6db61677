"""What becomes of a suite that nothing disturbs: the others are to come out the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ledger
import stressed

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Undisturbed:
    """content: what `ledger.content` says of it; seconds: what it took."""

    subject: stressed.Subject
    content: dict[str, Any]
    seconds: float

    def check(self, root: Path) -> ledger.Found:
        """That a run which has ended left the same as this one."""
        found = ledger.look(root)
        assert len(found.jobs) == self.subject.jobs
        assert not found.unfinished
        assert not ledger.differences(self.content, ledger.content(root))
        return found


def carry_out(subject: stressed.Subject, workers: int) -> Undisturbed:
    root = subject.suite.parent / "undisturbed"
    run = stressed.Run(subject, root, workers)
    assert run.wait() == 0, run.said
    return Undisturbed(subject, ledger.content(root), run.seconds)
