"""The clips that captions are made of: those of a folder, or those that rows name."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sharegptvideo._io import kind_of, read_jsonl, read_text
from sharegptvideo._text import few, plural
from sharegptvideo.build.stage import Row
from sharegptvideo.data.load import read_rows
from sharegptvideo.data.media_paths import MediaPaths
from sharegptvideo.data.sources import ReadReport, world_folder
from sharegptvideo.errors import UserError
from sharegptvideo.media.folder import VIDEO_SUFFIXES, ListedClip, list_clips

__all__ = ["Clips", "clips_in_folder", "clips_of_rows", "with_titles"]


@dataclass(frozen=True, slots=True)
class Clips:
    """Rows of clips for `CaptionStage`, each made as it is asked for.

    Attributes:
        videos: id, name and path of each; None where it is missing.
        about: by name, what else is known: source, title, tags.
    """

    videos: Sequence[tuple[str, str, str | None]]
    about: Mapping[str, Row] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.videos)

    def __iter__(self) -> Iterator[Row]:
        for name, video, path in self.videos:
            yield {"id": name, "video": video, "video_path": path} | dict(self.about.get(video, {}))


def clips_in_folder(folder: Path, limit: int | None = None) -> Clips:
    """Return the video files and folders of frames below a folder, in the order of their paths.

    A clip's id and name is its path below the folder, without a file's ending unless two clips
    differ by that alone.

    Raises:
        UserError: no such folder, no clips in it, a folder below it that cannot be listed.
    """
    root = folder.expanduser()
    if not root.is_dir():
        what = "a file, not a folder" if root.exists() else "no such folder"
        raise UserError(f"{folder}: {what}; --videos takes a folder with videos")
    listed = sorted((clip for clip, _ in list_clips(root)), key=lambda clip: clip.path)
    if not listed:
        raise UserError(
            f"{folder}: no videos in it: neither files with the ending of a video (.mp4, .webm and"
            f" {len(VIDEO_SUFFIXES) - 2} others) nor, below it, folders of pictures"
        )
    stems = Counter(map(_stem, listed))
    videos = []
    for clip in listed[:limit]:
        stem = _stem(clip)
        name = stem if stems[stem] == 1 else clip.path
        videos.append((name, name, str(root.absolute() / clip.path)))
    return Clips(videos)


def _stem(clip: ListedClip) -> str:
    return clip.path.rpartition(".")[0] if clip.is_file else clip.path


def clips_of_rows(
    source: str | Path,
    *,
    media: Path | None = None,
    split: str = "train",
    limit: int | None = None,
) -> Clips:
    """Return the clips that rows name, each once, in the order in which they first come.

    Args:
        source: a folder in the release layout or of Parquet with config `captions`, else `qa`;
            "synthetic"; or a file of rows with `video` and, where they have them, `id`, `source`,
            `title`, `tags` (JSONL or CSV).
        media: the folder with the clips; default: `source`, or its folder.
        split: of a folder's rows.
        limit: take the first clips only.

    Raises:
        UserError: no such source, no rows in it, a broken one.
    """
    root = world_folder() if str(source) == "synthetic" else Path(source).expanduser()
    if root.is_file():
        rows: Iterator[Row] = _read_file(root)
    elif root.is_dir():
        rows = _rows_in(root, split)
    else:
        raise UserError(f"{source}: no such file or folder; --input takes rows that name videos")
    paths = MediaPaths(media or (root.parent if root.is_file() else root))
    videos: list[tuple[str, str, str | None]] = []
    about: dict[str, Row] = {}
    report, seen = ReadReport(), set[str]()
    for row in rows:
        video = row["video"]
        if video in seen:
            continue
        if len(videos) == limit:
            break
        seen.add(video)
        videos.append((row.get("id") or video, video, paths.find(video, report)))
        known = {name: row[name] for name in ("source", "title", "tags") if row.get(name)}
        if known:
            about[video] = known
    if not videos:
        raise UserError(f"{source}: no rows in it")
    return Clips(videos, about)


def _rows_in(root: Path, split: str) -> Iterator[Row]:
    """Yield rows with video, id (that of a caption) and source."""
    try:
        rows = read_rows("captions", root, split)
        first = next(rows, None)
    except UserError as error:
        try:
            for row in read_rows("qa", root, split):
                yield {"video": row["video"], "source": row["source"]}
        except UserError:
            if next(list_clips(root), None) is not None:
                raise UserError(f"{root}: has videos and no rows; give it as --videos") from error
            raise error from None
        return
    if first is not None:
        yield first
        yield from rows


def with_titles(clips: Clips, file: Path) -> tuple[Clips, list[str]]:
    """Return the clips with the titles and tags of a file, and the names in it that fit no clip.

    The file has rows of `video`, `title` and `tags`, one of which may be missing, as JSONL or CSV;
    tags are a list, or a text with commas between them. A name fits with or without its ending.

    Raises:
        UserError: no such file, a row that is broken or names a video twice.
    """
    given: dict[str, Row] = {}
    for number, row in enumerate(_read_file(file), start=1):
        if row["video"] in given:
            raise UserError(f"{file}: row {number}: {row['video']} comes twice")
        given[row["video"]] = {name: row[name] for name in ("title", "tags") if row.get(name)}
    about = dict(clips.about)
    left = set(given)
    for _, video, path in clips.videos:
        names = [video, _without_ending(video)]
        if path is not None:
            names.append(video + Path(path).suffix)
        match = next((name for name in names if name in given), None)
        if match is not None:
            left.discard(match)
            about[video] = about.get(video, {}) | given[match]
    return Clips(clips.videos, about), sorted(left)


def _without_ending(name: str) -> str:
    stem, dot, ending = name.rpartition(".")
    return stem if f"{dot}{ending}".lower() in VIDEO_SUFFIXES else name


def _read_file(file: Path) -> Iterator[Row]:
    """Yield the rows of a JSONL or CSV file, checked."""
    rows: Iterator[tuple[int, Row]]
    if file.suffix.lower() == ".csv":
        rows = _csv_rows(file)
    elif file.suffix.lower() in {".jsonl", ".json"}:
        rows = read_jsonl(file)
    else:
        raise UserError(f"{file}: rows are read from .jsonl and .csv files")
    for number, row in rows:
        where = f"{file}:{number}"
        checked: Row = {"video": row.get("video")}
        if not isinstance(checked["video"], str) or not checked["video"].strip():
            raise UserError(f"{where}: no 'video'; a row names one by its path without the ending")
        for name in ("id", "source", "title"):
            checked[name] = _text(where, name, row.get(name))
        checked["tags"] = _tags(where, row.get("tags"))
        yield checked


def _text(where: str, name: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return (value or "").strip() or None
    raise UserError(f"{where}: {name!r} must be a text, got {kind_of(value)}")


def _tags(where: str, value: Any) -> list[str]:
    parts = value.split(",") if isinstance(value, str) else value or []
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise UserError(f"{where}: 'tags' must be a list of texts, got {kind_of(value)}")
    return [part.strip() for part in parts if part.strip()]


def _csv_rows(file: Path) -> Iterator[tuple[int, Row]]:
    reader = csv.DictReader(io.StringIO(read_text(file, "name another file"), newline=""))
    columns = reader.fieldnames or []
    if "video" not in columns:
        raise UserError(f"{file}:1: no column 'video' (there: {', '.join(few([*columns], 6))})")
    try:
        for row in reader:
            if None in row or None in row.values():
                raise UserError(
                    f"{file}:{reader.line_num}: not {plural(len(columns), 'value')} as in the first"
                    " line"
                )
            yield reader.line_num, dict(row)
    except csv.Error as error:
        raise UserError(f"{file}:{reader.line_num}: no line of a CSV file ({error})") from error
