"""A full disk: what it looks like, and what is said of it. What is begun then could not be kept."""

from __future__ import annotations

import errno

from stage_bench.errors import DiskFull, shown


def happened(error: BaseException | None) -> bool:
    """Whether an error says so, or came of one that did: a library may have made another one of it."""
    while error is not None:
        if isinstance(error, DiskFull) or "No space left on device" in str(error):
            return True
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


def described(error: BaseException) -> str:
    """One line, with the place where that is known."""
    if isinstance(error, DiskFull):
        return str(error)
    where = getattr(error, "filename", None)
    return f"the disk is full{f' ({shown(where)})' if where else ''}; make room and run again, what is done is kept"
