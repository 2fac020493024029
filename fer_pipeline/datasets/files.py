"""Image files by number, in a folder or inside a .zip that is never unpacked."""

from __future__ import annotations

import hashlib
import os
import struct
import weakref
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from typing import Protocol

from fer_pipeline.errors import UserError

IMAGE_SUFFIXES: tuple[str, ...] = (".jpg", ".jpeg", ".png", ".bmp", ".gif")


class Files(Protocol):
    """A numbered sequence of files."""

    def __len__(self) -> int: ...

    def name(self, i: int) -> str:
        """What to call file ``i`` in a message."""

    def read(self, i: int) -> bytes:
        """The bytes of file ``i``; safe to call from several threads.

        Raises:
          UserError: the file is gone, may not be read or is damaged in its archive.
        """


class FolderFiles:
    """Files below a folder, by their paths relative to it."""

    def __init__(self, root: str | os.PathLike[str], names: Sequence[str]):
        self._root = os.fspath(root)
        self._names = names

    def __len__(self) -> int:
        return len(self._names)

    def name(self, i: int) -> str:
        return os.path.join(self._root, self._names[i])

    def read(self, i: int) -> bytes:
        try:
            with open(self.name(i), "rb", buffering=0) as file:
                return file.readall()
        except OSError as error:
            raise UserError(f"{self.name(i)}: {error.strerror}; {_WAY_OUT}") from error


class ZipFiles:
    """Members of a .zip, read in place.

    ``zipfile`` reads one member at a time, since all share one file position. Positioned reads
    need no lock, so that threads can read and inflate side by side.
    """

    def __init__(self, path: str | os.PathLike[str], members: Sequence[zipfile.ZipInfo]):
        self._path = os.fspath(path)
        self._members = members
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)

    def __len__(self) -> int:
        return len(self._members)

    def name(self, i: int) -> str:
        return os.path.join(self._path, self._members[i].filename)

    def read(self, i: int) -> bytes:
        member = self._members[i]
        try:
            header = os.pread(self._descriptor, 30, member.header_offset)
            # The local header repeats the name, and may have other extra fields than the
            # central directory.
            magic, *_, name_size, extra_size = struct.unpack("<4s22xHH", header)
            start = member.header_offset + 30 + name_size + extra_size
            data = os.pread(self._descriptor, member.compress_size, start)
            if member.compress_type == zipfile.ZIP_DEFLATED:
                data = zlib.decompress(data, -zlib.MAX_WBITS, max(member.file_size, 1))
        except (OSError, struct.error, zlib.error) as error:
            raise self._damaged(i) from error
        if magic != b"PK\x03\x04" or zlib.crc32(data) != member.CRC:
            raise self._damaged(i)
        return data

    def _damaged(self, i: int) -> UserError:
        return UserError(f"{self.name(i)}: damaged in the archive (wrong checksum); {_WAY_OUT}")


_WAY_OUT = "restore or remove it, or pass --on_bad_image=skip"


def is_image(name: str) -> bool:
    """Whether a relative path (``/`` between parts) is an image and not a system's debris."""
    parts = name.split("/")
    if any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return False
    return parts[-1].lower().endswith(IMAGE_SUFFIXES)


def open_zip(path: str | os.PathLike[str]) -> list[zipfile.ZipInfo]:
    """The members of a .zip.

    Raises:
      UserError: it is no zip file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, zlib.error, struct.error) as error:
        raise UserError(
            f"{path}: not a readable .zip file (an incomplete download?); fetch it again"
        ) from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; check the path and its permissions") from error


def check_readable(path: str | os.PathLike[str], members: Iterable[zipfile.ZipInfo]) -> None:
    """Checks that members are neither encrypted nor compressed in an uncommon way.

    Raises:
      UserError: one is; names the archive.
    """
    for member in members:
        if member.flag_bits & 1:
            raise UserError(
                f"{path}: encrypted; unpack it with its password and pass the folder instead"
            )
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UserError(
                f"{path}: {member.filename} is neither stored nor deflated; "
                "unpack the archive and pass the folder instead"
            )


def folder_digest(root: str | os.PathLike[str], names: Iterable[str]) -> str:
    """SHA-256 over the relative path, size and modification time of files, as hex digits."""
    digest = hashlib.sha256()
    for name in sorted(names):
        status = os.stat(os.path.join(root, name))
        digest.update(os.fsencode(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n"))
    return digest.hexdigest()


def zip_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 over the names, sizes and checksums of a .zip's members, as hex digits.

    They stand in the central directory at the end of the file, and hashing that as it is takes a
    hundredth of the time that parsing it would.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        # The end record has 22 bytes and a comment of up to 65,535.
        tail_start = max(0, size - 22 - 65_535)
        file.seek(tail_start)
        tail = file.read()
        end = tail.rfind(b"PK\x05\x06")
        if 0 <= end <= len(tail) - 22:
            (start,) = struct.unpack_from("<I", tail, end + 16)
            # Beyond 4 GiB the offset stands elsewhere, and here is a marker.
            if start < 0xFFFFFFFF and start <= tail_start + end:
                file.seek(start)
                return hashlib.sha256(file.read()).hexdigest()
    members = "\n".join(f"{m.filename}\0{m.file_size}\0{m.CRC}" for m in open_zip(path))
    return hashlib.sha256(members.encode("utf-8", "surrogateescape")).hexdigest()


def head_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 over a file's size, modification time and first 64 KiB, as hex digits."""
    status = os.stat(path)
    digest = hashlib.sha256(f"{status.st_size}\0{status.st_mtime_ns}\n".encode())
    with open(path, "rb") as file:
        digest.update(file.read(65_536))
    return digest.hexdigest()
