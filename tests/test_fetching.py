"""Fetching: resumed, checked, limited; a server that misbehaves never leaves a wrong file."""

import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loopback import Server, serving
from stage_bench.datasets.spec import Source
from stage_bench.datasets.upstream import checksums, fetching
from stage_bench.errors import StageBenchError

BODY = bytes(range(256)) * 4096  # 1 MiB
NEWER = BODY[::-1]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(fetching, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as started:
        yield started


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "upstream"


def source(url: str, **fields: Any) -> Source:
    return Source(file="data.zip", url=url, **fields)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refuses(wanted: Source, folder: Path) -> str:
    with pytest.raises(StageBenchError) as caught:
        fetching.fetch(wanted, folder)
    assert not (folder / "data.zip").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_is_fetched_once(server: Server, folder: Path):
    wanted = source(server.put("/f", BODY), sha256=digest(BODY))
    seen: list[tuple[int, int]] = []
    lines = fetching.fetch(wanted, folder, lambda done, total: seen.append((done, total)))
    assert lines == [f"fetched data.zip, 1,048,576 bytes, from {wanted.url}"]
    assert (folder / "data.zip").read_bytes() == BODY
    assert names(folder) == ["checksums.json", "data.zip"]
    assert seen[-1] == (len(BODY), len(BODY))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert checksums.present(folder) == {"data.zip": digest(BODY)}
    assert fetching.fetch(wanted, folder) == []
    assert server.requests == [("/f", None)]


@pytest.mark.parametrize("drops", [[300_000], [300_000, 200_000, 100_000]])
def test_a_connection_that_drops_is_taken_up_again(server: Server, folder: Path, drops: list[int]):
    fetching.fetch(source(server.put("/f", BODY, drop_after=list(drops))), folder)
    assert (folder / "data.zip").read_bytes() == BODY
    assert {asked["Accept-Encoding"] for asked in server.headers} == {"identity"}
    assert [asked.get("If-Range") for asked in server.headers] == [None, *['"one"'] * len(drops)]
    starts = [int(asked.removeprefix("bytes=").rstrip("-")) for _, asked in server.requests if asked]
    assert len(starts) == len(drops)
    assert starts == sorted(set(starts))
    assert starts[0] > 200_000


def test_the_next_call_goes_on_where_one_gave_up(server: Server, folder: Path):
    wanted = source(server.put("/f", BODY, drop_after=[200_000] * 4))
    message = refuses(wanted, folder)
    assert message.startswith(f"{wanted.url}: the connection ")
    by_hand = f"download it in a browser and put data.zip into {folder}"
    assert message.endswith(f"(4 tries); run it again, it goes on where it stopped, or {by_hand}")
    assert names(folder) == ["data.zip.part", "data.zip.part.json"]
    there = (folder / "data.zip.part").stat().st_size
    assert there > 500_000
    server.requests.clear()
    fetching.fetch(wanted, folder)
    assert server.requests == [("/f", f"bytes={there}-")]
    assert (folder / "data.zip").read_bytes() == BODY


@pytest.mark.parametrize("ranges", ["ignore", "wrong", "refuse"])
def test_a_server_without_ranges_is_asked_for_all_of_it(server: Server, folder: Path, ranges: str):
    fetching.fetch(source(server.put("/f", BODY, drop_after=[300_000], ranges=ranges)), folder)
    assert (folder / "data.zip").read_bytes() == BODY


@pytest.mark.parametrize("ranges", ["honour", "careless", "wrong"])
def test_a_file_that_changed_in_between_is_not_glued_together(server: Server, folder: Path, ranges: str):
    wanted = source(server.put("/f", BODY, drop_after=[200_000] * 4))
    refuses(wanted, folder)
    server.put("/f", NEWER, etag='"two"', ranges=ranges)
    fetching.fetch(wanted, folder)
    assert (folder / "data.zip").read_bytes() == NEWER


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_a_strong_validator_it_begins_anew(server: Server, folder: Path, etag: str):
    fetching.fetch(source(server.put("/f", BODY, etag=etag, drop_after=[300_000])), folder)
    assert (folder / "data.zip").read_bytes() == BODY
    assert server.requests == [("/f", None)] * 2


def test_a_part_of_another_address_does_not_count(server: Server, folder: Path):
    refuses(source(server.put("/old", NEWER, drop_after=[200_000] * 4)), folder)
    fetching.fetch(source(server.put("/f", BODY)), folder)
    assert (folder / "data.zip").read_bytes() == BODY


def test_a_part_that_was_complete_is_only_checked(server: Server, folder: Path):
    """As after a kill between the last byte and the rename."""
    wanted = source(server.put("/f", BODY))
    fetching.fetch(wanted, folder)
    (folder / "data.zip").rename(folder / "data.zip.part")
    (folder / "data.zip.part.json").write_text(json.dumps({"url": wanted.url, "validator": '"one"'}))
    server.requests.clear()
    fetching.fetch(wanted, folder)
    assert server.requests == [("/f", f"bytes={len(BODY)}-")]
    assert (folder / "data.zip").read_bytes() == BODY
    assert json.loads((folder / "checksums.json").read_text())["data.zip"]["from"] == wanted.url


def test_a_kill_leaves_what_the_next_call_goes_on_from(server: Server, folder: Path):
    url = server.put("/f", BODY * 64)
    code = (
        "import sys; from pathlib import Path\n"
        "from stage_bench.datasets.upstream import fetching\n"
        "from stage_bench.datasets.spec import Source\n"
        "fetching.fetch(Source(file='data.zip', url=sys.argv[1]), Path(sys.argv[2]),\n"
        "               lambda done, total: print(done, flush=True))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, url, str(folder)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        while int(child.stdout.readline()) < 3_000_000:
            pass
        child.send_signal(signal.SIGKILL)
    assert names(folder) == ["data.zip.part", "data.zip.part.json"]
    server.requests.clear()
    fetching.fetch(source(url), folder)
    assert server.requests[0][1] not in (None, "bytes=0-")
    assert (folder / "data.zip").read_bytes() == BODY * 64


@pytest.mark.parametrize("statuses", [[500], [503, 502, 429]])
def test_errors_that_pass_are_tried_again(server: Server, folder: Path, statuses: list[int]):
    fetching.fetch(source(server.put("/f", BODY, statuses=list(statuses))), folder)
    assert (folder / "data.zip").read_bytes() == BODY


def test_errors_that_stay(server: Server, folder: Path):
    by_hand = f"download it in a browser and put data.zip into {folder}"
    busy = source(server.put("/busy", BODY, statuses=[503] * 9))
    assert refuses(busy, folder) == (
        f"{busy.url}: the server answers 503 Service Unavailable (4 tries); run it again, it goes on where it stopped, "
        f"or {by_hand}"
    )
    gone = source(server.url("/gone"))
    assert refuses(gone, folder) == f"{gone.url}: the server answers 404 Not Found; {by_hand}"
    assert server.requests[-1] == ("/gone", None)
    assert len(server.requests) == 5


def test_nobody_there(folder: Path, server: Server):
    with serving() as other:
        url = other.url("/f")
    assert refuses(source(url), folder).startswith(f"{url}: the server refuses the connection (4 tries); ")


def test_a_host_that_does_not_exist(folder: Path, server: Server):
    message = refuses(source("https://nowhere.invalid/f"), folder)
    assert message.startswith("https://nowhere.invalid/f: its host is not found; is this machine offline?")


@pytest.mark.parametrize("says_length", [True, False])
def test_the_size_limit(server: Server, folder: Path, says_length: bool):
    wanted = source(server.put("/f", BODY, says_length=says_length), max_bytes=len(BODY) - 1)
    assert "1,048,575" in refuses(wanted, folder)
    assert not (folder / "data.zip.part").exists()
    fetching.fetch(source(wanted.url, max_bytes=len(BODY)), folder)


def test_the_limit_counts_what_came_before(server: Server, folder: Path):
    wanted = source(server.put("/f", BODY, drop_after=[200_000] * 4))
    refuses(wanted, folder)
    assert "has 1,048,576 bytes, more than the 1,000,000" in refuses(source(wanted.url, max_bytes=1_000_000), folder)


def test_a_length_that_is_not_true(server: Server, folder: Path):
    server.put("/f", BODY[:1000], etag="", headers={"Content-Length": "2000"}, says_length=False)
    assert "1000 bytes read, 1000 more expected" in refuses(source(server.url("/f")), folder)


def test_only_the_published_file(server: Server, folder: Path):
    wanted = source(server.put("/f", NEWER), sha256=digest(BODY))
    message = refuses(wanted, folder)
    assert f"{wanted.url}: what came has sha256 {digest(NEWER)}, expected {digest(BODY)}: " in message
    assert names(folder) == []


def test_a_file_that_changes_on_the_disk(server: Server, folder: Path):
    wanted = source(server.put("/f", BODY))
    fetching.fetch(wanted, folder)
    (folder / "data.zip").write_bytes(NEWER)
    with pytest.raises(StageBenchError) as caught:
        fetching.fetch(wanted, folder)
    assert str(caught.value) == (
        f"{folder / 'data.zip'}: has sha256 {digest(NEWER)}, expected {digest(BODY)} (checksums.json beside it); "
        "delete the file to fetch it again, or its entry there to take it as it is"
    )
    (folder / "data.zip").unlink()
    assert len(fetching.fetch(wanted, folder)) == 1
    assert (folder / "data.zip").read_bytes() == BODY


def test_a_file_that_changes_upstream_is_told(server: Server, folder: Path):
    wanted = source(server.put("/f", BODY))
    fetching.fetch(wanted, folder)
    (folder / "data.zip").unlink()
    server.put("/f", NEWER)
    assert fetching.fetch(wanted, folder)[1] == (
        f"data.zip is another file than was there before: its sha256 was {digest(BODY)}"
    )
    assert checksums.present(folder) == {"data.zip": digest(NEWER)}


def test_a_file_placed_by_hand(server: Server, folder: Path):
    wanted = source(server.put("/f", BODY), sha256=digest(BODY))
    folder.mkdir()
    (folder / "data.zip").write_bytes(NEWER)
    assert fetching.fetch(wanted, folder) == [
        "data.zip was there already: taken as it is",
        f"data.zip is not the published file: its sha256 is {digest(NEWER)}, not {digest(BODY)}",
    ]
    assert server.requests == []
    assert json.loads((folder / "checksums.json").read_text()) == {
        "data.zip": {"sha256": digest(NEWER), "from": "placed by hand"}
    }
    assert fetching.fetch(wanted, folder) == []


@pytest.mark.parametrize("content", ["{", "[]", '{"data.zip": 3}', '{"data.zip": {}}'])
def test_records_that_cannot_be_read(folder: Path, content: str):
    folder.mkdir()
    (folder / "checksums.json").write_text(content)
    with pytest.raises(StageBenchError, match=r"checksums\.json: cannot be read; delete it"):
        fetching.fetch(source("https://nowhere.invalid/f"), folder)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"<!DOCTYPE html><html><title>Quota exceeded</title></html>", "text/html; charset=utf-8"),
        (b"\n<html><head>", "application/octet-stream"),
        (b"<!DOCTYPE html>", "application/octet-stream"),
    ],
)
def test_a_page_instead_of_the_file(server: Server, folder: Path, body: bytes, content_type: str):
    wanted = source(server.put("/f", body, content_type=content_type))
    assert refuses(wanted, folder) == (
        f"{wanted.url}: the answer is a web page instead of data.zip (a quota, a permission or a sign-in); download it "
        f"in a browser and put data.zip into {folder}"
    )
    assert not (folder / "data.zip.part").exists()


