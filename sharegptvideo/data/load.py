"""`load_dataset`, and `read_rows`, the same rows without `datasets`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Literal

from sharegptvideo.data.media_paths import MediaPaths, PathLike, check_split, media_paths, rows_of
from sharegptvideo.data.schema import CONFIGS, DEFAULT_CONFIG, Config, config_of
from sharegptvideo.data.sources import ReadReport, Row, Source, open_source
from sharegptvideo.data.sources.splits import asked_splits, split_parts
from sharegptvideo.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

__all__ = ["list_datasets", "load_dataset", "read_rows"]


def list_datasets() -> list[str]:
    """Return the names that `load_dataset` takes, training sets first."""
    return list(CONFIGS)


def load_dataset(
    name: str = DEFAULT_CONFIG,
    split: str | EllipsisType | None = ...,
    *,
    data_dir: PathLike | None = None,
    media: PathLike | None = None,
    require_media: bool = False,
    frames: int | Literal["video"] | None = None,
    frames_size: int | None = None,
    reader: str = "pyav",
    streaming: bool = False,
    on_error: str = "raise",
    revision: str | None = None,
    cache_dir: PathLike | None = None,
    num_proc: int | None = None,
    report: ReadReport | None = None,
) -> Dataset | DatasetDict | IterableDataset | IterableDatasetDict:
    """Load a dataset, columns as in `sharegptvideo.data.schema`.

    Splits: training sets have `train` and `validation`, test sets have `test`. The release has
    no validation file, so about 1 % of the *videos* are held out by a hash of their stem, the
    same ones in every training set: no video of `validation` is in any `train`. A source with a
    `splits.json` of its own (the synthetic world) decides itself, and Parquet files are taken as
    they are named.

    Args:
        name: one of `list_datasets()`.
        split: the only or first split if left out; None for all of them, as a `DatasetDict`.
            Else as in `datasets`: "train", "train+validation", "all" (as one table), slices such
            as "train[:5]" and "train[10%:20%]". A stream knows no number of rows, so its slices
            are counted in rows from the start.
        data_dir: None for the release on the Hub, "synthetic" for a tiny world made on this
            machine, or a folder: the release layout, or Parquet made by this package.
        media: a folder with the videos and images; adds `video_path` and, to datasets with
            images, `image_path` (str, null where absent).
        require_media: leave out rows whose video or image is not there, or known to be
            unreadable: what the index of the folder lists (`sharegptvideo data status` makes
            it) and has not changed since. Rows that name neither stay.
            `report.without_media` has their ids.
        frames: adds `frames`, that many frames of each row's clip: uint8, frames×H×W×3 RGB,
            decoded when the row is read, the same that the evaluation shows a model. Null where
            the clip is absent, or cannot be read (a `MediaWarning` says why). Needs `media`.
            With "video" the column is `clip`, a `datasets.Video`: a torchcodec decoder of the
            whole clip, where torchcodec is installed.
        frames_size: scale the frames so that the shorter side has so many pixels, and cut out
            the middle: clips of one size, as a batch needs them.
        reader: what decodes the frames: "pyav", or "decord" or "torchcodec" where installed, which
            give the same frames (what they misread is left to PyAV).
        streaming: rows as they are read (`IterableDataset`) instead of a table on disk.
        on_error: "raise", or "skip" to list rows that break the schema and go on.
        revision: branch, tag or commit on the Hub.
        cache_dir: where the table is kept; by default in the package's cache folder.
        num_proc: taken as in `datasets`, and changes nothing: the rows are read by a thread a
            core in any case, since ids and repeated rows are decided in order.
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
    if split not in (None, ..., "all"):
        split_parts(config, str(split))  # refused before anything is opened
    builder = SharegptvideoBuilder(
        cache_dir=str(cache_folder() / "datasets" if cache_dir is None else Path(cache_dir)),
        dataset_name=NAME,
        config_name=name,
        hash=TABLES_KEY,
        data_dir=None if data_dir is None else os.fspath(data_dir),
        media=None if media is None else os.fspath(media),
        require_media=require_media,
        frames=frames,
        frames_size=frames_size,
        reader=reader,
        on_error=on_error,
        hub_revision=revision,
    )
    source = builder.config.open()
    asked = asked_splits(config, source, split)
    for part in split_parts(config, asked):
        check_split(config, source, part.name)
    given = None if split is None else asked
    if streaming:
        return builder.as_streaming_dataset(given)
    builder.download_and_prepare(num_proc=num_proc)
    dataset = builder.as_dataset(given)
    if report is not None:
        report.merge(builder.report)
    return dataset


def read_rows(
    name: str,
    data_dir: PathLike | None = None,
    split: str | EllipsisType | None = ...,
    *,
    media: PathLike | None = None,
    require_media: bool = False,
    on_error: str = "raise",
    revision: str | None = None,
    report: ReadReport | None = None,
    files: str | None = None,
) -> Iterator[Row]:
    """Return the rows of `load_dataset` as dicts, read as they are asked for, without `datasets`.

    Arguments and errors are those of `load_dataset`, but for slices of splits, which are not
    taken; with `split=None` the rows of all splits come one after the other. Names are checked
    at once, files when the first row is asked for. At the end a `DataWarning` says what was left
    out. `files` is a name or pattern that takes some of a config's files in the release, not all.
    """
    from sharegptvideo.data.sources.parquet import ParquetSource

    config = config_of(name)
    if split not in (None, ..., "all"):
        split_parts(config, str(split))
    if files is not None:
        config = replace(config, file=f"{config.file.rpartition('/')[0]}/{files}")
    opened = open_source(config, data_dir, revision=revision)
    if files is not None and isinstance(opened, ParquetSource):
        raise UserError(f"files={files!r} takes files of the release; {data_dir} holds Parquet")
    parts = split_parts(config, asked_splits(config, opened, split))
    if not all(part.is_whole for part in parts):
        raise UserError(f"split {split!r}: slices are taken by load_dataset; take whole splits")
    paths = media_paths(media, require_media)
    splits = [part.name for part in parts]
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
