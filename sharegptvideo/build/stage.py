"""What a step of the pipeline starts from: the questions, or the file of the step before it.

A step's settings and its report are kept beside its rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sharegptvideo._io import read_jsonl
from sharegptvideo._runs import RunDir, RunKind
from sharegptvideo.data.load import read_rows
from sharegptvideo.data.sources import world_folder
from sharegptvideo.errors import UserError

__all__ = [
    "Row",
    "RowsInOrder",
    "begin",
    "latest_rows",
    "read_questions",
    "recorded",
    "stage_file",
    "with_captions",
]

Row = dict[str, Any]


class RowsInOrder:
    """Rows that are made in any order, given out in the order in which they were expected."""

    def __init__(self) -> None:
        self._rows: dict[str, Row | None] = {}

    def expect(self, key: str) -> None:
        """Say that the row of this key comes after those expected before."""
        self._rows[key] = None

    def put(self, key: str, row: Row) -> None:
        """Take a row that was expected."""
        self._rows[key] = row

    def ready(self) -> Iterator[Row]:
        """Yield, once, each row before which none is missing."""
        while self._rows and (row := self._rows[key := next(iter(self._rows))]) is not None:
            del self._rows[key]
            yield row


def read_questions(
    data_dir: str | Path,
    *,
    split: str = "train",
    media: str | Path | None = None,
    limit: int | None = None,
) -> list[Row]:
    """Rows of the config `qa` with `video_path` and, where the folder has it, the caption.

    Args:
        data_dir: a folder in the release layout, or "synthetic".
        split: "train", "validation" or "train+validation".
        media: the folder with the clips; default: `data_dir`.
        limit: take the first rows only.

    Raises:
        UserError: no such folder, no questions in it, a broken line.
    """
    root = world_folder() if str(data_dir) == "synthetic" else Path(data_dir)
    rows = read_rows("qa", root, split, media=root if media is None else media)
    questions = list(itertools.islice(rows, limit))
    if all(row["caption"] for row in questions):
        return questions
    captions = read_rows("captions", root, "train+validation")
    wanted = {row["video"] for row in questions}
    return list(with_captions(questions, (row for row in captions if row["video"] in wanted)))


def with_captions(
    rows: Iterable[Mapping[str, Any]], captions: Iterable[Mapping[str, Any]]
) -> Iterator[Row]:
    """Give each row that has no caption the first one of its video, where `captions` has it.

    The release keeps captions and questions in separate files; the judge needs both.
    """
    by_video: dict[str, str] = {}
    for row in captions:
        by_video.setdefault(str(row["video"]), row["caption"])
    for row in rows:
        yield dict(row) | {"caption": row.get("caption") or by_video.get(str(row["video"]))}


def stage_file(path: Path, name: str) -> Path:
    """Return the finished file of an earlier step: `path` itself, or `path/name` in a folder.

    Raises:
        UserError: there is no such file, or the step that writes it has not come to its end.
    """
    file = path / name if path.is_dir() else path
    step = Path(name).stem
    if not file.is_file():
        raise UserError(f"{file}: not found; make it with `sharegptvideo build {step}`")
    notes = replace(_STEP, file=f"{step}.json")
    if file.name == name and not notes.is_finished(file.parent):
        raise UserError(
            f"{file} is not finished; run `sharegptvideo build {step} --out {file.parent}` "
            "again, with the options it had"
        )
    return file


def latest_rows(path: Path) -> dict[str, Row]:
    """Return the rows of a keyed log by `id`, in the order of their first lines; later lines win.

    Raises:
        UserError: a line is broken or has no `id`; says where.
    """
    rows: dict[str, Row] = {}
    for number, row in read_jsonl(path):
        if "id" not in row:
            raise UserError(f"{path}:{number}: no 'id'; is this another kind of file?")
        rows[str(row["id"])] = row
    return rows


def recorded(notes: Path) -> Row | None:
    """Return the settings of the results there, None where a step has not begun.

    Raises:
        UserError: `notes` is no such file.
    """
    contents = replace(_STEP, file=notes.name).read(notes.parent)
    return None if contents is None else dict(contents["settings"])


def begin(
    notes: Path, settings: Row | Callable[[], Row], *, may_change: Collection[str] = ()
) -> RunDir:
    """Write a step's settings beside its results, or check that they are the ones there.

    Those in `may_change` may differ. See `RunDir` for settings that take long to find out.

    The step counts as finished once the folder's `finish` has written its report.

    Raises:
        UserError: results made with other settings lie there; names those that differ.
    """
    # Several steps share a folder, each with its notes: what else lies there is not foreign.
    kind = replace(_STEP, file=notes.name)
    return RunDir(notes.parent, settings, kind, may_change=may_change)


_STEP = RunKind(
    name="build step",
    other="results of other settings",
    section="settings",
    foreign=None,
)
