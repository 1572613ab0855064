"""Media availability: which rows of a config have their clip or image, by source and by split."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from sharegptvideo._concurrency import Progress, no_progress
from sharegptvideo.data.media_paths import rows_of
from sharegptvideo.data.schema import Config, config_of
from sharegptvideo.data.sources import ReadReport, Row, open_source
from sharegptvideo.data.sources.rows import source_of
from sharegptvideo.media import ImageFolder, MediaError
from sharegptvideo.media.folder import broken_link
from sharegptvideo.media.index import MediaIndex, check_images

__all__ = ["Count", "MediaAvailability", "media_availability"]


_STEP = 1000
_THERE, _MISSING, _UNREADABLE, _AMBIGUOUS = "there", "missing", "unreadable", "ambiguous"
_NO_MEDIA = "no_media"


@dataclass(slots=True)
class Count:
    """Rows by the state of their clip or image; the states add up to `rows`.

    Attributes:
        rows: all.
        there: with a clip or image that can be read, according to the index.
        missing: whose clip or image is not in the folder.
        unreadable: whose clip or image is there and broken.
        ambiguous: whose name fits two clips, or images, equally well.
        no_media: that name neither (conversations about nothing shown).
    """

    rows: int = 0
    there: int = 0
    missing: int = 0
    unreadable: int = 0
    ambiguous: int = 0
    no_media: int = 0

    def add(self, state: str, rows: int = 1) -> None:
        """Count rows of one state."""
        self.rows += rows
        setattr(self, state, getattr(self, state) + rows)


@dataclass(slots=True)
class MediaAvailability:
    """The rows of one config compared with one media folder.

    Attributes:
        config: its name.
        total: over all splits.
        by_source: by the set that the video is from, in order of first appearance; "unknown"
            where neither row nor name says so. Of an image, the first folder of its path.
        by_split: by split.
        videos: how many different videos the rows name.
        images: how many different images.
        missing: the videos that are not there, each once, in order.
        missing_images: the images, likewise.
        unreadable: why a video or image cannot be read, by its name in the rows.
        ambiguous: which clips or images fit a name, by the name in the rows.
        other_form: files whose names are written in another Unicode form, by the name in the rows.
        unlisted: files that have a missing video's name and no known ending of a video, likewise.
        broken_links: links that have a missing name and lead nowhere (`PATH -> TARGET`), likewise.
        report: rows skipped or left out while reading.
    """

    config: str
    total: Count = field(default_factory=Count)
    by_source: dict[str, Count] = field(default_factory=dict)
    by_split: dict[str, Count] = field(default_factory=dict)
    videos: int = 0
    images: int = 0
    missing: list[str] = field(default_factory=list)
    missing_images: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    ambiguous: dict[str, str] = field(default_factory=dict)
    other_form: dict[str, str] = field(default_factory=dict)
    unlisted: dict[str, str] = field(default_factory=dict)
    broken_links: dict[str, str] = field(default_factory=dict)
    report: ReadReport = field(default_factory=ReadReport)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values, without the report."""
        return {
            **asdict(self.total),
            "videos": self.videos,
            "images": self.images,
            "missing_videos": len(self.missing),
            "missing_images": len(self.missing_images),
            "sources": {name: asdict(count) for name, count in self.by_source.items()},
            "splits": {name: asdict(count) for name, count in self.by_split.items()},
            "unreadable_media": self.unreadable,
            "ambiguous_media": self.ambiguous,
            "other_unicode_form": self.other_form,
            "unknown_endings": self.unlisted,
            "broken_links": self.broken_links,
        }


