"""What the steps share: where a step's file lies, its settings beside it, its rows by id."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from sharegptvideo._io import read_jsonl
from sharegptvideo._runs import RunDir, RunKind
from sharegptvideo.errors import UserError

__all__ = ["Row", "begin", "latest_rows", "stage_file"]

Row = dict[str, Any]


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


def begin(notes: Path, settings: Row) -> RunDir:
    """Write a step's settings beside its results, or check that they are the ones there.

    The step counts as finished once the folder's `finish` has written its report.

    Raises:
        UserError: results made with other settings lie there; names those that differ.
    """
    # Several steps share a folder, each with its notes: what else lies there is not foreign.
    return RunDir(notes.parent, settings, replace(_STEP, file=notes.name))


_STEP = RunKind(
    name="build step",
    other="results of other settings",
    section="settings",
    foreign=None,
)
