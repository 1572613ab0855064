"""Captions of clips from a table or JSONL, to stand beside questions that came without."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from sharegptvideo.data.schema import CONFIGS
from sharegptvideo.data.sources.base import Row
from sharegptvideo.data.sources.originals import Entry, read_lines, read_table
from sharegptvideo.data.sources.plain import file_entries
from sharegptvideo.data.sources.rows import RowError, convert
from sharegptvideo.data.sources.splits import stem_of
from sharegptvideo.errors import UserError

__all__ = ["read_captions"]

_VIDEO = ("video", "gif_name", "video_name", "video_id")
_CAPTION = ("caption", "description")


def read_captions(paths: Iterable[Path]) -> dict[str, str]:
    """Stem of a clip → its caption; of several captions of a clip the first.

    A file is JSONL, JSON, CSV or TSV with a `video` (or gif_name, video_name, video_id) and a
    `caption` (or description), rows of the release's captions, or a FrameQA table of TGIF-QA.

    Raises:
        UserError: `FILE:LINE: cause` for a file or row that is none of these.
    """
    captions: dict[str, str] = {}
    for path in paths:
        for where, entry in _entries(path):
            try:
                video, caption = _pair(entry)
            except RowError as error:
                raise UserError(f"{where}: {error}") from error
            captions.setdefault(stem_of(video), caption)
    return captions


def _entries(path: Path) -> Iterator[Entry]:
    if path.suffix.lower() in (".csv", ".tsv"):
        _, heading = next(read_lines(path), (0, ""))
        if heading.startswith("gif_name\t"):
            return read_table(path, "\t", quoted=False)
    return file_entries(path)


def _pair(entry: Row) -> tuple[str, str]:
    """Clip and caption, through the same checks as a row of `captions`."""
    raw = {"id": "caption", "prompt": "caption", **entry}
    for ours, names in (("video", _VIDEO), ("caption", _CAPTION)):
        raw[ours] = next((entry[name] for name in names if entry.get(name) is not None), None)
    if "conversations" not in entry and raw["caption"] is None:
        raise RowError("no caption or description")
    row = convert(CONFIGS["captions"], raw, "")
    return row["video"], row["caption"]
