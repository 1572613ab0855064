"""Media availability: which rows of a config have their clip, in total, by source and by split."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import Any

from sharegptvideo._concurrency import Progress, no_progress
from sharegptvideo.data.media_paths import rows_of
from sharegptvideo.data.schema import Config, config_of
from sharegptvideo.data.sources import ReadReport, Row, open_source
from sharegptvideo.data.sources.rows import source_of
from sharegptvideo.media import MediaError
from sharegptvideo.media.index import MediaIndex

__all__ = ["Count", "MediaAvailability", "media_availability"]


_STEP = 1000
_THERE, _MISSING, _UNREADABLE, _AMBIGUOUS = "there", "missing", "unreadable", "ambiguous"


@dataclass(slots=True)
class Count:
    """Rows by the state of their clip; the states add up to `rows`.

    Attributes:
        rows: all.
        there: with a clip that can be read, according to the index.
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
class MediaAvailability:
    """The rows of one config compared with one media folder.

    Attributes:
        config: its name.
        total: over all splits.
        by_source: by the set that the video is from, in order of first appearance; "unknown"
            where neither row nor name says so.
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
        """Return plain JSON values, without the report."""
        return {
            **asdict(self.total),
            "videos": self.videos,
            "missing_videos": len(self.missing),
            "sources": {name: asdict(count) for name, count in self.by_source.items()},
            "splits": {name: asdict(count) for name, count in self.by_split.items()},
            "unreadable_videos": self.unreadable,
            "ambiguous_videos": self.ambiguous,
        }


def media_availability(
    name: str,
    source: str | os.PathLike[str] | None,
    media: MediaIndex,
    *,
    on_error: str = "raise",
    progress: Progress | None = None,
) -> MediaAvailability:
    """Compare the rows of every split of config `name` with the clips of an index.

    Clips are found by the rules of `MediaFolder.resolve`. `source` and `on_error` are those of
    `load_dataset`; `progress` is called with (rows read, 0, name).

    Raises:
        UserError: no such config or source, a row that breaks the schema.
    """
    progress = progress or no_progress
    config = config_of(name)
    opened = open_source(config, source)
    availability = MediaAvailability(name)
    states: dict[str, str] = {}
    for split in opened.splits(config):
        in_split = availability.by_split.setdefault(split, Count())
        part = ReadReport()
        for row in rows_of(config, opened, split, None, on_error, part):
            video = row.get("video")
            if video is not None and video not in states:
                states[video] = _state(video, media, availability)
            state = "no_video" if video is None else states[video]
            of_source = availability.by_source.setdefault(_source(config, row), Count())
            for count in (availability.total, in_split, of_source):
                count.add(state)
            if availability.total.rows % _STEP == 0:
                progress(availability.total.rows, 0, name)
        availability.report.merge(part)
    availability.videos = len(states)
    progress(availability.total.rows, availability.total.rows, name)
    return availability


def _state(video: str, media: MediaIndex, availability: MediaAvailability) -> str:
    try:
        path = media.folder.locate(video)
    except MediaError as error:
        availability.ambiguous[video] = str(error).removeprefix(f"{media.root}: ")
        return _AMBIGUOUS
    if path is None:
        availability.missing.append(video)
        return _MISSING
    cause = media.errors.get(path)
    if cause is None:
        return _THERE
    availability.unreadable[video] = f"{path}: {cause}"
    return _UNREADABLE


def _source(config: Config, row: Row) -> str:
    """Return the row's own column, the source that a test set is, or what the video's name says."""
    if "source" in row:
        return row["source"] or "unknown"
    if config.is_task:
        name = config.name.removesuffix("_official").removesuffix("_qa")
        return source_of({}, f"{name}/clip", name) or name
    video = row.get("video")
    return "none" if video is None else source_of({}, video, None) or "unknown"
