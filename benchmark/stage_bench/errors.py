"""The errors a person can act on: one line each, with the place and what to do."""


class StageBenchError(Exception):
    """The suite, the data or the call is wrong. The command ends with exit code 2."""


class JobError(StageBenchError):
    """One job cannot be done. It becomes a `failed` row; the other jobs go on."""
