"""Fetching one file: resumed where it stopped, checked, and there under its name only when it is whole."""

from __future__ import annotations

import errno
import ipaddress
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from stage_bench import files
from stage_bench.datasets.spec import Source
from stage_bench.datasets.upstream import checksums
from stage_bench.datasets.upstream.checksums import Record
from stage_bench.errors import StageBenchError

PAUSES = (1.0, 4.0, 10.0)
"""Seconds between the tries of one call."""

Progress = Callable[[int, int], None]

_CHUNK = 1 << 16
_TIMEOUT = (20, 60)  # seconds to connect; seconds without a byte
_MAX_REDIRECTS = 10
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})


class _Again(Exception):
    """What may be over at the next try."""


def fetch(source: Source, folder: Path, progress: Progress = lambda done, total: None) -> list[str]:
    """Have `source.file` in `folder`: as it is there, or fetched from `source.url` by `https`.

    A file's sha256 is compared with the spec's, where that has one, and with the one in `checksums.json`, where the
    first call recorded it. A file that a person put there is taken as it is, and recorded. What was fetched before an
    interruption stays as `NAME.part`; the next call goes on there. progress: bytes there, and in all (0: unknown).

    Returns:
        Lines for the user: what was done, what is odd.

    Raises:
        StageBenchError: it cannot be had, or is not the file that it was; says what to do.
    """
    path = folder / source.file
    record = checksums.read(folder).get(source.file)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            return _take(source, path, record)
        return _fetch_with_retries(source, path, record, progress)
    except OSError as error:
        raise _disk_error(path, error) from None


def _take(source: Source, path: Path, record: Record | None) -> list[str]:
    """A file that is there already."""
    digest = files.sha256(path)
    if record is not None:
        if digest != record.sha256:
            raise StageBenchError(
                f"{path}: has sha256 {digest}, expected {record.sha256} ({checksums.NAME} beside it); delete the file "
                "to fetch it again, or its entry there to take it as it is"
            )
        return []
    checksums.write(path, Record(digest, "placed by hand"))
    lines = [f"{source.file} was there already: taken as it is"]
    if source.sha256 not in ("", digest):
        lines.append(f"{source.file} is not the published file: its sha256 is {digest}, not {source.sha256}")
    return lines


def _fetch_with_retries(source: Source, path: Path, before: Record | None, progress: Progress) -> list[str]:
    """before: what is recorded of a file of that name that is gone."""
    part = path.with_name(path.name + ".part")
    for pause in (*PAUSES, None):
        try:
            with requests.Session() as session:
                _download(session, source, part, progress)
            break
        except _Again as error:
            if pause is None:
                raise StageBenchError(
                    f"{source.url}: {error} ({len(PAUSES) + 1} tries); run it again, it goes on where it stopped, or "
                    f"{_by_hand(source, path.parent)}"
                ) from None
            time.sleep(pause)
    _refuse_pages(source, part)
    digest = files.sha256(part)
    if source.sha256 not in ("", digest):
        _discard(part)
        raise StageBenchError(
            f"{source.url}: what came has sha256 {digest}, expected {source.sha256}: damaged on the way, or changed; "
            f"run it again, or if you trust the file {_by_hand(source, path.parent)}"
        )
    lines = [f"fetched {source.file}, {part.stat().st_size:,} bytes, from {source.url}"]
    if before is not None and before.sha256 != digest:
        lines.append(f"{source.file} is another file than was there before: its sha256 was {before.sha256}")
    checksums.write(path, Record(digest, source.url))  # first, since a file without a record was placed by hand
    os.replace(part, path)
    _discard(part)
    return lines