def media_availability(
    name: str,
    source: str | os.PathLike[str] | None,
    media: MediaIndex,
    *,
    on_error: str = "raise",
    workers: int | None = None,
    progress: Progress | None = None,
) -> MediaAvailability:
    """Compare the rows of every split of config `name` with the media of an index.

    Clips are found by the rules of `MediaFolder.resolve`, images by those of
    `ImageFolder.resolve`; images are opened as `check_images` says. `source` and `on_error` are
    those of `load_dataset`, `workers` those of `index_media`; `progress` is called with
    (rows read, 0, name).

    Raises:
        UserError: no such config or source, a row that breaks the schema.
    """
    progress = progress or no_progress
    config = config_of(name)
    opened = open_source(config, source)
    states = _States(MediaAvailability(name), media, ImageFolder(media.root))
    availability = states.availability
    # Rows of images that are there: what is wrong with these is looked for at the end.
    waiting: Counter[tuple[str, str, str]] = Counter()
    read = 0
    for split in opened.splits(config):
        availability.by_split.setdefault(split, Count())
        part = ReadReport()
        for row in rows_of(config, opened, split, None, on_error, part):
            origin = _source(config, row)
            availability.by_source.setdefault(origin, Count())
            image = row.get("image")
            state = states.of_image(image) if image is not None else states.of_clip(row["video"])
            if state is None:
                waiting[split, origin, str(image)] += 1
            else:
                states.count(split, origin, state)
            read += 1
            if read % _STEP == 0:
                progress(read, 0, name)
        availability.report.merge(part)
    progress(read, read, name)
    states.check_images(waiting, workers, progress)
    availability.videos, availability.images = len(states.clips), len(states.images)
    return availability


@dataclass(slots=True)
class _States:
    """The states of videos and images so far, each looked up once."""

    availability: MediaAvailability
    media: MediaIndex
    folder: ImageFolder
    clips: dict[str, str] = field(default_factory=dict)
    images: dict[str, str | None] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)

    def count(self, split: str, source: str, state: str, rows: int = 1) -> None:
        availability = self.availability
        for count in (
            availability.total,
            availability.by_split[split],
            availability.by_source[source],
        ):
            count.add(state, rows)

    def of_clip(self, video: str | None) -> str:
        if video is None:
            return _NO_MEDIA
        if video not in self.clips:
            self.clips[video] = self._clip_state(video)
        return self.clips[video]

    def _clip_state(self, video: str) -> str:
        try:
            path = self.media.folder.locate(video)
        except MediaError as error:
            return self._ambiguous(video, error)
        if path is None:
            self.availability.missing.append(video)
            unlisted = self.media.folder.unlisted(video)
            if unlisted is not None:
                self.availability.unlisted[video] = unlisted
            self._note_link(video, self.media.folder.broken_link(video))
            return _MISSING
        self._note_form(video, path)
        cause = self.media.errors.get(path)
        if cause is None:
            return _THERE
        self.availability.unreadable[video] = f"{path}: {cause}"
        return _UNREADABLE

    def of_image(self, image: str) -> str | None:
        """Return the state of an image; None where it is there, and has to be looked at."""
        if image not in self.images:
            self.images[image] = self._image_state(image)
        return self.images[image]

    def _image_state(self, image: str) -> str | None:
        try:
            path = self.folder.locate(image)
        except MediaError as error:
            return self._ambiguous(image, error)
        if path is None:
            self.availability.missing_images.append(image)
            self._note_link(image, broken_link(self.folder.root, image))
            return _MISSING
        self._note_form(image, path)
        self.places[image] = path
        return None

    def _note_link(self, name: str, link: str | None) -> None:
        if link is not None:
            self.availability.broken_links[name] = link

    def _note_form(self, name: str, path: str) -> None:
        written = [part.rpartition(".")[0] or part for part in name.split("/")]
        if not name.isascii() and any(part not in path for part in written if not part.isascii()):
            self.availability.other_form[name] = path

    def _ambiguous(self, name: str, error: MediaError) -> str:
        self.availability.ambiguous[name] = str(error).removeprefix(f"{self.media.root}: ")
        return _AMBIGUOUS

    def check_images(
        self, rows: Counter[tuple[str, str, str]], workers: int | None, progress: Progress
    ) -> None:
        """Look at the images that are there, and count the rows by split, source and image."""
        if not rows:
            return
        paths = self.places.values()
        errors = check_images(self.media, paths, workers=workers, progress=progress)
        for (split, source, image), number in rows.items():
            path = self.places[image]
            if path in errors:
                self.availability.unreadable[image] = f"{path}: {errors[path]}"
            self.count(split, source, _UNREADABLE if path in errors else _THERE, number)


def _source(config: Config, row: Row) -> str:
    """Return the row's own column, the source that a test set is, or what the video's name says."""
    if "source" in row:
        return row["source"] or "unknown"
    if config.is_task:
        name = config.name.removesuffix("_official").removesuffix("_qa")
        return source_of({}, f"{name}/clip", name) or name
    if row.get("image") is not None:
        folder, _, _ = row["image"].partition("/")
        return folder if folder != row["image"] else "unknown"
    return "none" if row["video"] is None else source_of({}, row["video"], None) or "unknown"
