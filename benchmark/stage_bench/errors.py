"""The errors a person can act on: one line each, with the place and what to do."""


def shown(name: object) -> str:
    """A name from outside as it may stand in a message: what is not printable is written as an escape."""
    return "".join(mark if mark.isprintable() else repr(mark)[1:-1] for mark in str(name))


class StageBenchError(Exception):
    """The suite, the data or the call is wrong. The command ends with exit code 2."""


class JobError(StageBenchError):
    """One job cannot be done. It becomes a `failed` row; the other jobs go on."""
