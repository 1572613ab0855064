"""An index of a media folder: which clips there are, how long, how large, which are broken.

Kept in one file and brought up to date by each `index_media`: a clip is opened again only if its
size or time has changed. A folder of frames has changed when its own time has, which is when a
frame was added, removed or renamed; frames written over in place are noticed with `fresh`.

The file is SQLite, beside the media or in the cache folder: a change of some clips writes those
clips only, a killed process leaves the last commit, two processes take turns, and anyone can look
inside. It needs no WAL, which network file systems do not bear.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sharegptvideo._concurrency import Progress, available_cores, no_progress
from sharegptvideo._io import cache_folder, os_error_words, os_errors
from sharegptvideo._sqlite import (
    Layout,
    OtherFileError,
    OtherVersionError,
    is_busy,
    open_sqlite,
    transaction,
)
from sharegptvideo.errors import UserError
from sharegptvideo.media.facts import ClipFacts, read_all_facts
from sharegptvideo.media.folder import ListedClip, MediaFolder, list_clips

__all__ = [
    "INDEX_NAME",
    "CannotWriteError",
    "Clip",
    "DamagedIndexError",
    "IndexFile",
    "MediaIndex",
    "Stored",
    "cached_index",
    "check_images",
    "index_media",
    "known_unreadable",
]

INDEX_NAME = "media_index.sqlite"

# A clip changed this recently may change again without a new time: file systems keep it to two
# seconds at worst (FAT), four milliseconds mostly.
_SETTLED_NS = 2_000_000_000
# What a kill costs at most, in seconds of work.
_COMMIT_S = 1.0

_MAGIC = b"SQLite format 3\0"
# "sgvm", at the place that SQLite keeps for the kind of a file.
_APPLICATION = 0x7367766D
_TABLE = """
CREATE TABLE IF NOT EXISTS clips (
    path TEXT PRIMARY KEY, stem TEXT NOT NULL, kind TEXT NOT NULL, bytes INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL, settled INTEGER NOT NULL, duration_s REAL, frames INTEGER,
    fps REAL, width INTEGER, height INTEGER, damage TEXT, error TEXT
) WITHOUT ROWID
"""
_LAYOUT = Layout((_TABLE,), version=1, application=_APPLICATION)
_PUT = f"INSERT OR REPLACE INTO clips VALUES ({', '.join('?' * 13)})"
_IS_IMAGE, _IS_CLIP = "kind = 'image'", "kind != 'image'"
_FACTS = "bytes, duration_s, frames, fps, width, height, damage, error"


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip of an index: its path below the root, "video" or "frames", and its facts.

    Still images, of kind "image", are in the file too, where `check_images` has looked at them.
    """

    path: str
    kind: str
    facts: ClipFacts

    @property
    def stem(self) -> str:
        """The path without a file's extension, by which rows name the clip."""
        return self.path if self.kind == "frames" else self.path.rpartition(".")[0]


@dataclass(frozen=True, slots=True)
class Stored:
    """What the index holds of a clip to notice that the clip has changed.

    `settled` is whether the clip had been left alone for a while when it was opened. One changed
    the moment before may change again within the same tick of the file system's clock.
    """

    kind: str
    bytes: int
    mtime_ns: int
    settled: bool
    error: str | None

    @property
    def is_file(self) -> bool:
        """Whether it is a file, whose size is compared as well."""
        return self.kind != "frames"

    def still_is(self, path: Path) -> bool:
        """Return whether the clip at `path` has the size and the time that it had."""
        try:
            status = path.stat()
        except OSError:
            return False
        same = not self.is_file or status.st_size == self.bytes
        return same and status.st_mtime_ns == self.mtime_ns


@dataclass(frozen=True, slots=True)
class MediaIndex:
    """The clips of a media folder, as they were at the time of `index_media`.

    Attributes:
        root: the media folder.
        file: where the index is kept.
        folder: finds clips by the rules of `MediaFolder`, without another walk.
        errors: why a clip cannot be read, by its path below the root.
        videos: how many clips are files.
        frame_folders: how many are folders of frames.
        opened: how many clips were opened, being new or changed.
        removed: how many were in the index and are gone.
    """

    root: Path
    file: Path
    folder: MediaFolder
    errors: dict[str, str]
    videos: int
    frame_folders: int
    opened: int
    removed: int

    def __len__(self) -> int:
        return self.videos + self.frame_folders

    def clips(self) -> Iterator[Clip]:
        """Yield every clip with its facts, read from the file, in the order of their paths."""
        with contextlib.closing(IndexFile(self.file, create=False)) as index:
            yield from index.clips()