def _download(session: requests.Session, source: Source, part: Path, progress: Progress) -> None:
    """Complete `part`. What is there of it counts if the server says that it is of the same file."""
    start, validator = _resumable(part, source.url)
    headers = {"Accept-Encoding": "identity", "User-Agent": "stage-bench"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": validator}
    with closing(_get(session, source, part.parent, headers)) as response:
        if start and response.status_code == 416 and response.headers.get("Content-Range") == f"bytes */{start}":
            return  # the part is all there is
        if response.ok and response.headers.get("Content-Type", "").strip().lower().startswith("text/html"):
            raise _page(source, part.parent)  # the part stays: a quota is over tomorrow
        resumed = start > 0 and response.status_code == 206
        total = _total(response, start) if resumed else _number(response.headers.get("Content-Length", ""))
        if total is not None and total > source.max_bytes:
            raise StageBenchError(f"{source.url}: has {total:,} bytes, more than the {source.max_bytes:,} that it may")
        if resumed and (total is None or _validator(response) not in ("", validator)):
            _discard(part)
            raise _Again("the server sends another part than was asked for")
        if not resumed:
            _discard(part)
            if response.status_code != 200:
                raise _Again(f"the server answers {response.status_code} to what it was not asked")
            start = 0
            files.write_json(_state(part), {"url": source.url, "validator": _validator(response)})
        done = _append(response, source, part, start, total or 0, progress)
        if total and done < total:
            raise _Again(f"the connection ended after {done:,} of {total:,} bytes")


def _get(session: requests.Session, source: Source, folder: Path, headers: dict[str, str]) -> requests.Response:
    """The answer that is not a redirect; every address on the way is checked."""
    url = source.url
    for _ in range(_MAX_REDIRECTS):
        _check_address(url, source)
        try:
            response = session.get(url, headers=headers, stream=True, timeout=_TIMEOUT, allow_redirects=False)
        except requests.exceptions.RequestException as error:
            raise _Again(_network_reason(error)) from None
        if not response.is_redirect:
            break
        url = urljoin(url, response.headers["Location"])
        response.close()
    else:
        raise StageBenchError(f"{source.url}: redirects more than {_MAX_REDIRECTS} times; {_by_hand(source, folder)}")
    status = response.status_code
    if status in (200, 206, 416):
        return response
    response.close()
    if status in _TRANSIENT:
        raise _Again(f"the server answers {status} {response.reason}")
    raise StageBenchError(f"{source.url}: the server answers {status} {response.reason}; {_by_hand(source, folder)}")


def _check_address(url: str, source: Source) -> None:
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname or "")):
        return
    leads = "" if url == source.url else f" leads to {url}, which"
    raise StageBenchError(f"{source.url}{leads or ':'} is not https; not fetched")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _append(response: requests.Response, source: Source, part: Path, start: int, total: int, progress: Progress) -> int:
    """Write the body behind the first `start` bytes; returns how many bytes are there then."""
    done = start
    with part.open("ab") as file:
        for chunk in _chunks(response):
            done += len(chunk)
            if done > source.max_bytes or (total and done > total):
                file.close()
                _discard(part)
                raise StageBenchError(f"{source.url}: sends more than the {total or source.max_bytes:,} bytes it may")
            file.write(chunk)
            progress(done, total)
        file.flush()
        os.fsync(file.fileno())
    return done


def _chunks(response: requests.Response) -> Iterator[bytes]:
    """The bytes as they are sent: a server may call a .gz file an encoding of another, and would have it unpacked."""
    try:
        yield from response.raw.stream(_CHUNK, decode_content=False)
    except (urllib3.exceptions.HTTPError, requests.exceptions.RequestException) as error:
        raise _Again(_network_reason(error)) from None


def _total(response: requests.Response, start: int) -> int | None:
    """The size of the whole file by `Content-Range: bytes START-END/TOTAL`; None where START is not what was asked."""
    begin, _, size = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    return _number(size) if begin.partition("-")[0] == str(start) else None


def _number(text: str) -> int:
    """0 where it is none: the size is unknown."""
    return int(text) if text.isascii() and text.isdigit() else 0


def _validator(response: requests.Response) -> str:
    """What tells this file from a later one under the same address; empty where nothing does."""
    tag = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")


def _refuse_pages(source: Source, part: Path) -> None:
    """What was downloaded may be nothing, a page of a server that calls it something else, or a stand-in."""
    with part.open("rb") as file:
        begin = file.read(200).lstrip().lower()
    if not begin:
        _discard(part)
        raise StageBenchError(f"{source.url}: sends an empty file; {_by_hand(source, part.parent)}")
    if begin.startswith((b"<!doctype html", b"<html")):
        _discard(part)
        raise _page(source, part.parent)
    if begin.startswith(b"version https://git-lfs.github.com/"):
        _discard(part)
        raise StageBenchError(f"{source.url}: is only a Git LFS pointer to the file; {_by_hand(source, part.parent)}")


def _page(source: Source, folder: Path) -> StageBenchError:
    return StageBenchError(
        f"{source.url}: the answer is a web page instead of {source.file} (a quota, a permission or a sign-in); "
        f"{_by_hand(source, folder)}"
    )


def _by_hand(source: Source, folder: Path) -> str:
    return f"download it in a browser and put {source.file} into {folder}"


def _network_reason(error: BaseException) -> str:
    """The innermost cause, in one line; requests and urllib3 wrap it several times."""
    text = str(error)
    if "NameResolutionError" in text or "Failed to resolve" in text:
        return "its host is not found; is this machine offline?"
    if isinstance(error, (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError)):
        return "the server does not answer in time"
    if "Connection refused" in text:
        return "the server refuses the connection"
    return f"the connection failed ({' '.join(text.split())[:200]})"


def _state(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _resumable(part: Path, url: str) -> tuple[int, str]:
    """How many bytes there are to go on from, and the validator to ask with; (0, "") to begin anew."""
    try:
        state = json.loads(_state(part).read_bytes())
        if state["url"] == url and state["validator"]:
            return part.stat().st_size, state["validator"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return 0, ""


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _state(part).unlink(missing_ok=True)


def _disk_error(path: Path, error: OSError) -> StageBenchError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StageBenchError(
            f"{path}: the disk is full; free some space and run it again, it goes on where it stopped"
        )
    return StageBenchError(f"{path}: {error.strerror or error}")
