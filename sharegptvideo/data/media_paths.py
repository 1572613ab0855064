"""The rows of a source with the paths of their media: `media=` and `require_media=`."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sharegptvideo.data.schema import PATHS, Config
from sharegptvideo.data.sources import ReadReport, Row, Source, on_error_of
from sharegptvideo.data.sources.base import Part, table_rows
from sharegptvideo.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

    from sharegptvideo.media import MediaFolder
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
                names = {name: [row[name]] for name in config.paths}
                paths, kept = media.look_up(names, report)
                if not kept[0]:
                    report.without_media.append(row["id"])
                    continue
                row |= {column: places[0] for column, places in paths.items()}
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
        raise UserError("require_media= needs media=, the folder with the videos and images")
    return None


class MediaPaths:
    """Paths of videos and images below a media folder; each name is looked up once in a while.

    With `require`, what the folder's index lists as unreadable counts as absent.
    """

    def __init__(self, root: PathLike, require: bool = False) -> None:
        self.require = require
        # Absolute, so that a path stays right when the reader of the rows is elsewhere.
        self.root = Path(root).expanduser().absolute()
        if not self.root.is_dir():
            what = "a file, not a folder" if self.root.exists() else "no such folder"
            raise UserError(f"{root}: {what}; media= is the folder with the media")

    def find(self, name: str | None, report: ReadReport, medium: str = "video") -> str | None:
        """Return the path of a "video" (a file or frame folder) or an "image".

        None, and listed once in `report`, where it is absent.
        """
        if name is None:
            return None
        path = self._resolve(medium, name)
        broken = path is not None and self.require and self._is_unreadable(path)
        if (path is None or broken) and (medium, name) not in self._listed:
            self._listed.add((medium, name))
            lists = {
                "video": (report.missing_videos, report.unreadable_videos),
                "image": (report.missing_images, report.unreadable_images),
            }
            lists[medium][broken].append(name)
            unlisted = self._videos.unlisted(name) if path is None and medium == "video" else None
            if unlisted is not None and unlisted not in report.unlisted_videos:
                report.unlisted_videos.append(unlisted)
            if path is None:
                self._note_link(medium, name, report)
        return None if broken else path

    def _note_link(self, medium: str, name: str, report: ReadReport) -> None:
        from sharegptvideo.media.folder import broken_link

        is_video = medium == "video"
        link = self._videos.broken_link(name) if is_video else broken_link(self.root, name)
        if link is not None and link not in report.broken_links:
            report.broken_links.append(link)

    def look_up(
        self, names: Mapping[str, Sequence[str | None]], report: ReadReport
    ) -> tuple[dict[str, list[str | None]], list[bool]]:
        """Return the columns of paths for rows, and which of the rows are kept.

        `names` are the columns that name media, one or both. A row that names nothing is kept;
        one whose medium is absent is not, with `require`.
        """
        paths = {
            PATHS[medium]: [self.find(name, report, medium) for name in column]
            for medium, column in names.items()
        }
        kept = [True] * len(next(iter(names.values())))
        for medium, column in names.items() if self.require else ():
            for number, (name, path) in enumerate(zip(column, paths[PATHS[medium]], strict=True)):
                kept[number] &= name is None or path is not None
        return paths, kept

    def add_to(self, table: pa.Table, report: ReadReport) -> pa.Table:
        """Return a table with the columns of paths, without the rows that are not kept."""
        import pyarrow as pa

        names = {name: table[name].to_pylist() for name in PATHS if name in table.column_names}
        paths, kept = self.look_up(names, report)
        for column, places in paths.items():
            table = table.append_column(column, pa.array(places, pa.string()))
        if all(kept):
            return table
        report.without_media += (
            table["id"].filter(pa.array([not keep for keep in kept])).to_pylist()
        )
        return table.filter(kept)

    def _is_unreadable(self, path: str) -> bool:
        known = self._unreadable.get(path)
        return known is not None and known.still_is(Path(path))

    @functools.cached_property
    def _unreadable(self) -> dict[str, Stored]:
        from sharegptvideo.media.index import known_unreadable

        return {str(self.root / path): clip for path, clip in known_unreadable(self.root).items()}

    @functools.cached_property
    def _listed(self) -> set[tuple[str, str]]:
        return set()

    @functools.cached_property
    def _videos(self) -> MediaFolder:
        from sharegptvideo.media import MediaFolder

        return MediaFolder(self.root)

    @functools.cached_property
    def _resolve(self) -> Callable[[str, str], str | None]:
        from sharegptvideo.media import ImageFolder

        find = {
            "video": self._videos.resolve,
            "image": ImageFolder(self.root).resolve,
        }

        @functools.lru_cache(maxsize=4096)
        def resolve(medium: str, name: str) -> str | None:
            path = find[medium](name)
            return None if path is None else str(path)

        return resolve

    def __reduce__(self) -> tuple[type[MediaPaths], tuple[Path, bool]]:
        # The look-up table does not travel: a worker process makes its own.
        return MediaPaths, (self.root, self.require)