def index_media(
    root: str | os.PathLike[str],
    *,
    workers: int | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
    now: Callable[[], float] = time.monotonic,
) -> MediaIndex:
    """Bring the index of a media folder up to date, and return it.

    It is kept in `media_index.sqlite` in the folder, or in the cache folder where the media may
    not be written. A killed run loses about a second of work. An index that is damaged is made
    again.

    Args:
        root: the media folder.
        workers: processes that open clips; as many as there are cores if None. With more than
            one, a script that calls this needs the usual `if __name__ == "__main__"`.
        fresh: open every clip, changed or not.
        progress: called with (done, total, what); a total of 0 means unknown.
        now: the clock, in seconds, by which what was opened is written about once a second.

    Raises:
        UserError: no such folder, a folder below it that cannot be listed, a full disk.
    """
    if workers is not None and workers < 1:
        raise UserError(f"the number of workers must be at least 1, got {workers}")
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise UserError(f"{root}: no such folder of media")
    show = progress or no_progress
    count = workers or available_cores()
    try:
        return _update(_open_index(folder), folder, count, fresh, show, now)
    except DamagedIndexError as error:
        error.path.unlink(missing_ok=True)
        return _update(_open_index(folder, seeded=False), folder, count, True, show, now)


def check_images(
    index: MediaIndex,
    images: Iterable[str],
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    now: Callable[[], float] = time.monotonic,
) -> dict[str, str]:
    """Return why images cannot be read, by their path below the index's root.

    Images are opened as the pictures of frame folders are: header and end of a plain JPEG,
    others are decoded. What was opened is kept in the index's file and opened again only if its
    size or time has changed.

    Args:
        index: of the media folder; an image is none of its clips.
        images: paths below its root, of files that are there.
        workers: as for `index_media`.
        progress: called with (done, total, what).
        now: as for `index_media`.

    Raises:
        UserError: as `index_media`; an image is gone by now.
    """
    errors: dict[str, str] = {}
    changed: dict[str, tuple[str, int, bool]] = {}
    begun = time.time_ns()
    with contextlib.closing(IndexFile(index.file)) as file:
        stored = file.stored("images")
        for path in dict.fromkeys(images):
            status = _status(index.root, path)
            known = stored.get(path)
            place = (status.st_size, status.st_mtime_ns)
            if known is None or not known.settled or place != (known.bytes, known.mtime_ns):
                settled = status.st_mtime_ns + _SETTLED_NS <= begun
                changed[path] = ("image", status.st_mtime_ns, settled)
            elif known.error is not None:
                errors[path] = known.error
        opened = read_all_facts(
            index.root, list(changed), workers or available_cores(), are_images=True
        )
        show = progress or no_progress
        for path, facts in _written(file, opened, changed, "images opened", show, now):
            if facts.error is not None:
                errors[path] = facts.error
    return errors


def known_unreadable(root: Path) -> dict[str, Stored]:
    """Return what the index of a folder, if there is one, lists as unreadable, by path.

    Nothing is opened or walked: compare size and time before believing it.
    """
    file = _newest_index(root)
    if file is None:
        return {}
    try:
        index = IndexFile(file, create=False)
    except (UserError, DamagedIndexError):
        return {}  # it is only a help here; `data status` says what is wrong with it
    with contextlib.closing(index):
        try:
            return index.stored("unreadable")
        except (CannotWriteError, DamagedIndexError):
            return {}  # as above; a file that another process holds is an error


def _update(
    index: IndexFile,
    root: Path,
    workers: int,
    fresh: bool,
    progress: Progress,
    now: Callable[[], float],
) -> MediaIndex:
    with contextlib.closing(index):
        stored = index.stored("clips")
        scan = _Scan(root, {} if fresh else stored, progress)
        _open_changed(index, scan, root, workers, progress, now)
        gone = stored.keys() - scan.paths
        if gone:
            index.write([], gone)
        videos = sum(clip.is_file for clip in scan.clips)
        return MediaIndex(
            root=root,
            file=index.path,
            folder=MediaFolder(root, scan.clips),
            errors=scan.errors,
            videos=videos,
            frame_folders=len(scan.clips) - videos,
            opened=len(scan.changed),
            removed=len(gone),
        )


