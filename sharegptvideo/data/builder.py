"""The `datasets` builder of `load_dataset` and the registered name "sharegptvideo".

Only imported once `datasets` is needed. Map-style and streaming read through
`media_paths.tables_of`, like everything else.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import datasets
import pyarrow as pa
from datasets.builder import Key
from datasets.exceptions import DatasetGenerationError
from datasets.fingerprint import Hasher
from datasets.iterable_dataset import ArrowExamplesIterable

from sharegptvideo._io import os_errors
from sharegptvideo.data import schema
from sharegptvideo.data.frames import ClipFrames
from sharegptvideo.data.media_paths import MediaPaths, check_split, media_paths, tables_of
from sharegptvideo.data.sources import (
    DataWarning,
    OnError,
    ReadReport,
    Source,
    on_error_of,
    open_source,
)
from sharegptvideo.data.sources.base import Part, table_rows
from sharegptvideo.data.sources.parquet import ParquetSource
from sharegptvideo.data.sources.splits import split_parts
from sharegptvideo.errors import UserError
from sharegptvideo.media.readers import check_reader

__all__ = ["OneReading", "SharegptvideoBuilder", "SharegptvideoConfig"]

_CACHE_FIX = "make room, or name another place: SHAREGPTVIDEO_CACHE, cache_dir= in datasets"


@dataclass
class SharegptvideoConfig(datasets.BuilderConfig):  # type: ignore[misc]  # datasets is untyped
    """What can be passed beside the name: `data_dir` is the source (None: the Hub).

    `hub_revision` is the revision on the Hub; `datasets` keeps `revision` for itself and does
    not hand it to builders of this kind.
    """

    media: str | None = None
    require_media: bool = False
    frames: int | str | None = None
    frames_size: int | None = None
    reader: str = "pyav"
    on_error: str = "raise"
    hub_revision: str | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SharegptvideoConfig) and vars(self) == vars(other)

    def open(self, *, streaming: bool = False) -> Source:
        """Return the source that the options name."""
        return open_source(
            schema.config_of(self.name),
            self.data_dir,
            revision=self.hub_revision,
            streaming=streaming,
        )

    def pictures(self) -> dict[str, Any]:
        """Return the column that `frames` adds, by its name; none where it is not asked for.

        A `datasets.Video`, which gives a decoder of the whole clip, for "video".

        Raises:
            UserError: there is no folder of media, or the rows name no videos, or there is no
                such reader here.
        """
        check_reader(self.reader)
        if self.frames is None:
            if self.frames_size is not None:
                raise UserError("frames_size= needs frames=, the number of frames of a clip")
            return {}
        if self.media is None:
            raise UserError("frames= needs media=, the folder with the videos")
        if "video" not in schema.config_of(self.name).paths:
            raise UserError(f"frames= is about videos, and the rows of {self.name} name none")
        if not isinstance(self.frames, str):
            return {schema.FRAMES: ClipFrames(self.frames, self.frames_size, self.reader)}
        if self.frames != "video":
            raise UserError(f"frames must be a whole number or 'video', got {self.frames!r}")
        if self.frames_size is not None:
            raise UserError("frames='video' gives decoders of whole clips; leave out frames_size=")
        check_reader("torchcodec")  # what `datasets.Video` decodes with
        return {schema.CLIP: datasets.Video()}

    def create_config_id(self, config_kwargs: dict[str, Any], custom_features: Any = None) -> str:
        """Return the name of the cached table: it changes with the files' fingerprints.

        `media` takes no part: paths are looked up each time and never cached, and neither is
        what `require_media` leaves out, nor a frame.
        """
        media_paths(self.media, self.require_media)  # refused now, not after the table is made
        self.pictures()
        if custom_features is not None:
            raise UserError("features= is fixed by the config; use Dataset.cast on what is loaded")
        del config_kwargs  # all that matters of them is in the source and `on_error`
        key = [*self.open().fingerprint(schema.config_of(self.name)), on_error_of(self.on_error)]
        return f"{self.name}-{Hasher.hash(key)}"


class SharegptvideoBuilder(datasets.ArrowBasedBuilder):  # type: ignore[misc]  # as above
    """Tables and streams of every config; `report` lists what the last reading left out."""

    BUILDER_CONFIG_CLASS = SharegptvideoConfig
    DEFAULT_CONFIG_NAME = schema.DEFAULT_CONFIG
    BUILDER_CONFIGS: ClassVar[list[SharegptvideoConfig]] = [
        SharegptvideoConfig(name=config.name, description=config.description)
        for config in schema.CONFIGS.values()
    ]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.report = ReadReport()
        folder = kwargs.get("cache_dir")
        with os_errors(Path(folder) if folder else "the cache of datasets", _CACHE_FIX):
            super().__init__(*args, **kwargs)

    def _create_builder_config(
        self, config_name: str | None = None, **config_kwargs: Any
    ) -> tuple[SharegptvideoConfig, str]:
        schema.config_of(config_name or self.DEFAULT_CONFIG_NAME)  # our error, with near names
        config_kwargs.pop("data_files", None)  # an empty list, see `registration`
        created: tuple[SharegptvideoConfig, str] = super()._create_builder_config(
            config_name, **config_kwargs
        )
        return created

    def _info(self) -> datasets.DatasetInfo:
        config = schema.config_of(self.config.name)
        return datasets.DatasetInfo(
            description=config.description, features=schema.features(config.name)
        )

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        return self._generators(streaming=bool(dl_manager.is_streaming))

    def _generators(self, *, streaming: bool) -> list[datasets.SplitGenerator]:
        config = schema.config_of(self.config.name)
        source = self.config.open(streaming=streaming)
        media = media_paths(self.config.media, self.config.require_media) if streaming else None
        return [
            datasets.SplitGenerator(
                name=split,
                gen_kwargs={
                    "source": source,
                    "split": split,
                    "media": media,
                    # `datasets` gives each of several readers a part of any list.
                    "parts": source.parts(config, split) if streaming else None,
                    "rows": None,
                },
            )
            for split in source.splits(config)
        ]

    def _generate_tables(
        self,
        source: Source,
        split: str,
        media: MediaPaths | None,
        parts: list[Part] | None,
        rows: range | None,
    ) -> Iterator[tuple[Key, pa.Table]]:
        """Yield the tables of a split: of its `parts`, or of the rows numbered in `rows`."""
        config = schema.config_of(self.config.name)
        report = ReadReport()
        try:
            on_error = on_error_of(self.config.on_error)
            if rows is not None:
                tables = _rows_of(
                    tables_of(config, source, split, None, on_error, report), rows, media, report
                )
            elif self._reading is None:
                tables = tables_of(config, source, split, media, on_error, report, parts)
            else:
                tables = self._reading.tables(config, source, split, on_error, report)
            columns = {} if media is None else self.config.pictures()
            for number, table in enumerate(tables):
                yield Key(0, number), _with_clips(table, columns)
        finally:
            self.report.merge(report)
            if self._reading is None:
                report.warn()

    _reading: OneReading | None = None  # while the table is written

    def download_and_prepare(self, *args: Any, num_proc: int | None = None, **kwargs: Any) -> None:
        """Write the table unless it is cached. `num_proc` changes nothing, see `load_dataset`.

        Raises:
            UserError: a row that breaks the schema, a cache that is full or may not be
                written, and the rest of `load_dataset`'s.
        """
        if num_proc is not None and num_proc < 1:
            raise UserError(f"num_proc must be at least 1, got {num_proc}")
        with os_errors(Path(self._cache_dir_root), _CACHE_FIX):
            try:
                super().download_and_prepare(*args, **kwargs)
            except DatasetGenerationError as error:
                # What the user can fix, or a full disk, is not the table's fault.
                if isinstance(error.__cause__, UserError | OSError):
                    raise error.__cause__ from None
                raise
        self.report = ReadReport.load(self._output_dir)

    def _download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        self.report = ReadReport()
        self._reading = OneReading()
        try:
            super()._download_and_prepare(*args, **kwargs)
        finally:
            self._reading = None
        self.report.save(self._output_dir)

    def as_dataset(self, split: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Return the table of a split, or of all; warn of what was left out of it.

        Raises:
            UserError: unknown split, or a slice of another form.
        """
        dataset = super().as_dataset(self._checked(split), *args, **kwargs)
        self.report.warn()
        return dataset

    def _checked(self, split: Any) -> Any:
        """Return a split as `datasets` wants it, without spaces; refuse an unknown one.

        Lists and instructions of `datasets` are its own affair.
        """
        if not isinstance(split, str | datasets.NamedSplit) or str(split) == "all":
            return split
        split_parts(schema.config_of(self.config.name), str(split))
        return str(split).replace(" ", "")

    def _build_single_dataset(self, split: Any, in_memory: bool = False) -> datasets.Dataset:
        if self._has_no_rows(split):
            # `datasets` has no instruction for a table without rows.
            empty: dict[str, list[Any]] = {name: [] for name in self.info.features}
            dataset = datasets.Dataset.from_dict(
                empty, features=self.info.features, split=datasets.NamedSplit(str(split))
            )
        else:
            dataset = super()._build_single_dataset(split, in_memory=in_memory)
        media = media_paths(self.config.media, self.config.require_media)
        return dataset if media is None else self._with_paths(dataset, media)

    def _has_no_rows(self, split: Any) -> bool:
        """Whether a split or slice selects nothing.

        Raises:
            UserError: a slice that ends before it begins, which `datasets` takes for another.
        """
        lengths = {name: info.num_examples for name, info in self.info.splits.items()}
        if str(split) == "all":
            return not any(lengths.values())
        if not isinstance(split, datasets.ReadInstruction):
            split = datasets.ReadInstruction.from_spec(str(split))
        try:
            parts = split.to_absolute(lengths)
        except ValueError as error:  # no such split here, too few rows for this kind of rounding
            raise UserError(f"{self.config.name}: {error}") from error
        for part in parts:
            if part.from_ > part.to:
                raise UserError(f"{split.to_spec()}: the slice ends before it begins")
        return all(part.from_ == part.to for part in parts)

    def _with_paths(self, dataset: datasets.Dataset, media: MediaPaths) -> datasets.Dataset:
        report = ReadReport()
        media_columns = schema.config_of(self.config.name).paths
        names = {name: list(dataset[name]) for name in media_columns}
        paths, keep = media.look_up(names, report)
        kept = [number for number, keeps in enumerate(keep) if keeps]
        everything = len(kept) == len(keep)
        if not everything:
            left = [number for number, keeps in enumerate(keep) if not keeps]
            report.without_media += dataset.select(left)["id"]
        self.report.merge(report)
        for column, places in paths.items():
            dataset = dataset.add_column(column, places, feature=datasets.Value("string"))
        for column, feature in self.config.pictures().items():
            clips = _stored(paths[schema.VIDEO_PATH], feature)
            dataset = dataset.add_column(column, clips, feature=feature)
        return dataset if everything else dataset.select(kept)

    def as_streaming_dataset(self, split: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Return the stream of a split, of a slice of its first rows, or of all splits.

        Raises:
            UserError: unknown split; a slice in percent or from the end, which needs the number
                of rows.
        """
        split = self._checked(split)
        if not isinstance(split, str) or "[" not in split:
            return super().as_streaming_dataset(split, *args, **kwargs)
        config, source = schema.config_of(self.config.name), self.config.open(streaming=True)
        generators = {one.name: one.gen_kwargs for one in self._generators(streaming=True)}
        streams = []
        for part in split_parts(config, split):
            if part.is_share or (part.start or 0) < 0 or (part.stop or 0) < 0:
                raise UserError(
                    f"split {split!r}: a stream does not know how many rows there are; give "
                    "the slice in rows from the start, or leave out streaming="
                )
            check_split(config, source, part.name)
            options = dict(generators[part.name])
            if not part.is_whole:
                stop = sys.maxsize if part.stop is None else part.stop
                options |= {"parts": None, "rows": range(part.start or 0, stop)}
            generator = datasets.SplitGenerator(name=part.name, gen_kwargs=options)
            streams.append(self._as_streaming_dataset_single(generator))
        return streams[0] if len(streams) == 1 else datasets.concatenate_datasets(streams)

    def _as_streaming_dataset_single(
        self, splits_generator: datasets.SplitGenerator, decode_num_threads: int | None = None
    ) -> datasets.IterableDataset:
        del decode_num_threads  # nothing here is decoded
        info = self.info.copy()
        info.features = schema.features(self.config.name, media=bool(self.config.media))
        pictures = self.config.pictures()
        info.features.update(pictures)
        # Without features of its own, `datasets` decodes what comes, a row at a time and last.
        given = None if pictures else info.features
        rows = TypedTables(self._generate_tables, splits_generator.gen_kwargs, given)
        return datasets.IterableDataset(rows, info=info, split=splits_generator.name)


def _stored(paths: list[str | None], feature: Any) -> pa.Array:
    """Return paths of videos as a column of clips stores them."""
    if isinstance(feature, datasets.Video):
        folders = {path for path in set(paths) if path is not None and Path(path).is_dir()}
        if folders:
            warnings.warn(
                f"clips that are folders of frames, such as {min(folders)}, are null in "
                f"{schema.CLIP}: datasets.Video reads files alone, frames=8 reads both",
                DataWarning,
                stacklevel=2,
            )
            paths = [None if path in folders else path for path in paths]
    return feature.cast_storage(pa.array(paths, pa.string()))


def _with_clips(table: pa.Table, columns: dict[str, Any]) -> pa.Table:
    """Return a table that has paths of videos with its columns of clips."""
    for name, feature in columns.items():
        table = table.append_column(name, _stored(table[schema.VIDEO_PATH].to_pylist(), feature))
    return table


def _rows_of(
    tables: Iterator[pa.Table], rows: range, media: MediaPaths | None, report: ReadReport
) -> Iterator[pa.Table]:
    """Yield the rows numbered in `rows`, and read no further; paths are added to them alone."""
    before = 0
    for table in tables:
        start, stop = max(rows.start - before, 0), min(rows.stop - before, table.num_rows)
        before += table.num_rows
        if start < stop:
            some = table.slice(start, stop - start)
            yield some if media is None else media.add_to(some, report)
        if before >= rows.stop:
            return


class OneReading:
    """The tables of all splits from one reading of a source.

    Those of splits that are written later wait in memory, since `validation` is a hundredth of the
    rows. Where they are more than `limit` bytes, they are dropped and read again.
    """

    def __init__(self, limit: int = 64 << 20) -> None:
        self._limit = limit
        self._waiting: dict[str, list[pa.Table]] = {}

    def tables(
        self,
        config: schema.Config,
        source: Source,
        split: str,
        on_error: OnError,
        report: ReadReport,
    ) -> Iterator[pa.Table]:
        """Yield the tables of the next split.

        Raises:
            UserError: as `Source.tables`.
        """
        if split in self._waiting:
            yield from self._waiting.pop(split)
            return
        splits = source.splits(config)
        # Parquet has a file for each split.
        later = () if isinstance(source, ParquetSource) else splits[splits.index(split) + 1 :]
        waiting: dict[str, list[pa.Table]] = {name: [] for name in later}
        size = 0
        for name, table in source.tables(config, [split, *later], on_error, report):
            if name == split:
                yield table
            elif size <= self._limit:
                waiting[name].append(table)
                size += table.nbytes
        if size <= self._limit:
            self._waiting = waiting


class TypedTables(ArrowExamplesIterable):  # type: ignore[misc]  # as above
    """A stream of tables whose values have their types already, read once for all of its parts.

    `datasets` would take each row as a table of its own and cast it, which takes several times
    as long as reading it, and read each part from the start of the files.
    """

    def __init__(
        self, generate: Any, kwargs: dict[str, Any], features: datasets.Features | None
    ) -> None:
        super().__init__(generate, kwargs)
        self._typed_features = features

    @property
    def features(self) -> datasets.Features | None:
        """What the rows are; asked for these, `datasets` passes them on as they come.

        None where they have clips to be decoded.

        `is_typed` stays false: it would keep `cast` from casting.
        """
        return self._typed_features

    def __iter__(self) -> Iterator[tuple[Key, dict[str, Any]]]:
        for key, table in self._rest():
            for row in table_rows(table):
                if self._state_dict:
                    self._state_dict["shard_example_idx"] += 1
                yield key, row

    def _iter_arrow(self) -> Iterator[tuple[Key, pa.Table]]:
        for key, table in self._rest():
            if self._state_dict:
                self._state_dict["shard_example_idx"] += len(table)
            yield key, table

    def _rest(self) -> Iterator[tuple[Key, pa.Table]]:
        """Yield the tables from where the state says that a reader left off."""
        done: int = self._state_dict["shard_example_idx"] if self._state_dict else 0
        for key, table in self.generate_tables_fn(**self.kwargs):
            if done < len(table):
                yield key, table.slice(done)
            done = max(done - len(table), 0)

    def shuffle_data_sources(self, *args: Any, **kwargs: Any) -> TypedTables:
        """As the parent, typed still."""
        return self._like(super().shuffle_data_sources(*args, **kwargs))

    def shard_data_sources(self, *args: Any, **kwargs: Any) -> TypedTables:
        """As the parent, typed still."""
        return self._like(super().shard_data_sources(*args, **kwargs))

    def reshard_data_sources(self) -> TypedTables:
        """Return itself: its parts are as small as they get."""
        return self

    def _like(self, other: ArrowExamplesIterable) -> TypedTables:
        return TypedTables(other.generate_tables_fn, other.kwargs, self._typed_features)
