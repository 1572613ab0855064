"""Rows, or captions, of one's own: JSONL, a JSON list, CSV or TSV, columns as in the schema."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sharegptvideo._io import numbered_lines, open_lines, parse_json, parse_row
from sharegptvideo.data.schema import CONFIGS, Config
from sharegptvideo.data.sources.base import Row
from sharegptvideo.data.sources.original_rows import rows_of_entries
from sharegptvideo.data.sources.originals import (
    Entry,
    OnBad,
    fail,
    read_lines,
    read_list,
    read_table,
    text_or_number,
)
from sharegptvideo.data.sources.rows import RowError, check, convert
from sharegptvideo.data.sources.splits import stem_of
from sharegptvideo.errors import UserError, unknown_name

__all__ = [
    "PLAIN_SUFFIXES",
    "file_entries",
    "plain_entries",
    "plain_row",
    "read_captions",
    "read_described",
    "read_plain",
]

PLAIN_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv")
"""The endings that say how a file is read; all but `.json` may be packed (`.gz`)."""

_SOURCE = "plain"
_FLOATS = frozenset({"chosen_score", "rejected_score"})
_LISTS = frozenset({"messages", "conversations"})
_CLIPS = ("video", "gif_name", "video_name", "video_id")
_CAPTIONS = ("caption", "description")
_DETAILED = (*_CAPTIONS, "detailed_caption", "answer")


def read_plain(
    path: Path, config: Config, columns: Mapping[str, str] | None = None
) -> Iterator[Row]:
    """Yield schema rows of a config from a file of one's own.

    Args:
        path: a file that ends in one of `PLAIN_SUFFIXES`; tables have a heading, `"` encloses
            values, and an empty value is null.
        config: what the rows are.
        columns: column of the schema → what the file calls it. Others are matched by their name,
            whatever its case, `-` and spaces for `_`.

    An absent `id` is made of the file's name and the row's number; an absent `source` is read
    from the video's path, else "plain". Columns outside the schema are left. `conversations`
    as in the release stand for question and answer.

    Raises:
        UserError: `FILE:LINE: cause` for a row that breaks the schema; a column that the file
            does not have, with the nearest names.
    """
    entries = plain_entries(path, config, columns)
    return rows_of_entries(entries, lambda entry: plain_row(entry, config))


def plain_entries(
    path: Path,
    config: Config,
    columns: Mapping[str, str] | None = None,
    on_bad: OnBad = fail,
) -> Iterator[Entry]:
    """Yield the entries of a file, with columns renamed to the schema's and ids made where absent.

    Raises:
        UserError: the file cannot be read, or has no column for one that the config needs.
    """
    given = dict(columns or {})
    for ours in given:
        if ours not in config.columns:
            raise unknown_name(f"column of {config.name}", ours, config.columns)
    renamed: dict[tuple[str, ...], dict[str, str]] = {}
    for number, (where, entry) in enumerate(file_entries(path, on_bad), start=1):
        names = tuple(entry)
        if names not in renamed:
            # Lines of JSON may each have other columns; most have the first line's.
            renamed[names] = _matched(where, names, config, given)
        row = {ours: entry[theirs] for ours, theirs in renamed[names].items()}
        if row.get("id") in (None, ""):
            row["id"] = f"{path.name.split('.')[0]}-{number}"
        yield where, row


def plain_row(entry: Mapping[str, Any], config: Config) -> Row:
    """Return an entry of `plain_entries` as a schema row.

    Raises:
        RowError: it breaks the schema.
    """
    row = {name: _value(name, value) for name, value in entry.items()}
    if "messages" in row:
        return check(config, {**row, "id": str(row["id"])})
    return convert(config, row, _SOURCE)


def file_entries(path: Path, on_bad: OnBad = fail) -> Iterator[Entry]:
    """Yield the entries of a JSONL, JSON, CSV or TSV file; an empty value of a table is None.

    Raises:
        UserError: the name has none of `PLAIN_SUFFIXES`, or the file cannot be read.
    """
    name = path.name.lower()
    if name.endswith((".jsonl", ".jsonl.gz")):
        return _json_lines(path, on_bad)
    if name.endswith(".json"):
        return read_list(path, on_bad)
    if name.endswith((".csv", ".csv.gz")):
        return _table(path, ",", on_bad)
    if name.endswith((".tsv", ".tsv.gz")):
        return _table(path, "\t", on_bad)
    raise UserError(f"{path}: a name that ends in {', '.join(PLAIN_SUFFIXES)} is needed")


def _json_lines(path: Path, on_bad: OnBad) -> Iterator[Entry]:
    with open_lines(path) as file:
        for number, line in numbered_lines(path, file):
            try:
                row = parse_row(path, number, line, finite=True)
            except UserError as error:
                on_bad(str(error))
            else:
                yield f"{path}:{number}", row


def _table(path: Path, delimiter: str, on_bad: OnBad) -> Iterator[Entry]:
    for where, entry in read_table(path, delimiter, on_bad=on_bad):
        yield where, {name: None if value == "" else value for name, value in entry.items()}


def _matched(
    where: str, names: tuple[str, ...], config: Config, given: Mapping[str, str]
) -> dict[str, str]:
    """Our column → the file's, for all that the file has."""
    for ours, theirs in given.items():
        if theirs not in names:
            raise UserError(
                f"{where}: no column {theirs!r} for {ours!r}{_nearest(theirs, names)} "
                f"(columns: {', '.join(names)})"
            )
    wanted = [*config.columns, "conversations"]
    matches = {}
    for ours in wanted:
        alike = [name for name in names if _plain(name) == _plain(ours)]
        if len(alike) > 1 and ours not in given:
            raise UserError(
                f"{where}: {' and '.join(map(repr, alike))} may each be {ours!r}; say which it is "
                f"with --column {ours}=NAME"
            )
        if alike:
            matches[ours] = alike[0]
    matches.update(given)
    needed = [name for name in config.columns if name not in config.nullable]
    absent = [name for name in needed if name not in matches and name not in ("id", "source")]
    if absent and "conversations" not in matches:
        name = absent[0]
        raise UserError(
            f"{where}: no column {name!r}{_nearest(name, names)}; say which it is with "
            f"--column {name}=NAME (columns: {', '.join(names)})"
        )
    return matches