def test_a_page_does_not_cost_what_was_fetched_before(server: Server, folder: Path):
    wanted = source(server.put("/f", BODY, drop_after=[200_000] * 4))
    refuses(wanted, folder)
    size = (folder / "data.zip.part").stat().st_size
    server.put("/f", b"<html>", content_type="text/html", ranges="ignore")
    assert "web page" in refuses(wanted, folder)
    assert (folder / "data.zip.part").stat().st_size == size > 0


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "only a Git LFS pointer"),
        (b"", "an empty file"),
    ],
)
def test_no_file_at_all(server: Server, folder: Path, body: bytes, says: str):
    assert says in refuses(source(server.put("/f", body)), folder)
    assert names(folder) == []


def test_a_gz_file_stays_as_it_is(server: Server, folder: Path):
    """Some servers call it an encoding, which a client would undo."""
    packed = gzip.compress(BODY)
    fetching.fetch(source(server.put("/f", packed, headers={"Content-Encoding": "x-gzip"})), folder)
    assert (folder / "data.zip").read_bytes() == packed


def test_redirects(server: Server, folder: Path):
    server.put("/f", BODY)
    server.put("/there", redirect="/f")
    fetching.fetch(source(server.put("/here", redirect=server.url("/there"))), folder)
    assert (folder / "data.zip").read_bytes() == BODY
    loop = source(server.put("/loop", redirect="/loop"), max_bytes=1)
    with pytest.raises(StageBenchError, match="redirects more than 10 times"):
        fetching.fetch(loop, folder.parent / "other")


