"""The rows of a source with the paths of their videos: `media=` and `require_media=`."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sharegptvideo.data.schema import VIDEO_PATH, Config
from sharegptvideo.data.sources import ReadReport, Row, Source, on_error_of
from sharegptvideo.data.sources.base import Part, table_rows
from sharegptvideo.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

    from sharegptvideo.media.index import Stored

__all__ = ["MediaPaths", "PathLike", "check_split", "media_paths", "rows_of", "tables_of"]

PathLike = str | os.PathLike[str]


def rows_of(
    config: Config,
    source: Source,
    split: str,
    media: MediaPaths | None,
    on_error: str,
    report: ReadReport,
) -> Iterator[Row]:
    """Yield the rows of one split of an open source; paths are looked up row by row."""
    for table in tables_of(config, source, split, None, on_error, report):
        for row in table_rows(table):
            if media is not None:
                path = media.find(row["video"], report)
                if not media.keeps(row["video"], path):
                    report.without_media.append(row["id"])
                    continue
                row[VIDEO_PATH] = path
            yield row


def tables_of(
    config: Config,
    source: Source,
    split: str,
    media: MediaPaths | None,
    on_error: str,
    report: ReadReport,
    parts: list[Part] | None = None,
) -> Iterator[pa.Table]:
    """Yield the rows of one split of an open source as tables: what every reader takes."""
    check_split(config, source, split)
    tables = source.tables(config, [split], on_error_of(on_error), report, parts)
    for _, table in tables:
        rows = table if media is None else media.add_to(table, report)
        if rows.num_rows:
            yield rows


def check_split(config: Config, source: Source, split: str) -> None:
    """Make sure that a source has a split.

    Raises:
        UserError: it does not; names those that it has.
    """
    there = source.splits(config)
    if split not in there:
        raise UserError(f"{config.name} has no split {split!r} here (found: {', '.join(there)})")


def media_paths(media: PathLike | None, require: bool) -> MediaPaths | None:
    """Return what `media=` and `require_media=` ask for, or None where no paths are asked for.

    Raises:
        UserError: no such folder; `require_media` without a folder.
    """
    if media is not None:
        return MediaPaths(media, require)
    if require:
        raise UserError("require_media= needs media=, the folder with the videos")
    return None


class MediaPaths:
    """Paths of videos below a media folder; each stem is looked up once in a while.

    With `require`, a video that the folder's index lists as unreadable counts as absent.
    """

    def __init__(self, root: PathLike, require: bool = False) -> None:
        self.require = require
        # Absolute, so that a path stays right when the reader of the rows is elsewhere.
        self.root = Path(root).expanduser().absolute()
        if not self.root.is_dir():
            raise UserError(f"{root}: no such folder; media= is the folder with the videos")

    def find(self, video: str | None, report: ReadReport) -> str | None:
        """Path of a video's file or frame folder; null, and listed once, where it is absent."""
        if video is None:
            return None
        path: str | None = self._resolve(video)
        broken = path is not None and self.require and self._is_unreadable(path)
        if (path is None or broken) and video not in self._listed:
            self._listed.add(video)
            (report.unreadable_videos if broken else report.missing_videos).append(video)
        return None if broken else path

    def add_to(self, table: pa.Table, report: ReadReport) -> pa.Table:
        """Return a table with the column of paths, without the rows that are not kept."""
        import pyarrow as pa

        videos = table["video"].to_pylist()
        paths = [self.find(video, report) for video in videos]
        kept = [self.keeps(*pair) for pair in zip(videos, paths, strict=True)]
        table = table.append_column(VIDEO_PATH, pa.array(paths, pa.string()))
        if all(kept):
            return table
        report.without_media += (
            table["id"].filter(pa.array([not keep for keep in kept])).to_pylist()
        )
        return table.filter(kept)

    def keeps(self, video: str | None, path: str | None) -> bool:
        """Whether a row stays for which `find` gave `path`; one that names no video does."""
        return not self.require or video is None or path is not None

    def _is_unreadable(self, path: str) -> bool:
        known = self._unreadable.get(path)
        return known is not None and known.still_is(Path(path))

    @functools.cached_property
    def _unreadable(self) -> dict[str, Stored]:
        from sharegptvideo.media.index import known_unreadable

        return {str(self.root / path): clip for path, clip in known_unreadable(self.root).items()}

    @functools.cached_property
    def _listed(self) -> set[str]:
        return set()

    @functools.cached_property
    def _resolve(self) -> Callable[[str], str | None]:
        from sharegptvideo.media import MediaFolder

        folder = MediaFolder(self.root)

        @functools.lru_cache(maxsize=4096)
        def resolve(video: str) -> str | None:
            path = folder.resolve(video)
            return None if path is None else str(path)

        return resolve

    def __reduce__(self) -> tuple[type[MediaPaths], tuple[Path, bool]]:
        # The look-up table does not travel: a worker process makes its own.
        return MediaPaths, (self.root, self.require)