class _Scan:
    """One walk over the folder, compared with what was stored."""

    def __init__(self, root: Path, stored: dict[str, Stored], progress: Progress) -> None:
        self.clips: list[ListedClip] = []
        self.paths: set[str] = set()
        self.changed: dict[str, tuple[str, int, bool]] = {}  # kind, mtime_ns, settled
        self.errors: dict[str, str] = {}
        self._begun = time.time_ns()
        self._stored = stored
        for clip, status in list_clips(root, self._still_frames):
            self._add(clip, status or _status(root, clip.path))
            if len(self.clips) % 1000 == 0:
                progress(len(self.clips), 0, "clips listed")
        progress(len(self.clips), len(self.clips), "clips listed")

    def _still_frames(self, path: str, status: os.stat_result) -> bool:
        known = self._stored.get(path)
        return (
            known is not None
            and not known.is_file
            and known.settled
            and known.mtime_ns == status.st_mtime_ns
        )

    def _add(self, clip: ListedClip, status: os.stat_result) -> None:
        self.clips.append(clip)
        self.paths.add(clip.path)
        known = self._stored.get(clip.path)
        if (
            known is None
            or not known.settled
            or known.is_file != clip.is_file
            or known.mtime_ns != status.st_mtime_ns
            or (clip.is_file and known.bytes != status.st_size)
        ):
            settled = status.st_mtime_ns + _SETTLED_NS <= self._begun
            kind = "video" if clip.is_file else "frames"
            self.changed[clip.path] = (kind, status.st_mtime_ns, settled)
        elif known.error is not None:
            self.errors[clip.path] = known.error


def _status(root: Path, path: str) -> os.stat_result:
    name = f"{root}/{path}"
    with os_errors(name, "run again", action="read"):
        return os.stat(name)  # noqa: PTH116 - as in `folder`: a Path each costs seconds


def _open_changed(
    index: IndexFile,
    scan: _Scan,
    root: Path,
    workers: int,
    progress: Progress,
    now: Callable[[], float],
) -> None:
    """Open the clips that are new or changed; add what is wrong with them to the scan."""
    opened = read_all_facts(root, list(scan.changed), workers)
    for path, facts in _written(index, opened, scan.changed, "clips opened", progress, now):
        if facts.error is not None:
            scan.errors[path] = facts.error


def _written(
    index: IndexFile,
    opened: Generator[tuple[str, ClipFacts]],
    places: dict[str, tuple[str, int, bool]],
    what: str,
    progress: Progress,
    now: Callable[[], float],
) -> Iterator[tuple[str, ClipFacts]]:
    """Yield paths and facts, and write them about once a second, with their `places`."""
    waiting: list[tuple[str, str, int, bool, ClipFacts]] = []
    last = now()
    try:
        # Closed here: an error's traceback would keep the workers busy.
        with contextlib.closing(opened):
            for done, (path, facts) in enumerate(opened, start=1):
                waiting.append((path, *places[path], facts))
                yield path, facts
                if now() - last >= _COMMIT_S:
                    index.write(waiting)
                    waiting, last = [], now()
                progress(done, len(places), what)
    finally:
        if waiting:  # also when interrupted: what was opened need not be again
            index.write(waiting)


class DamagedIndexError(Exception):
    """The file at `path` is an index of ours that SQLite cannot read; it can be made again."""

    def __init__(self, path: Path, cause: object) -> None:
        super().__init__(f"{path}: {cause}")
        self.path = path


class CannotWriteError(UserError):
    """The place does not take an index: no rights, a read-only disk, one without locks."""

    def __init__(self, path: Path, cause: object) -> None:
        super().__init__(f"{path}: cannot be written ({cause})", exit_code=1)


