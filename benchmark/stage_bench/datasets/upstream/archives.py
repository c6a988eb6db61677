"""Unpacking what was downloaded: nothing leaves the folder, nothing but plain files comes out, and not without end."""

from __future__ import annotations

import errno
import gzip
import lzma
import os
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from stage_bench.errors import StageBenchError, shown

_CHUNK = 1 << 20
_MOST_MEMBERS = 1_000_000  # files and folders: those of Cora are 52,000
_MOST_AT_ONCE = 1 << 24  # bytes that a tar may want read in one piece: a name, an attribute
_DAMAGE = (
    *(zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError),
    *(lzma.LZMAError, NotImplementedError),  # an unknown compression
    ValueError,  # a name with a NUL in it, or that is not in the encoding the zip says
)
_ENDINGS = (".tar.gz", ".tgz", ".tar", ".zip", ".gz")


def stem(name: str) -> str:
    """The name of an archive without the ending that says it is one: `cora_orig`, `titleabs.tsv`."""
    for ending in _ENDINGS:
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


def unpack(archive: Path, folder: Path, *, max_bytes: int) -> None:
    """Unpack a zip, a tar (gzipped or not), or one gzipped file into a new folder, which appears when it is complete.

    What an archive is is seen from its content: `titleabs.tsv.gz` of OGB is said to be a tar.

    Raises:
        StageBenchError: it is damaged or none of these, is larger than `max_bytes`, or holds what may not be: a path
            that leads out of the folder, a link, a device, an encrypted file, one name twice.
        OSError: the disk is full, or a file cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    target = _Target(archive, temporary, max_bytes)
    try:
        with _damage(archive):
            if zipfile.is_zipfile(archive):
                _unzip(archive, target)
            elif _is_tar(archive):
                _untar(archive, target)
            elif _starts_with(archive, b"\x1f\x8b"):
                with gzip.open(archive) as file:
                    target.write(stem(archive.name), file)
            else:
                raise StageBenchError(
                    f"{archive}: neither a zip nor a tar nor a gzip file; delete it to fetch it again"
                )
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _starts_with(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def _is_tar(path: Path) -> bool:
    """Whether it has a first member: tarfile takes anything that begins with zeros for an empty tar."""
    try:
        with _opened_tar(path) as file:
            return file.next() is not None
    except (*_DAMAGE, OSError):
        return False


@contextmanager
def _opened_tar(path: Path) -> Iterator[tarfile.TarFile]:
    """A tar, gzipped or not, of which no header is taken that would fill the memory."""
    packed = _starts_with(path, b"\x1f\x8b")
    with (
        gzip.open(path) if packed else path.open("rb") as content,
        tarfile.open(fileobj=_InPieces(content), mode="r:") as file,  # type: ignore[call-overload]
    ):
        yield file


class _InPieces:
    """A file of which nobody reads much at once: tarfile reads a header whole, however long it says it is."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MOST_AT_ONCE:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._file.read(size)


@contextmanager
def _damage(archive: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # these two are what decompressors and seeks to nowhere raise
            raise
        raise StageBenchError(f"{archive}: damaged ({error}); delete it to fetch it again") from None
    except _DAMAGE as error:
        what = " ".join(str(error).split()) or type(error).__name__
        raise StageBenchError(f"{archive}: damaged ({what}); delete it to fetch it again") from None


class _Target:
    """The folder that files go into, and how much may still come."""

    def __init__(self, archive: Path, folder: Path, max_bytes: int) -> None:
        self.archive, self.folder, self.max_bytes = archive, folder, max_bytes
        self.left = max_bytes
        self.members = 0

    def refuse(self, name: str, why: str) -> StageBenchError:
        return StageBenchError(f"{self.archive}: refused to unpack '{shown(name)}': {why}")

    def path(self, name: str) -> Path:
        """Where a member goes. Odd characters in its name stay; what would lead out of the folder is refused."""
        self.members += 1
        if self.members > _MOST_MEMBERS:
            raise StageBenchError(f"{self.archive}: holds more than {_MOST_MEMBERS:,} files and folders; refused")
        parts = [part for part in re.split(r"[/\\]" if os.sep == "\\" else "/", name) if part not in ("", ".")]
        if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:[/\\]", name):
            raise self.refuse(name, "an absolute path")
        if ".." in re.split(r"[/\\]", name):
            raise self.refuse(name, "the path leads out of the folder")
        return self.folder.joinpath(*parts)

    def make_folder(self, name: str) -> None:
        try:
            self.path(name).mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise self.refuse(name, "it is a file as well") from None

    def write(self, name: str, file: IO[bytes] | gzip.GzipFile) -> None:
        path = self.path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as out:
                while chunk := file.read(_CHUNK):
                    self.left -= len(chunk)
                    if self.left < 0:
                        raise StageBenchError(f"{self.archive}: unpacks to more than {self.max_bytes:,} bytes; refused")
                    out.write(chunk)
        except (FileExistsError, NotADirectoryError):
            raise self.refuse(name, "the name stands there twice") from None


def _unzip(archive: Path, target: _Target) -> None:
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise target.refuse(member.filename, "a link or a device")
            if member.flag_bits & 1:
                raise target.refuse(member.filename, "encrypted")
            if member.is_dir():
                target.make_folder(member.filename)
            else:
                with file.open(member) as content:
                    target.write(member.filename, content)


def _untar(archive: Path, target: _Target) -> None:
    with _opened_tar(archive) as file:
        for member in file:
            file.members.clear()  # type: ignore[attr-defined]  # it would keep all of them
            if member.isdir():
                target.make_folder(member.name)
            elif member.isfile() and (content := file.extractfile(member)) is not None:
                target.write(member.name, content)
            else:
                raise target.refuse(member.name, "a link or a device")
