"""Unpacking: what is in an archive comes out; what would leave the folder, link or never end does not."""

import gzip
import io
import stat
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest

from stage_bench.datasets.upstream.archives import stem, unpack
from stage_bench.errors import StageBenchError

FILES = {"top/a.txt": b"one", "top/deep/http:##www.x.org#~me#p_1.ps": b"two", "top/empty": b"", "b.txt": b"three"}
MANY = 1 << 30


def make_zip(path: Path, files: dict[str, bytes], **attributes: int) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in files.items():
            member = zipfile.ZipInfo(name)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = attributes.get("mode", stat.S_IFREG | 0o644) << 16
            file.writestr(member, data)
    return path


def make_tar(path: Path, files: dict[str, bytes], kind: bytes = tarfile.REGTYPE, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode, format=tarfile.GNU_FORMAT) as file:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.type = kind
            member.linkname = "/etc/passwd"
            member.size = len(data) if kind == tarfile.REGTYPE else 0
            file.addfile(member, io.BytesIO(data))
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refuses(archive: Path, max_bytes: int = MANY) -> str:
    """The message; nothing is left behind, and nothing came out beside the folder."""
    before = sorted(archive.parent.rglob("*"))
    with pytest.raises(StageBenchError) as caught:
        unpack(archive, archive.parent / "out", max_bytes=max_bytes)
    assert sorted(archive.parent.rglob("*")) == before
    message = str(caught.value)
    assert message.startswith(f"{archive}: ")
    assert "\n" not in message
    return message.removeprefix(f"{archive}: ")


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz"])
def test_what_is_in_it_comes_out(tmp_path: Path, ending: str):
    archive = tmp_path / f"data.{ending}"
    if ending == "zip":
        make_zip(archive, FILES)
    else:
        make_tar(archive, FILES, mode="w:gz" if ending == "tar.gz" else "w")
    unpack(archive, tmp_path / "out" / "data", max_bytes=sum(map(len, FILES.values())))
    assert tree(tmp_path / "out" / "data") == FILES
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["data"]


def test_one_gzipped_file(tmp_path: Path):
    (tmp_path / "titleabs.tsv.gz").write_bytes(gzip.compress(b"1\tTitle\tAbstract\n"))
    unpack(tmp_path / "titleabs.tsv.gz", tmp_path / "out", max_bytes=100)
    assert tree(tmp_path / "out") == {"titleabs.tsv": b"1\tTitle\tAbstract\n"}


def test_a_tar_is_known_by_its_content(tmp_path: Path):
    make_tar(tmp_path / "titleabs.tsv.gz", {"titleabs.tsv": b"1\tTitle\tAbstract\n"})
    unpack(tmp_path / "titleabs.tsv.gz", tmp_path / "out", max_bytes=100)
    assert tree(tmp_path / "out") == {"titleabs.tsv": b"1\tTitle\tAbstract\n"}


def test_names_in_another_encoding(tmp_path: Path):
    """As zip programs write them that do not say UTF-8: the bytes are those of code page 437, or are taken for it."""
    archive = make_zip(tmp_path / "a.zip", {"caf@.txt": b"one", "plain": b"two"})
    archive.write_bytes(archive.read_bytes().replace(b"caf@.txt", b"caf\x82.txt"))
    unpack(archive, tmp_path / "out", max_bytes=100)
    assert tree(tmp_path / "out") == {"café.txt": b"one", "plain": b"two"}


def test_folders_without_files(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("./", "")
        file.writestr("empty/", "")
        file.writestr("empty/in/it", "x")
    unpack(tmp_path / "a.zip", tmp_path / "out", max_bytes=100)
    assert tree(tmp_path / "out") == {"empty/in/it": b"x"}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("/etc/passwd", "an absolute path"),
        ("C:/Windows/x", "an absolute path"),
        ("C:\\Windows\\x", "an absolute path"),
        ("\\\\host\\share", "an absolute path"),
        ("../beside", "the path leads out of the folder"),
        ("a/../../beside", "the path leads out of the folder"),
        ("a\\..\\..\\beside", "the path leads out of the folder"),
        ("a/..", "the path leads out of the folder"),
    ],
)
@pytest.mark.parametrize("ending", ["zip", "tar"])
def test_paths_that_lead_out(tmp_path: Path, name: str, why: str, ending: str):
    make = make_zip if ending == "zip" else make_tar
    archive = make(tmp_path / f"a.{ending}", {"fine.txt": b"x", name: b"evil"})
    assert refuses(archive) == f"refused to unpack '{name}': {why}"


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_a_zip_holds_no_links(tmp_path: Path, kind: int):
    archive = make_zip(tmp_path / "a.zip", {"link": b"/etc/passwd"}, mode=kind | 0o777)
    assert refuses(archive) == "refused to unpack 'link': a link or a device"


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_a_tar_holds_no_links(tmp_path: Path, kind: bytes):
    assert refuses(make_tar(tmp_path / "a.tar", {"link": b""}, kind)) == "refused to unpack 'link': a link or a device"


