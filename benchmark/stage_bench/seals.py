"""A checksum of a JSON object, kept inside it: a digit that changed since it was written does not pass for another.

It guards against disks, copies and editors that went wrong; it is no signature.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

KEY = "own_sha256"


def sealed(content: Mapping[str, Any], context: str = "") -> dict[str, Any]:
    """The same object as JSON has it, and its checksum. context: what it belongs to and does not name itself."""
    plain: dict[str, Any] = json.loads(json.dumps(_open(content), allow_nan=False))
    return {**plain, KEY: _sha256(plain, context)}


def problem(content: Mapping[str, Any], *, needed: bool, context: str = "") -> str:
    """What is wrong with it, in a few words; empty: it is as it was written.

    needed: False where one written before there were checksums may lack it.
    """
    if KEY not in content:
        return "without a checksum" if needed else ""
    try:
        good = content[KEY] == _sha256(_open(content), context)
    except ValueError:  # NaN and infinities, which are never written
        good = False
    return "" if good else "not what was written: its checksum is another"


def _open(content: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key != KEY}


def _sha256(content: Mapping[str, Any], context: str) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(f"{context}\n{text}".encode()).hexdigest()
