"""An index of a media folder: which clips there are, how long, how large, which are broken.

Kept in one file and brought up to date by each `index_media`: a clip is opened again only if its
size or time has changed. A folder of frames has changed when its own time has, which is when a
frame was added, removed or renamed; frames written over in place are noticed with `fresh`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sharegptvideo._concurrency import Progress, available_cores
from sharegptvideo._io import os_errors
from sharegptvideo.errors import UserError
from sharegptvideo.media.facts import ClipFacts
from sharegptvideo.media.finding import FoundClip, MediaFolder, list_clips
from sharegptvideo.media.index_file import (
    CannotWriteError,
    DamagedIndexError,
    IndexFile,
    Stored,
    newest_index,
    open_index,
)
from sharegptvideo.media.opening import open_clips

__all__ = ["Clip", "MediaIndex", "index_media", "known_unreadable"]


# A clip changed this recently may change again without a new time: file systems keep it to two
# seconds at worst (FAT), four milliseconds mostly.
_SETTLED_NS = 2_000_000_000
# What a kill costs at most, in seconds of work.
_COMMIT_S = 1.0


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip of an index: its path below the root, "video" or "frames", and its facts."""

    path: str
    kind: str
    facts: ClipFacts

    @property
    def stem(self) -> str:
        """The path without a file's extension: what rows call the clip by."""
        return self.path.rpartition(".")[0] if self.kind == "video" else self.path


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

    def __init__(
        self,
        root: Path,
        file: Path,
        found: list[FoundClip],
        errors: dict[str, str],
        opened: int,
        removed: int,
    ) -> None:
        self.root = root
        self.file = file
        self.folder = MediaFolder(root, found)
        self.errors = errors
        self.videos = sum(clip.is_file for clip in found)
        self.frame_folders = len(found) - self.videos
        self.opened = opened
        self.removed = removed

    def __len__(self) -> int:
        return self.videos + self.frame_folders

    def clips(self) -> Iterator[Clip]:
        """Every clip with its facts, read from the file, in the order of their paths."""
        index = IndexFile(self.file, create=False)
        try:
            for path, is_file, facts in index.facts():
                yield Clip(path, "video" if is_file else "frames", facts)
        finally:
            index.close()


def index_media(
    root: str | os.PathLike[str],
    *,
    workers: int | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
    now: Callable[[], float] = time.monotonic,
) -> MediaIndex:
    """Bring the index of a media folder up to date, and give it.

    It is kept in `media_index.sqlite` in the folder, or in the cache folder where the media may
    not be written. A killed run loses about a second of work. An index that is damaged is made
    again.

    Args:
        root: the media folder.
        workers: processes that open clips; as many as there are cores if None. With more than
            one, a script that calls this needs the usual `if __name__ == "__main__"`.
        fresh: open every clip, changed or not.
        progress: called with (done, total, what); a total of 0 means unknown.
        now: the clock, in seconds, by which the index is committed about once a second.

    Raises:
        UserError: no such folder, a folder below it that cannot be listed, a full disk.
    """
    if workers is not None and workers < 1:
        raise UserError(f"cannot work with {workers} workers; ask for 1 or more")
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise UserError(f"{root}: no such folder of media")
    tell = progress or (lambda _done, _total, _what: None)
    count = workers or available_cores()
    try:
        return _update(open_index(folder), folder, count, fresh, tell, now)
    except DamagedIndexError as error:
        error.path.unlink(missing_ok=True)
        return _update(open_index(folder, seeded=False), folder, count, True, tell, now)


def known_unreadable(root: Path) -> dict[str, Stored]:
    """Clips that the index of a folder, if there is one, lists as unreadable, by path.

    Nothing is opened or walked: compare size and time before believing it.
    """
    path = newest_index(root)
    if path is None:
        return {}
    try:
        index = IndexFile(path, create=False)
    except (UserError, DamagedIndexError):
        return {}  # it is only a help here; `data status` says what is wrong with it
    try:
        return index.stored(unreadable=True)
    except (CannotWriteError, DamagedIndexError):
        return {}
    finally:
        index.close()


def _update(
    index: IndexFile,
    root: Path,
    workers: int,
    fresh: bool,
    progress: Progress,
    now: Callable[[], float],
) -> MediaIndex:
    try:
        stored = index.stored()
        scan = _Scan(root, {} if fresh else stored, progress)
        errors = scan.errors
        writer = _Writer(index, scan, now)
        total = len(scan.changed)
        try:
            # Closed here: an error's traceback would keep the workers busy.
            with contextlib.closing(open_clips(root, list(scan.changed), workers)) as opened:
                for path, facts in opened:
                    writer.add(path, facts)
                    if facts.error is not None:
                        errors[path] = facts.error
                    progress(writer.done, total, "clips opened")
        finally:
            writer.flush()  # also when interrupted: what was opened need not be again
        gone = stored.keys() - scan.paths
        if gone:
            index.write([], gone)
        return MediaIndex(root, index.path, scan.found, errors, total, len(gone))
    finally:
        index.close()


class _Scan:
    """One walk over the folder, held against what was stored."""

    def __init__(self, root: Path, stored: dict[str, Stored], progress: Progress) -> None:
        self.found: list[FoundClip] = []
        self.paths: set[str] = set()
        self.changed: dict[str, tuple[bool, int, bool]] = {}  # is a file, mtime_ns, settled
        self.errors: dict[str, str] = {}
        self._begun = time.time_ns()
        self._stored = stored
        for clip, status in list_clips(root, self._still_frames):
            self._add(clip, status or _status(root, clip.path))
            if len(self.found) % 1000 == 0:
                progress(len(self.found), 0, "clips listed")
        progress(len(self.found), len(self.found), "clips listed")

    def _still_frames(self, path: str, status: os.stat_result) -> bool:
        known = self._stored.get(path)
        return (
            known is not None
            and not known.is_file
            and known.settled
            and known.mtime_ns == status.st_mtime_ns
        )

    def _add(self, clip: FoundClip, status: os.stat_result) -> None:
        self.found.append(clip)
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
            self.changed[clip.path] = (clip.is_file, status.st_mtime_ns, settled)
        elif known.error is not None:
            self.errors[clip.path] = known.error


def _status(root: Path, path: str) -> os.stat_result:
    name = f"{root}/{path}"
    with os_errors(name, "run again", action="read"):
        return os.stat(name)  # noqa: PTH116 - as in `finding`: a Path each costs seconds


class _Writer:
    """Collects what was opened and commits it about once a second."""

    def __init__(self, index: IndexFile, scan: _Scan, now: Callable[[], float]) -> None:
        self.done = 0
        self._now = now
        self._index = index
        self._changed = scan.changed
        self._waiting: list[tuple[str, bool, int, bool, ClipFacts]] = []
        self._last = self._now()

    def add(self, path: str, facts: ClipFacts) -> None:
        self.done += 1
        self._waiting.append((path, *self._changed[path], facts))
        if self._now() - self._last >= _COMMIT_S:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            self._index.write(self._waiting)
            self._waiting = []
        self._last = self._now()