@pytest.mark.parametrize("target", ["http://example.org/f", "ftp://example.org/f", "file:///etc/passwd"])
def test_redirects_that_leave_https(server: Server, folder: Path, target: str):
    url = server.put("/f", redirect=target)
    assert refuses(source(url), folder) == f"{url} leads to {target}, which is not https; not fetched"


@pytest.mark.parametrize("url", ["http://example.org/f", "http://127.0.0.1.example.org/f", "file:///etc/passwd"])
def test_only_https(folder: Path, url: str):
    assert refuses(source(url), folder) == f"{url}: is not https; not fetched"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fetching, "_discard", lambda part: None)  # it would take the device away, not fill it
    folder.mkdir()
    (folder / "data.zip.part").symlink_to("/dev/full")
    assert refuses(source(server.put("/f", BODY)), folder) == (
        f"{folder / 'data.zip'}: the disk is full; free some space and run it again, it goes on where it stopped"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(server: Server, folder: Path):
    folder.mkdir(mode=0o500)
    assert refuses(source(server.put("/f", BODY)), folder) == f"{folder / 'data.zip'}: Permission denied"


def test_it_waits_between_the_tries(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fetching, "PAUSES", (0.15, 0.15))
    begin = time.monotonic()
    fetching.fetch(source(server.put("/f", BODY, statuses=[500, 500])), folder)
    assert time.monotonic() - begin > 0.3
