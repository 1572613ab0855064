"""Which rows of a config have their clip, in total, by source and by split."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import Any

from sharegptvideo._concurrency import Progress
from sharegptvideo.data.media_paths import rows_of
from sharegptvideo.data.schema import Config, config_of
from sharegptvideo.data.sources import ReadReport, Row, open_source
from sharegptvideo.data.sources.rows import source_of
from sharegptvideo.media import MediaError
from sharegptvideo.media.index import MediaIndex

__all__ = ["Count", "Coverage", "cover"]


_STEP = 1000
_THERE, _MISSING, _UNREADABLE, _AMBIGUOUS = "there", "missing", "unreadable", "ambiguous"


@dataclass(slots=True)
class Count:
    """Rows by what became of their clip; they add up to `rows`.

    Attributes:
        rows: all.
        there: with a clip that can be read, as far as the index tells.
        missing: whose clip is not in the folder.
        unreadable: whose clip is there and broken.
        ambiguous: whose name fits two clips equally well.
        no_video: that name no video (conversations about an image, or about neither).
    """

    rows: int = 0
    there: int = 0
    missing: int = 0
    unreadable: int = 0
    ambiguous: int = 0
    no_video: int = 0

    def add(self, state: str) -> None:
        """Count one row."""
        self.rows += 1
        setattr(self, state, getattr(self, state) + 1)


@dataclass(slots=True)
class Coverage:
    """The rows of one config held against one media folder.

    Attributes:
        config: its name.
        total: over all splits.
        by_source: by the set that the video is from, in order of first appearance; "unknown"
            where neither row nor name tells.
        by_split: by split.
        videos: how many different videos the rows name.
        missing: the videos that are not there, each once, in order.
        unreadable: why a video cannot be read, by its name in the rows.
        ambiguous: which clips fit a video, by its name in the rows.
        report: rows skipped or left out while reading.
    """

    config: str
    total: Count = field(default_factory=Count)
    by_source: dict[str, Count] = field(default_factory=dict)
    by_split: dict[str, Count] = field(default_factory=dict)
    videos: int = 0
    missing: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    ambiguous: dict[str, str] = field(default_factory=dict)
    report: ReadReport = field(default_factory=ReadReport)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, without the report."""
        return {
            **asdict(self.total),
            "videos": self.videos,
            "missing_videos": len(self.missing),
            "sources": {name: asdict(count) for name, count in self.by_source.items()},
            "splits": {name: asdict(count) for name, count in self.by_split.items()},
            "unreadable_videos": self.unreadable,
            "ambiguous_videos": self.ambiguous,
        }


def cover(
    name: str,
    source: str | os.PathLike[str] | None,
    media: MediaIndex,
    *,
    on_error: str = "raise",
    progress: Progress | None = None,
) -> Coverage:
    """Hold the rows of every split of config `name` against the clips of an index.

    Clips are found by the rules of `MediaFolder.resolve`. `source` and `on_error` are those of
    `load_dataset`; `progress` is called with (rows read, 0, name).

    Raises:
        UserError: no such config or source, a row that breaks the schema.
    """
    config = config_of(name)
    opened = open_source(config, source)
    found = Coverage(name)
    states: dict[str, str] = {}
    for split in opened.splits(config):
        in_split = found.by_split.setdefault(split, Count())
        part = ReadReport()
        for row in rows_of(config, opened, split, None, on_error, part):
            video = row["video"]
            if video is not None and video not in states:
                states[video] = _state(video, media, found)
            state = "no_video" if video is None else states[video]
            of_source = found.by_source.setdefault(_source(config, row), Count())
            for count in (found.total, in_split, of_source):
                count.add(state)
            if progress and found.total.rows % _STEP == 0:
                progress(found.total.rows, 0, name)
        found.report.merge(part)
    found.videos = len(states)
    if progress:
        progress(found.total.rows, found.total.rows, name)
    return found


def _state(video: str, media: MediaIndex, found: Coverage) -> str:
    try:
        path = media.folder.locate(video)
    except MediaError as error:
        found.ambiguous[video] = str(error).removeprefix(f"{media.root}: ")
        return _AMBIGUOUS
    if path is None:
        found.missing.append(video)
        return _MISSING
    cause = media.errors.get(path)
    if cause is None:
        return _THERE
    found.unreadable[video] = f"{path}: {cause}"
    return _UNREADABLE


def _source(config: Config, row: Row) -> str:
    """The row's own column; a test set is one source; else what the video's name tells."""
    if "source" in row:
        return str(row["source"])
    if config.is_task:
        name = config.name.removesuffix("_official").removesuffix("_qa")
        return source_of({}, f"{name}/clip", name)
    return "none" if row["video"] is None else source_of({}, row["video"], "unknown")
