"""The errors a person can act on: one line each, with the place and what to do."""

_NAME = 200  # characters of a name that are shown
_LINE = 2000  # of a line


def shown(name: object) -> str:
    """A name from outside as it may stand in a message: what is not printable is written as an escape."""
    text = str(name)
    return text if text.isprintable() else "".join(mark if mark.isprintable() else repr(mark)[1:-1] for mark in text)


def brief(name: object, most: int = _NAME) -> str:
    """The same, cut where it is longer than anybody reads."""
    text = str(name)
    return shown(text) if len(text) <= most else f"{shown(text[:most])}…"


class StageBenchError(Exception):
    """The suite, the data or the call is wrong. The command ends with exit code 2.

    Each argument is one line: what a name from outside holds neither begins another one nor writes into a terminal.
    """

    def __str__(self) -> str:
        return "\n".join(brief(line, _LINE) for line in self.args)


class JobError(StageBenchError):
    """One job cannot be done. It becomes a `failed` row; the other jobs go on."""


class DiskFull(JobError):
    """There is no room for what jobs leave. The command ends with exit code 1; called again, it goes on from there."""