@pytest.mark.parametrize("ending", ["zip", "tar.gz", "gz"])
def test_no_more_than_is_allowed(tmp_path: Path, ending: str):
    archive, data = tmp_path / f"bomb.{ending}", bytes(5_000_000)
    if ending == "gz":
        archive.write_bytes(gzip.compress(data))
    else:
        (make_zip if ending == "zip" else make_tar)(archive, {"a": data[:2_500_000], "b": data[:2_500_000]})
    assert archive.stat().st_size < 50_000
    assert refuses(archive, max_bytes=4_999_999) == "unpacks to more than 4,999,999 bytes; refused"
    unpack(archive, tmp_path / "out", max_bytes=5_000_000)


def test_a_zip_that_lies_about_its_size(tmp_path: Path):
    archive = make_zip(tmp_path / "a.zip", {"a": bytes(1_000_000)})
    data = archive.read_bytes()
    said = struct.pack("<I", 1_000_000)
    assert data.count(said) == 2
    archive.write_bytes(data.replace(said, struct.pack("<I", 10)))
    assert refuses(archive, max_bytes=1000).startswith(("damaged", "unpacks to more"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("ending", ["zip", "tar"])
@pytest.mark.parametrize("second", ["a", "./a", "a/b"])
def test_one_name_twice(tmp_path: Path, ending: str, second: str):
    archive = tmp_path / f"a.{ending}"
    if ending == "zip":
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("a", "one")
            file.writestr(second, "two")
    else:
        with tarfile.open(archive, "w") as file2:
            for name in ("a", second):
                file2.addfile(tarfile.TarInfo(name), io.BytesIO())
    assert refuses(archive) == f"refused to unpack '{second}': the name stands there twice"


def test_a_file_that_is_a_folder_as_well(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("a", "one")
        file.writestr("a/", "")
    assert refuses(tmp_path / "a.zip") == "refused to unpack 'a/': it is a file as well"


def test_encrypted(tmp_path: Path):
    archive = make_zip(tmp_path / "a.zip", {"secret": b"x"})
    data = bytearray(archive.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)
    assert refuses(archive) == "refused to unpack 'secret': encrypted"


@pytest.mark.parametrize("ending", ["zip", "tar.gz", "gz"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_file_that_is_cut_short(tmp_path: Path, ending: str, share: float):
    archive, data = tmp_path / f"a.{ending}", bytes(range(256)) * 40 + b"".join(f"{i}".encode() for i in range(9999))
    if ending == "gz":
        archive.write_bytes(gzip.compress(data))
    else:
        (make_zip if ending == "zip" else make_tar)(archive, {"a": data, "b": data[::-1]})
    archive.write_bytes(archive.read_bytes()[: int(archive.stat().st_size * share)])
    assert refuses(archive).endswith("delete it to fetch it again")


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED])
def test_a_wrong_byte_under_any_compression(tmp_path: Path, method: int):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", method) as file:
        file.writestr("a.txt", bytes(range(256)) * 40)
    whole = bytearray(archive.read_bytes())
    said = []
    for place in range(40, 140, 7):
        damaged = whole.copy()
        damaged[place] ^= 0x55
        archive.write_bytes(damaged)
        try:
            unpack(archive, tmp_path / f"out{place}", max_bytes=1 << 20)
        except StageBenchError as error:
            said.append(str(error))
    assert said
    assert all("\n" not in line and "delete it to fetch it again" in line for line in said)


def test_a_name_cannot_write_into_the_terminal(tmp_path: Path):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../a\x1b[31m\nred", b"x")
    with pytest.raises(StageBenchError) as caught:
        unpack(archive, tmp_path / "out", max_bytes=1 << 20)
    assert str(caught.value).isprintable()
    assert r"\x1b[31m\nred" in str(caught.value)


def test_a_zip_with_a_wrong_byte(tmp_path: Path):
    archive = make_zip(tmp_path / "a.zip", {"a": bytes(range(256)) * 50})
    data = bytearray(archive.read_bytes())
    data[60] ^= 0xFF
    archive.write_bytes(data)
    assert refuses(archive).startswith("damaged (")


@pytest.mark.parametrize("data", [b"", b"plain text", b"<html>"])
def test_no_archive(tmp_path: Path, data: bytes):
    (tmp_path / "a.zip").write_bytes(data)
    assert refuses(tmp_path / "a.zip") == "neither a zip nor a tar nor a gzip file; delete it to fetch it again"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cora_orig.zip", "cora_orig"),
        ("Amazon-3M.raw.zip", "Amazon-3M.raw"),
        ("titleabs.tsv.gz", "titleabs.tsv"),
        ("a.tar.gz", "a"),
        ("a.TGZ", "a"),
        ("plain.csv", "plain.csv"),
    ],
)
def test_the_name_without_its_ending(name: str, expected: str):
    assert stem(name) == expected