def _nearest(name: str, names: Iterable[str]) -> str:
    by_key = {_plain(other): other for other in names}
    near = difflib.get_close_matches(_plain(name), by_key, n=1, cutoff=0.5)
    # `video` in `video_file` is a hint, `id` in `video` is not.
    near += [key for key in by_key if len(key) > 2 and (key in _plain(name) or _plain(name) in key)]
    return f", the nearest is {by_key[near[0]]!r}" if near else ""


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", name.strip().lower())


def _value(name: str, value: Any) -> Any:
    """Return what a table holds as text: numbers and lists by what the column is."""
    if not isinstance(value, str):
        return value
    if name in _FLOATS:
        try:
            return float(value)
        except ValueError:
            raise RowError(f"{name!r} is {value[:40]!r} where a number belongs") from None
    if name in _LISTS:
        try:
            return parse_json(value, finite=True)
        except (ValueError, RecursionError):
            raise RowError(f"{name!r} is no JSON list") from None
    return value


def read_captions(paths: Iterable[Path]) -> dict[str, str]:
    """Stem of a clip → its caption; of several captions of a clip the first.

    A file is JSONL, JSON, CSV or TSV with a `video` (or gif_name, video_name, video_id) and a
    `caption` (or description), rows of the release's captions, or a FrameQA table of TGIF-QA.

    Raises:
        UserError: `FILE:LINE: cause` for a file or row that is none of these.
    """
    captions: dict[str, str] = {}
    for path in paths:
        for where, entry in _caption_entries(path):
            try:
                video, caption = _captioned(entry)
            except RowError as error:
                raise UserError(f"{where}: {error}") from error
            captions.setdefault(stem_of(video), caption)
    return captions


def read_described(path: Path) -> Iterator[Row]:
    """Yield rows with id, video and caption of a file of descriptions, one of a clip each.

    A file is JSONL, JSON, CSV or TSV with a `video` (or gif_name, video_name, video_id) and a
    `caption` (or description, detailed_caption, answer), as rows of the release's captions and the
    files of Video Detailed Caption have them. `id` is the file's own, else the clip's name.

    Raises:
        UserError: `FILE:LINE: cause` for a file or row that is none of these.
    """
    for where, entry in _caption_entries(path):
        try:
            video, caption = _captioned(entry, _DETAILED)
            key = text_or_number(entry, "id") if entry.get("id") is not None else video
        except RowError as error:
            raise UserError(f"{where}: {error}") from error
        yield {"id": key, "video": video, "caption": caption}


def _caption_entries(path: Path) -> Iterator[Entry]:
    if path.suffix.lower() in (".csv", ".tsv"):
        _, heading = next(read_lines(path), (0, ""))
        if heading.startswith("gif_name\t"):
            return read_table(path, "\t", quoted=False)
    return file_entries(path)


def _captioned(entry: Row, captions: tuple[str, ...] = _CAPTIONS) -> tuple[str, str]:
    """Clip and caption, through the same checks as a row of `captions`."""
    raw = {"id": "caption", "prompt": "caption", **entry}
    for ours, names in (("video", _CLIPS), ("caption", captions)):
        raw[ours] = next((entry[name] for name in names if entry.get(name) is not None), None)
    if "conversations" not in entry and raw["caption"] is None:
        raise RowError(f"no {' or '.join(captions)}")
    row = convert(CONFIGS["captions"], raw, "")
    return row["video"], row["caption"]
