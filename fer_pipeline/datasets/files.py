"""Files in a folder, or inside a .zip that is never unpacked, addressed by number."""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence

from fer_pipeline import pictures
from fer_pipeline.errors import UserError
from fer_pipeline.pictures import MAX_BYTES

#: Suffixes of images. Of a file with another suffix the first bytes are read.
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".png", ".bmp", ".dib", ".gif"),
    *(".webp", ".tif", ".tiff"),
)

#: Suffixes of images that are read where the extra ``images`` is installed.
HEIF_SUFFIXES = (".heic", ".heif")

#: Files and folders that operating systems create, besides names that begin with a dot.
_SYSTEM_FILES = frozenset(
    "__macosx thumbs.db ehthumbs.db desktop.ini @eadir #recycle @recycle $recycle.bin".split()
)

#: Bit of a member's flags: its name is UTF-8. Source: PKWARE's APPNOTE.TXT, 4.4.4, bit 11.
_UTF8 = 0x800

_WAY_OUT = "restore or remove it, or pass --on_bad_image=skip"


class FolderFiles:
    """Files below a folder, by their paths relative to it.

    ``name`` returns a file's printable name for messages, ``path`` the same without the folder.
    ``read`` returns its bytes, or the first ``most`` of them, and may be called from several
    threads.

    Raises:
      UserError: a file is gone, too large, may not be read or is damaged in its archive.
    """

    def __init__(self, root: str | os.PathLike[str], names: Sequence[str]):
        self._root = os.fspath(root)
        self._names = names

    def name(self, i: int) -> str:
        return printable(os.path.join(self._root, self._names[i]))

    def path(self, i: int) -> str:
        return printable(self._names[i])

    def read(self, i: int, most: int | None = None) -> bytes:
        try:
            path = os.path.join(self._root, self._names[i])
            # Without O_NONBLOCK a pipe would be waited for.
            with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                if size > MAX_BYTES:
                    raise _too_large(self.name(i))
                return file.read(size if most is None else most)
        except OSError as error:
            raise UserError(f"{self.name(i)}: {error.strerror}; {_WAY_OUT}") from error


class ZipFiles:
    """Members of a .zip, read in place; the interface is that of ``FolderFiles``.

    ``zipfile`` reads one member at a time, since all share one file position. Positioned reads
    need no lock, so threads can read and inflate in parallel.
    """

    def __init__(self, path: str | os.PathLike[str], members: Sequence[zipfile.ZipInfo]):
        check_readable(path, members)
        self._path = os.fspath(path)
        self._members = members
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)

    def name(self, i: int) -> str:
        return printable(os.path.join(self._path, self._members[i].filename))

    def path(self, i: int) -> str:
        return printable(self._members[i].filename)

    def read(self, i: int, most: int | None = None) -> bytes:
        member = self._members[i]
        size = member.file_size
        if max(size, member.compress_size) > MAX_BYTES:
            raise _too_large(self.name(i))
        try:
            header = os.pread(self._descriptor, 30, member.header_offset)
            # The local header repeats the name, and may have other extra fields than the
            # central directory.
            magic, *_, name_size, extra_size = struct.unpack("<4s22xHH", header)
            start = member.header_offset + 30 + name_size + extra_size
            data = os.pread(self._descriptor, member.compress_size, start)
            if member.compress_type == zipfile.ZIP_DEFLATED:
                # At most the size in the directory, and one byte that shows if there are more.
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)
        except (OSError, OverflowError, struct.error, zlib.error) as error:
            raise self._damaged(i) from error
        if magic != b"PK\x03\x04" or len(data) != size or zlib.crc32(data) != member.CRC:
            raise self._damaged(i)
        return data[:most]

    def _damaged(self, i: int) -> UserError:
        return UserError(f"{self.name(i)}: damaged in the archive (wrong checksum); {_WAY_OUT}")


#: A numbered sequence of files.
Files = FolderFiles | ZipFiles


def _too_large(name: str) -> UserError:
    return UserError(f"{name}: larger than {MAX_BYTES // 2**20} MiB, which no face is; {_WAY_OUT}")


