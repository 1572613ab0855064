"""Unpack an archive from an untrusted place: nothing outside its folder, nothing without end.

Refused, with the entry's name: absolute paths, `..`, links that lead out of the folder, devices,
pipes and other special entries, entries below a link. Links and special entries of a tar archive
are looked at by `tarfile.data_filter` first; names, which it would rather change than refuse, and
what links do to one another are checked here. Of a zip archive, links of any kind are refused, and
so are encrypted entries, entries that share bytes, and a name that comes twice. Unpacking stops at
`Limits`. An archive that is cut off or damaged is an error even where tar would take what came
before for the whole.
"""

from __future__ import annotations

import errno
import gzip
import io
import itertools
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sharegptvideo._io import os_error_words
from sharegptvideo.errors import UserError

__all__ = ["ArchiveError", "Limits", "Unpacked", "first_file", "safe_parts", "unpack"]

_CHUNK = 1 << 16
_GZIP = b"\x1f\x8b"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # with entries and without
# Names, links and times of one entry take a few hundred bytes. tarfile reads such headers into
# memory whole and searches them with patterns that are quadratic in some Python versions.
_HEADER_BYTES = 16 << 10
# Small archives of empty files compress far better than any frames; they do no harm.
_RATIO_FROM = 64 << 20
# The end of a zip archive: a comment of up to 64 KiB after the records that end it.
_ZIP_TAIL = (1 << 16) + 256
_ZIP_HEADER = 30  # bytes before an entry's name and content
_ZIP_ENTRY = 400  # bytes an entry in the list at the end; a name of the images has about 100
_DEPTH = 64  # folders in folders: programs that walk through them have an end
_LONGEST_NAME = 200  # characters of an entry's name in a message
_SPECIAL = "a device, pipe or other special entry"
_BAD_NAMES = frozenset({errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ})

Tick = Callable[[int, int], None]
"""`tick(entries, bytes of the archive read)`, called after each entry."""
Read = Callable[[int], bytes]


