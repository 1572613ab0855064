"""`load_dataset`, and `read_rows`, the same rows without `datasets`."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sharegptvideo.errors import UserError, unknown_name
from sharegptvideo.schema import CONFIGS, VIDEO_PATH, Config
from sharegptvideo.sources import ReadReport, Row, Source, on_error_of, open_source

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

    from sharegptvideo.media.index_file import Stored

__all__ = [
    "MediaPaths",
    "config_of",
    "list_datasets",
    "load_dataset",
    "media_paths",
    "read_rows",
    "rows_of",
]

PathLike = str | os.PathLike[str]


def list_datasets() -> list[str]:
    """The names that `load_dataset` takes, training sets first."""
    return list(CONFIGS)


def config_of(name: str) -> Config:
    """A config by name.

    Raises:
        UserError: there is none; names the nearest.
    """
    if name not in CONFIGS:
        raise unknown_name("dataset", name, CONFIGS)
    return CONFIGS[name]


def load_dataset(
    name: str,
    split: str = "train",
    *,
    source: PathLike | None = None,
    media: PathLike | None = None,
    require_media: bool = False,
    streaming: bool = False,
    on_error: str = "raise",
    revision: str | None = None,
    report: ReadReport | None = None,
) -> Dataset | IterableDataset:
    """Load one split of a dataset, columns as in `sharegptvideo.schema`.

    Splits: training sets have `train` and `validation`, test sets have `test`;
    "train+validation" gives both. The release has no validation file, so about 1 % of the
    *videos* are held out by a hash of their stem, the same ones in every training set: no
    video of `validation` is in any `train`. A source with a `splits.json` of its own (the
    synthetic world) decides itself, and Parquet files are taken as they are named.

    Args:
        name: one of `list_datasets()`.
        split: as above.
        source: None for the release on the Hub, "synthetic" for a tiny world made on this
            machine, or a folder: the release layout, or Parquet made by this package.
        media: a folder with the videos; adds `video_path` (str, null where absent).
        require_media: leave out rows whose video is not there, or known to be unreadable: what
            the index of the folder lists (`sharegptvideo data status` makes it) and has not
            changed since. Rows that name no video stay. `report.without_media` has their ids.
        streaming: rows as they are read (`IterableDataset`) instead of a table on disk.
        on_error: "raise", or "skip" to list rows that break the schema and go on.
        revision: branch, tag or commit on the Hub.
        report: filled with what was skipped, repeated or not found. A streamed dataset fills
            only its own copy; it still warns at the end of a pass.

    Rows left out and videos not found are also told by a `DataWarning` with count and names.

    Raises:
        UserError: unknown name or split, no such source, a row that breaks the schema
            (FILE:LINE and cause), the Hub out of reach.
    """
    from sharegptvideo.builder import SharegptvideoBuilder
    from sharegptvideo.registration import NAME, TABLES_KEY
    from sharegptvideo.sources.synthetic import cache_folder

    config = config_of(name)
    splits = _split_names(config, split)
    builder = SharegptvideoBuilder(
        cache_dir=str(cache_folder() / "datasets"),
        dataset_name=NAME,
        config_name=name,
        hash=TABLES_KEY,
        data_dir=None if source is None else os.fspath(source),
        media=None if media is None else os.fspath(media),
        require_media=require_media,
        on_error=on_error,
        hub_revision=revision,
    )
    for name in splits:
        _check_there(config, builder.config.open(), name)
    if streaming:
        return builder.as_streaming_dataset(split)
    builder.download_and_prepare()
    dataset = builder.as_dataset(split)
    if report is not None:
        report.merge(builder.report)
    return dataset


def read_rows(
    name: str,
    source: PathLike | None = None,
    split: str = "train",
    *,
    media: PathLike | None = None,
    require_media: bool = False,
    on_error: str = "raise",
    revision: str | None = None,
    report: ReadReport | None = None,
    files: str | None = None,
) -> Iterator[Row]:
    """The rows of `load_dataset` as dicts, read as they are asked for, without `datasets`.

    Arguments and errors are those of `load_dataset`; names are checked at once, files when
    the first row is asked for. At the end a `DataWarning` tells what was left out. `files` is
    a name or pattern that takes some of a config's files in the release, not all.
    """
    from sharegptvideo.sources.parquet import ParquetSource

    config = config_of(name)
    splits = _split_names(config, split)
    if files is not None:
        config = replace(config, file=f"{config.file.rpartition('/')[0]}/{files}")
    opened = open_source(config, source, revision=revision)
    if files is not None and isinstance(opened, ParquetSource):
        raise UserError(f"files={files!r} takes files of the release; {source} holds Parquet")
    paths = media_paths(media, require_media)
    found = ReadReport() if report is None else report
    return _told(config, opened, splits, paths, on_error, found)


def _told(
    config: Config,
    source: Source,
    splits: list[str],
    media: MediaPaths | None,
    on_error: str,
    report: ReadReport,
) -> Iterator[Row]:
    try:
        for split in splits:
            part = ReadReport()
            try:
                yield from rows_of(config, source, split, media, on_error, part)
            finally:
                report.merge(part)
    finally:
        report.warn()


def rows_of(
    config: Config,
    source: Source,
    split: str,
    media: MediaPaths | None,
    on_error: str,
    report: ReadReport,
) -> Iterator[Row]:
    """The rows of one split of an open source: the path that every reader takes."""
    _check_there(config, source, split)
    for row in source.rows(config, split, on_error_of(on_error), report):
        if media is not None:
            path = media.find(row["video"], report)
            if not media.keeps(row["video"], path):
                report.without_media.append(row["id"])
                continue
            row[VIDEO_PATH] = path
        yield row


def _check_there(config: Config, source: Source, split: str) -> None:
    there = source.splits(config)
    if split not in there:
        raise UserError(f"{config.name} has no split {split!r} here (found: {', '.join(there)})")


def _split_names(config: Config, split: str) -> list[str]:
    names = [part.strip() for part in split.split("+")]
    for name in names:
        if name not in config.splits:
            raise unknown_name(f"split of {config.name}", name, config.splits)
    return names


def media_paths(media: PathLike | None, require: bool) -> MediaPaths | None:
    """What `media=` and `require_media=` ask for, or None where no paths are asked for.

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
        # The look-up table stays behind: a worker process makes its own.
        return MediaPaths, (self.root, self.require)