def printable(name: str) -> str:
    """A file's name on one line, with ``\\xff`` in place of bytes that are not UTF-8."""
    text = name if name.isascii() else os.fsencode(name).decode(errors="backslashreplace")
    return text if text.isprintable() else repr(text)[1:-1]


def is_system_file(name: str) -> bool:
    """Whether a relative path (``/`` between parts) is hidden or made by an operating system."""
    return "/." in f"/{name}" or not _SYSTEM_FILES.isdisjoint(name.lower().split("/"))


def is_image(name: str, files_of: Callable[[Sequence[str]], Files]) -> bool:
    """Whether a path has the suffix of an image, or else its file begins as an image does.

    Args:
      name: the path.
      files_of: opens the files of given paths.
    """
    suffixes = IMAGE_SUFFIXES + (HEIF_SUFFIXES if pictures.reads_heif() else ())
    if name.lower().endswith(suffixes):
        return True
    with contextlib.suppress(UserError):
        return pictures.is_readable(
            pictures.format_of(files_of([name]).read(0, pictures.MAGIC_BYTES))
        )
    return False


def open_zip(path: str | os.PathLike[str]) -> list[zipfile.ZipInfo]:
    """Lists the members of a .zip, their names with ``/`` and without ``./``.

    Raises:
      UserError: it is not a zip file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; check the path and its permissions") from error
    except Exception as error:  # A damaged directory makes ``zipfile`` raise many kinds.
        raise UserError(
            f"{path}: not a readable .zip file (an incomplete download?); fetch it again"
        ) from error
    for member in members:
        name = _name(member).replace("\\", "/")
        while name.startswith("./"):
            name = name[2:].lstrip("/")
        member.filename = name
    return members


def _name(member: zipfile.ZipInfo) -> str:
    """The name of a member; macOS writes UTF-8 without the flag that says so.

    ``zipfile`` then reads code page 437, in which hardly any text happens to be UTF-8.
    """
    if not member.flag_bits & _UTF8:
        with contextlib.suppress(UnicodeError):
            return member.filename.encode("cp437").decode()
    return member.filename


def check_readable(path: str | os.PathLike[str], members: Iterable[zipfile.ZipInfo]) -> None:
    """Checks that members are not encrypted, and stored or deflated.

    Raises:
      UserError: one is not; names the archive.
    """
    for member in members:
        if member.flag_bits & 1:
            raise UserError(
                f"{path}: encrypted; unpack it with its password and pass the folder instead"
            )
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UserError(
                f"{path}: {printable(member.filename)} is neither stored nor deflated; "
                "unpack the archive and pass the folder instead"
            )


def digest(root: str | os.PathLike[str], names: Iterable[str]) -> str:
    """SHA-256 over the paths, sizes, times and inodes of files in a folder, as hex digits.

    It includes ctime, which no program can set. Files that do not exist, such as the targets of
    dangling links, are included by their paths alone.
    """
    found = hashlib.sha256()
    for name in sorted(names):
        state = ()
        with contextlib.suppress(OSError):
            status = os.stat(os.path.join(root, name))
            state = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        found.update(os.fsencode(f"{name}\0{state}\n"))
    return found.hexdigest()


def zip_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 over the names, sizes and checksums of a .zip's members, as hex digits.

    They are in the central directory at the end of the file. Hashing its bytes takes a hundredth of
    the time of parsing it.

    Raises:
      UserError: it is not a zip file.
    """
    with contextlib.suppress(OSError, ValueError, struct.error), open(path, "rb") as file:
        # The end record has 22 bytes and a comment of up to 65,535.
        tail_start = max(0, os.path.getsize(path) - 22 - 65_535)
        file.seek(tail_start)
        tail = file.read()
        end = tail.rindex(b"PK\x05\x06")
        (start,) = struct.unpack_from("<I", tail, end + 16)
        # Beyond 4 GiB the offset is stored elsewhere, and this is a marker.
        if start <= tail_start + end and start < 0xFFFFFFFF:
            file.seek(start)
            return hashlib.sha256(file.read()).hexdigest()
    members = "\n".join(f"{m.filename}\0{m.file_size}\0{m.CRC}" for m in open_zip(path))
    return hashlib.sha256(members.encode("utf-8", "surrogateescape")).hexdigest()