class ArchiveError(UserError):
    """An archive that cannot or must not be unpacked: which, where in it, and why."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=1)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits at which unpacking one archive stops.

    `max_bytes` counts what is written, `max_entries` files, folders and links, and `max_ratio`
    is bytes unpacked to bytes of the archive, checked from 64 MiB on. Frames are JPEG files,
    which gzip cannot shrink: the release's chunks lie far below all three.
    """

    max_bytes: int = 64_000_000_000
    max_entries: int = 5_000_000
    max_ratio: int = 100


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What was unpacked: entries (folders included), bytes of their files, and the folder."""

    entries: int
    bytes: int
    folder: Path


def unpack(
    archive: Path,
    into: Path,
    limits: Limits | None = None,
    *,
    drop: frozenset[str] = frozenset(),
    label: str | None = None,
    tick: Tick | None = None,
) -> Unpacked:
    """Unpack a `.tar`, `.tar.gz` or `.zip` into a folder that is made here.

    Where all that the archive holds is one folder with a name in `drop`, that folder is the
    result, else `into` is. `label` is what messages call the archive, by default its path.
    Owners, rights and times of the archive are not taken over. A name that comes twice keeps
    its last content in a tar archive, as with tar. What was written stays after an error; the
    caller removes it.

    Raises:
        ArchiveError: the archive is cut off, damaged or neither tar nor zip; an entry is refused;
            a limit is reached. The message names the archive, and the entry where one is to blame.
        OSError: the disk's own errors, FileExistsError where `into` is there already.
    """
    into.mkdir(parents=True)
    limits = limits or Limits()
    label = label or str(archive)
    with archive.open("rb") as raw:
        start = raw.read(4)
        raw.seek(0)
        if start in _ZIP:
            return _unpack_zip(raw, _Output(label, into, limits), drop, tick)
        packed = start[:2] == _GZIP
        stream = gzip.GzipFile(fileobj=raw) if packed else raw
        guard = _Guard(label, stream, raw, limits.max_ratio)
        try:
            return _TarUnpacking(label, into, limits, guard=guard).run(drop, tick)
        except EOFError as error:
            raise ArchiveError(
                f"{label}: cut off (it ends before its end mark); nothing of it is kept"
            ) from error
        except (zlib.error, gzip.BadGzipFile, tarfile.TarError, ValueError) as error:
            raise ArchiveError(f"{label}: damaged or not a tar archive ({error})") from error
        except OSError as error:
            if error.errno not in _BAD_NAMES:
                raise
            raise ArchiveError(
                f"{label}: an entry's name is not possible here ({os_error_words(error)})"
            ) from error


def first_file(archive: Path) -> tuple[str, ...] | None:
    """Return the folders and name of the first file in an archive; None where it cannot be read.

    Little is read, and what is wrong with the archive is for `unpack` to say.
    """
    try:
        with archive.open("rb") as raw:
            start = raw.read(4)
            raw.seek(0)
            if start in _ZIP:
                return _first_in_zip(raw, str(archive))
            stream = gzip.GzipFile(fileobj=raw) if start[:2] == _GZIP else raw
            guard = _Guard(str(archive), stream, raw, max_ratio=100)
            guard.header_left = _HEADER_BYTES
            tar = tarfile.TarFile(fileobj=_as_file(guard), mode="r")
            while (member := tar.next()) is not None:
                if member.isreg():
                    return safe_parts(member.name)
                guard.header_left = _HEADER_BYTES
    except (
        *(OSError, EOFError, ValueError, LookupError, RuntimeError, struct.error, zlib.error),
        *(tarfile.TarError, zipfile.BadZipFile, ArchiveError),
    ):
        pass
    return None


def safe_parts(name: str) -> tuple[str, ...] | None:
    """Return the folders and the last name of a relative path; None where it may lead outside.

    `.` and empty parts are dropped, so "./" gives an empty tuple. Absolute paths, `..`, drive
    letters, backslashes and NUL are refused on every system, so a folder means the same on all.
    """
    if name.startswith("/") or "\\" in name or "\0" in name or name[1:2] == ":":
        return None
    parts = tuple(part for part in name.split("/") if part not in {"", "."})
    return None if ".." in parts else parts


@dataclass(eq=False)
class _Guard(io.IOBase):
    """The file that tarfile reads: forward only, a bounded header at a time, the ratio checked."""

    label: str
    stream: gzip.GzipFile | io.BufferedReader
    raw: io.BufferedReader
    max_ratio: int
    at: int = 0
    header_left: int | None = None
    last: bytes = b""

    def read(self, size: int) -> bytes:
        if self.header_left is not None:
            self.header_left -= size
            if size < 0 or self.header_left < 0:
                raise ArchiveError(
                    f"{self.label}: an entry's header is over {_HEADER_BYTES:,} bytes"
                )
        self.last = self.stream.read(size)
        self.at += len(self.last)
        self._check_ratio()
        return self.last

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_CUR and not position:  # asked for the position, as for each header
            return self.at
        if whence != os.SEEK_SET or position < self.at:
            raise ArchiveError(f"{self.label}: damaged (an entry with a negative size)")
        while self.at < position:
            got = self.stream.read(min(_CHUNK, position - self.at))
            if not got:
                break
            self.at += len(got)
            self._check_ratio()
        return self.at

    def _check_ratio(self) -> None:
        if self.at > _RATIO_FROM and self.at > self.max_ratio * self.raw.tell():
            raise _too_dense(self.label, self.max_ratio)


@dataclass(slots=True)
class _Output:
    """The folder that an archive is unpacked to: whatever its kind, the same guard."""

    label: str
    root: Path
    limits: Limits
    entries: int = 0
    bytes: int = 0
    folders: set[tuple[str, ...]] = field(default_factory=lambda: {()})
    tops: set[str] = field(default_factory=set)

    def parts_of(self, name: str) -> tuple[str, ...]:
        """Return the folders and the last name of an entry."""
        parts = safe_parts(name)
        if parts is None:
            raise self.refused(name, "its path leads outside the folder")
        if len(parts) > _DEPTH:
            raise self.refused(name, f"over {_DEPTH} folders deep")
        return parts

    def begin(self, parts: tuple[str, ...], name: str) -> None:
        """Make the folders of an entry that is none itself, and count it."""
        if not parts:
            raise self.refused(name, "a file without a name")
        self.make_folders(parts[:-1])
        self.tops.add(parts[0])
        self.count(name)

    def write(self, target: str, size: int, read: Read) -> None:
        """Write a new file of `size` bytes, which `read(count)` gives."""
        if self.bytes + size > self.limits.max_bytes:
            raise ArchiveError(
                f"{self.label}: unpacks to over {self.limits.max_bytes:,} bytes; stopped. "
                "If that is right for this archive, raise --max-bytes"
            )
        self.bytes += size
        left = size
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        with open(os.open(target, flags, 0o666), "wb", buffering=0) as file:  # noqa: PTH123  # of a descriptor
            while left:
                content = read(min(_CHUNK, left))
                if not content:
                    raise EOFError
                left -= len(content)
                _write_all(file, content)

    def make_folders(self, parts: tuple[str, ...]) -> None:
        """Make a folder and those above it; what we did not make as a folder is never entered."""
        if parts in self.folders:
            return
        self.make_folders(parts[:-1])
        self.count("/".join(parts))
        try:
            os.mkdir(self.path(parts))  # noqa: PTH102  # a million times
        except FileExistsError:
            raise self.refused("/".join(parts), "both a folder and something else") from None
        self.folders.add(parts)
        self.tops.add(parts[0])

    def count(self, name: str) -> None:
        """Count a file, folder or link."""
        self.entries += 1
        if self.entries > self.limits.max_entries:
            raise ArchiveError(
                f"{self.label}: over {self.limits.max_entries:,} entries (at {name!r}); stopped"
            )

    def folder(self, drop: frozenset[str]) -> Path:
        """Return the folder with the content: that of the only entry, if its name is in `drop`."""
        if len(self.tops) == 1 and self.tops & drop and (min(self.tops),) in self.folders:
            return self.root / min(self.tops)
        return self.root

    def path(self, parts: tuple[str, ...]) -> str:
        """Return the path of an entry."""
        return os.path.join(self.root, *parts)  # noqa: PTH118  # a million times

    def refused(self, name: str, why: str) -> ArchiveError:
        """Return the error about an entry that is not safe."""
        short = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"
        return ArchiveError(f"{self.label}: refused, {short!r} is not safe ({why})")


@dataclass(slots=True)
class _TarUnpacking(_Output):
    guard: _Guard = field(kw_only=True)
    links: set[tuple[str, ...]] = field(default_factory=set)

    def run(self, drop: frozenset[str], tick: Tick | None) -> Unpacked:
        self.guard.header_left = _HEADER_BYTES
        tar = tarfile.TarFile(fileobj=_as_file(self.guard), mode="r")
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # else a million entries stay in memory
            self.guard.header_left = None
            self._take(member)
            self.guard.header_left = _HEADER_BYTES
            if tick is not None:
                tick(self.entries, self.guard.raw.tell())
        self._check_end()
        folder = self.folder(drop)
        for parts in sorted(self.links):  # again: a later link may have turned an earlier one
            target = self.root.joinpath(*parts).readlink()
            self._check_link(folder, parts, str(target))
        return Unpacked(self.entries, self.bytes, folder)

    def _take(self, member: tarfile.TarInfo) -> None:
        parts = self.parts_of(member.name)
        if member.isdir():
            self.make_folders(parts)
            return
        self.begin(parts, member.name)
        if member.isreg() and not member.issparse():
            self.write(self._vacant(parts, member.name), member.size, self.guard.read)
            return
        try:
            tarfile.data_filter(member, str(self.root))
        except tarfile.SpecialFileError as error:
            raise self.refused(member.name, _SPECIAL) from error
        except tarfile.FilterError as error:
            place = "archive" if member.islnk() else "folder"
            why = f"links to {member.linkname!r}, outside the {place}"
            raise self.refused(member.name, why) from error
        if member.issym():
            self._check_link(self.root, parts, member.linkname)
            Path(self._vacant(parts, member.name)).symlink_to(member.linkname)
            self.links.add(parts)
        elif member.islnk():
            self._link(member, parts)
        else:
            raise self.refused(member.name, _SPECIAL)  # a sparse file, which tarfile passes

    def _link(self, member: tarfile.TarInfo, parts: tuple[str, ...]) -> None:
        """Give a file that came before a second name; never a link, never through one."""
        source = safe_parts(member.linkname)
        if not source or source[:-1] not in self.folders:
            raise self.refused(member.name, f"links to {member.linkname!r}, outside the archive")
        path = self.path(source)
        if os.path.islink(path) or not os.path.isfile(path):  # noqa: PTH113, PTH114  # quick
            raise self.refused(member.name, f"links to {member.linkname!r}, not a file before it")
        if source != parts:
            os.link(path, self._vacant(parts, member.name))

    def _check_link(self, folder: Path, parts: tuple[str, ...], target: str) -> None:
        # realpath and not Path.resolve: links in a circle are an error there, in some versions.
        root = os.path.realpath(folder)
        real = os.path.realpath(self.root.joinpath(*parts[:-1], target))
        inside = Path(real).is_relative_to(root)
        if not target or not inside:
            raise self.refused("/".join(parts), f"links to {target!r}, outside the folder")
        if Path(real).is_symlink():  # what is left of a circle
            raise self.refused("/".join(parts), f"links to {target!r}, in a circle")

    def _vacant(self, parts: tuple[str, ...], name: str) -> str:
        """Return the path of a new entry; an earlier one of that name is removed, if no folder."""
        path = self.path(parts)
        if os.path.lexists(path):
            if parts in self.folders:
                raise self.refused(name, "both a folder and something else")
            os.unlink(path)  # noqa: PTH108  # as above
            self.links.discard(parts)
        return path

    def _check_end(self) -> None:
        """Check for a block of zeros at the end; tarfile takes a broken header for one."""
        end = self.guard.last
        if end != bytes(tarfile.BLOCKSIZE):
            cause = "a broken header" if len(end) == tarfile.BLOCKSIZE else "no end mark, cut off?"
            raise ArchiveError(f"{self.label}: damaged at byte {self.guard.at:,} ({cause})")
        self.guard.header_left = None
        while rest := self.guard.read(_CHUNK):  # reads on to the checksum of the gzip stream
            if rest.strip(b"\0"):
                raise ArchiveError(f"{self.label}: more data after the end of the archive")


def _too_dense(label: str, max_ratio: int) -> ArchiveError:
    return ArchiveError(
        f"{label}: unpacks to over {max_ratio} times its size; "
        "stopped, such an archive is made to fill disks"
    )


def _write_all(file: io.FileIO, content: bytes) -> None:
    written = file.write(content)
    while written < len(content):  # a disk that is nearly full takes a part, then says so
        more = file.write(content[written:])
        if not more:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written += more


def _unpack_zip(
    raw: io.BufferedReader, out: _Output, drop: frozenset[str], tick: Tick | None
) -> Unpacked:
    """Unpack a zip archive; see `unpack`."""
    try:
        _check_directory(raw, out.label, out.limits)
        with zipfile.ZipFile(raw) as archive:
            _check_zip(raw, archive.infolist(), out)
            read = 0
            for info in archive.infolist():
                _take_from_zip(archive, info, out)
                read += info.compress_size
                if tick is not None:
                    tick(out.entries, read)
    except EOFError as error:
        raise ArchiveError(f"{out.label}: cut off; nothing of it is kept") from error
    except (
        *(zipfile.BadZipFile, zlib.error, struct.error, ValueError, LookupError),
        RuntimeError,  # zipfile's for features it does not know
    ) as error:
        raise ArchiveError(f"{out.label}: damaged or cut off ({error})") from error
    except OSError as error:
        if error.errno not in _BAD_NAMES:
            raise
        raise ArchiveError(
            f"{out.label}: an entry's name is not possible here ({os_error_words(error)})"
        ) from error
    return Unpacked(out.entries, out.bytes, out.folder(drop))


def _first_in_zip(raw: io.BufferedReader, label: str) -> tuple[str, ...] | None:
    _check_directory(raw, label, Limits())
    with zipfile.ZipFile(raw) as archive:
        names = (info.orig_filename for info in archive.infolist() if not info.is_dir())
        return safe_parts(next(names, ""))


def _check_directory(raw: io.BufferedReader, label: str, limits: Limits) -> None:
    """Refuse a list of entries that would fill the memory: zipfile reads it whole."""
    size = raw.seek(0, os.SEEK_END)
    raw.seek(max(0, size - _ZIP_TAIL))
    tail = raw.read()
    place = tail.rfind(b"PK\x05\x06")
    if place < 0 or place + 22 > len(tail):
        raise EOFError  # the list stands at the end
    listed = struct.unpack_from("<L", tail, place + 12)[0]
    if place >= 76 and tail[place - 20 : place - 16] == b"PK\x06\x07":  # a large archive
        listed = struct.unpack_from("<Q", tail, place - 36)[0]
    if size >= listed > limits.max_entries * _ZIP_ENTRY:
        raise ArchiveError(f"{label}: a list of entries of {listed:,} bytes; stopped")


def _check_zip(raw: io.BufferedReader, infos: list[zipfile.ZipInfo], out: _Output) -> None:
    """Refuse, before anything is written, what the list of entries shows."""
    if len(infos) > out.limits.max_entries:
        raise ArchiveError(f"{out.label}: over {out.limits.max_entries:,} entries; stopped")
    names: set[str] = set()
    for info in infos:
        name = info.orig_filename  # before zipfile cuts it at a NUL
        kind = stat.S_IFMT(info.external_attr >> 16)
        if stat.S_ISLNK(kind):
            raise out.refused(name, "a link; of a zip archive none is made")
        if kind and not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise out.refused(name, _SPECIAL)
        if info.flag_bits & 1:
            raise ArchiveError(f"{out.label}: {name!r} is encrypted; such an archive is not taken")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ArchiveError(
                f"{out.label}: {name!r} is packed by method {info.compress_type}; "
                "only deflate (8) is taken"
            )
        if name in names:
            raise out.refused(name, "the name comes twice")
        names.add(name)
    places = sorted((info.header_offset, info.compress_size) for info in infos)
    for (start, size), (following, _) in itertools.pairwise(places):
        if start + _ZIP_HEADER + size > following:
            raise ArchiveError(f"{out.label}: entries share bytes, such an archive fills disks")
    total = sum(info.file_size for info in infos)
    packed = os.fstat(raw.fileno()).st_size
    if total > _RATIO_FROM and total > out.limits.max_ratio * packed:
        raise _too_dense(out.label, out.limits.max_ratio)


def _take_from_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo, out: _Output) -> None:
    name = info.orig_filename
    parts = out.parts_of(name)
    if name.endswith("/"):
        out.make_folders(parts)
        return
    out.begin(parts, name)
    with archive.open(info) as content:
        try:
            out.write(out.path(parts), info.file_size, content.read)
        except FileExistsError:
            # No name comes twice: a folder, or one that differs by its case where that is one.
            raise out.refused(name, "another entry has its place on this disk") from None
        if content.read(1):  # reads on to the checksum
            raise ArchiveError(f"{out.label}: {name!r} holds more than it says")


def _as_file(guard: _Guard) -> Any:
    return guard  # tarfile needs read and seek; its stub asks for more
