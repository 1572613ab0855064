"""`load_dataset`, and `read_rows`, the same rows without `datasets`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from sharegptvideo.data.media_paths import MediaPaths, PathLike, check_split, media_paths, rows_of
from sharegptvideo.data.schema import CONFIGS, Config, config_of
from sharegptvideo.data.sources import ReadReport, Row, Source, open_source
from sharegptvideo.errors import UserError, unknown_name

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

__all__ = ["list_datasets", "load_dataset", "read_rows"]


def list_datasets() -> list[str]:
    """Return the names that `load_dataset` takes, training sets first."""
    return list(CONFIGS)


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
    """Load one split of a dataset, columns as in `sharegptvideo.data.schema`.

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
        media: a folder with the videos and images; adds `video_path` and, to datasets with
            images, `image_path` (str, null where absent).
        require_media: leave out rows whose video or image is not there, or known to be
            unreadable: what the index of the folder lists (`sharegptvideo data status` makes
            it) and has not changed since. Rows that name neither stay.
            `report.without_media` has their ids.
        streaming: rows as they are read (`IterableDataset`) instead of a table on disk.
        on_error: "raise", or "skip" to list rows that break the schema and go on.
        revision: branch, tag or commit on the Hub.
        report: filled with what was skipped, repeated or not found. A streamed dataset fills
            only its own copy; it still warns at the end of a pass.

    Rows left out, and videos and images not found, are also reported by a `DataWarning` with
    count and names.

    Raises:
        UserError: unknown name or split, no such source, a row that breaks the schema
            (FILE:LINE and cause), the Hub out of reach.
    """
    from sharegptvideo._io import cache_folder
    from sharegptvideo.data.builder import SharegptvideoBuilder
    from sharegptvideo.data.registration import NAME, TABLES_KEY

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
        check_split(config, builder.config.open(), name)
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
    """Return the rows of `load_dataset` as dicts, read as they are asked for, without `datasets`.

    Arguments and errors are those of `load_dataset`; names are checked at once, files when
    the first row is asked for. At the end a `DataWarning` says what was left out. `files` is
    a name or pattern that takes some of a config's files in the release, not all.
    """
    from sharegptvideo.data.sources.parquet import ParquetSource

    config = config_of(name)
    splits = _split_names(config, split)
    if files is not None:
        config = replace(config, file=f"{config.file.rpartition('/')[0]}/{files}")
    opened = open_source(config, source, revision=revision)
    if files is not None and isinstance(opened, ParquetSource):
        raise UserError(f"files={files!r} takes files of the release; {source} holds Parquet")
    paths = media_paths(media, require_media)
    return _reported(config, opened, splits, paths, on_error, report or ReadReport())


def _reported(
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


def _split_names(config: Config, split: str) -> list[str]:
    names = [part.strip() for part in split.split("+")]
    for name in names:
        if name not in config.splits:
            raise unknown_name(f"split of {config.name}", name, config.splits)
    return names