class IndexFile:
    """An open index. Errors of the disk and of the lock are `UserError`s that name the file.

    Raises:
        DamagedIndexError: the file is an index, and broken or of another version.
        UserError: the file cannot be made or written here, or is something else.
    """

    def __init__(self, path: Path, *, create: bool = True, wait_s: float = 60.0) -> None:
        """Open the file, or make it; where another process writes it, wait for `wait_s` seconds."""
        self.path = path
        self._wait_s = wait_s
        try:
            with self._sqlite_errors():
                self._base = open_sqlite(
                    path, _LAYOUT, create=create, must_write=create, wait_s=wait_s
                )
        except OtherVersionError as error:
            raise DamagedIndexError(path, "of another version") from error
        except OtherFileError as error:
            raise _not_ours(path) from error
        except DamagedIndexError as error:
            if not _has_mark(path):
                raise _not_ours(path) from error
            raise

    def stored(self, which: str) -> dict[str, Stored]:
        """Return the "clips", the "images" or what is "unreadable", by the path below the root."""
        conditions = {"images": _IS_IMAGE, "clips": _IS_CLIP, "unreadable": "error IS NOT NULL"}
        query = "SELECT path, kind, bytes, mtime_ns, settled, error FROM clips"
        query += f" WHERE {conditions[which]}"
        with self._sqlite_errors():
            return {
                _path_of(key): Stored(kind, size, mtime, bool(settled), error)
                for key, kind, size, mtime, settled, error in self._base.execute(query)
            }

    def clips(self) -> Iterator[Clip]:
        """Yield every clip in the order of the paths."""
        query = f"SELECT path, kind, {_FACTS} FROM clips WHERE {_IS_CLIP} ORDER BY path"
        with self._sqlite_errors():
            for key, kind, *facts in self._base.execute(query):
                yield Clip(_path_of(key), kind, ClipFacts(*facts))

    def write(
        self,
        clips: Iterable[tuple[str, str, int, bool, ClipFacts]],
        gone: Iterable[str] = (),
    ) -> None:
        """Put (path, kind, mtime_ns, settled, facts) and drop paths, all or nothing."""
        rows = []
        for path, kind, mtime, settled, facts in clips:
            clip = Clip(path, kind, facts)
            place = (_key(path), _key(clip.stem), clip.kind)
            rows.append((*place, facts.bytes, mtime, settled, *facts[1:]))
        with self._sqlite_errors(), transaction(self._base):
            self._base.executemany(_PUT, rows)
            self._base.executemany("DELETE FROM clips WHERE path = ?", ((_key(p),) for p in gone))

    def copy(self, other: IndexFile) -> None:
        """Replace what is here with what another index holds, all or nothing."""
        with self._sqlite_errors(), transaction(self._base):
            self._base.execute("DELETE FROM clips")
            self._base.executemany(_PUT, other._base.execute("SELECT * FROM clips"))

    def close(self) -> None:
        """Close the file; what was written is on disk already."""
        self._base.close()

    @contextlib.contextmanager
    def _sqlite_errors(self) -> Iterator[None]:
        """Turn SQLite's errors into ours."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in _BROKEN:
                raise DamagedIndexError(self.path, error) from error
            if code in _REFUSED:
                raise CannotWriteError(self.path, error) from error
            cause = f"cannot be written ({error}); free some space"
            if is_busy(error):
                cause = f"written by another process for {self._wait_s:g} s; wait for its end"
            raise UserError(
                f"{self.path}: {cause} and run again, what was finished is kept", exit_code=1
            ) from error


_BROKEN = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}
_REFUSED = {
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_PROTOCOL,
}


def cached_index(root: Path) -> Path:
    """Return where the index of media that may not be written lies: the cache folder."""
    key = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    return cache_folder() / "media" / f"{key}.sqlite"


def _newest_index(root: Path) -> Path | None:
    """Return the index of a media folder that was written last, or None."""
    there = [path for path in (root / INDEX_NAME, cached_index(root)) if path.is_file()]
    return max(there, key=lambda path: path.stat().st_mtime_ns, default=None)


def _open_index(root: Path, *, seeded: bool = True) -> IndexFile:
    """Open the index beside the media, or in the cache folder where that cannot be written.

    One in the cache folder starts from what lies beside the media, if `seeded`.
    """
    beside, cached = root / INDEX_NAME, cached_index(root)
    with contextlib.suppress(CannotWriteError):
        return IndexFile(beside)
    seeded = seeded and _newest_index(root) == beside
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWriteError(cached, os_error_words(error)) from error
    index = IndexFile(cached)
    if seeded:
        # One that cannot be read is no loss: the clips are opened anew.
        with (
            contextlib.suppress(UserError, DamagedIndexError),
            contextlib.closing(IndexFile(beside, create=False)) as other,
        ):
            index.copy(other)
    return index


def _has_mark(path: Path) -> bool:
    """Return whether a file that SQLite cannot read begins as our index, and may be remade."""
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except OSError as error:
        raise CannotWriteError(path, os_error_words(error)) from error
    return head[:16] == _MAGIC and int.from_bytes(head[68:72], "big") == _APPLICATION


def _not_ours(path: Path) -> UserError:
    return UserError(f"{path}: not a media index of this package; move it away and run again")


def _key(path: str) -> str | bytes:
    """Return a path as SQLite takes it: a name that is no Unicode goes in as its bytes."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


def _path_of(key: str | bytes) -> str:
    return os.fsdecode(key) if isinstance(key, bytes) else key
