"""What the steps share: where a step's file lies, its settings beside it, its rows by id."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sharegptvideo._io import dumps, read_json, read_jsonl, write_json
from sharegptvideo.errors import UserError

__all__ = ["Progress", "Row", "begin", "finish", "latest_rows", "stage_file"]

Row = dict[str, Any]

Progress = Callable[[int, int, str], None]
"""`progress(done, total, what)`, called as the work goes on."""


def stage_file(path: Path, name: str) -> Path:
    """The finished file of an earlier step: `path` itself, or `path/name` in a folder.

    Raises:
        UserError: there is no such file, or the step that writes it has not come to its end.
    """
    file = path / name if path.is_dir() else path
    step = Path(name).stem
    if not file.is_file():
        raise UserError(f"{file}: not found; make it with `sharegptvideo build {step}`")
    notes = file.with_suffix(".json")
    if file.name == name and notes.is_file() and _notes(notes).get("report") is None:
        raise UserError(
            f"{file} is not finished; run `sharegptvideo build {step} --out {file.parent}` "
            "again, with the options it had"
        )
    return file


def latest_rows(path: Path) -> dict[str, Row]:
    """The rows of a keyed log by `id`, in the order of their first lines; later lines win.

    Raises:
        UserError: a line is broken or has no `id`; says where.
    """
    rows: dict[str, Row] = {}
    for number, row in read_jsonl(path):
        if "id" not in row:
            raise UserError(f"{path}:{number}: no 'id'; is this another kind of file?")
        rows[str(row["id"])] = row
    return rows


def begin(notes: Path, settings: Row) -> None:
    """Write a step's settings beside its results, or check that they are the ones there.

    Raises:
        UserError: results made with other settings lie there; names those that differ.
    """
    if notes.exists():
        there = _notes(notes)["settings"]
        changed = [
            f"{name} {dumps(there.get(name))} there, {dumps(settings.get(name))} now"
            for name in sorted(there.keys() | settings.keys())
            if there.get(name) != settings.get(name)
        ]
        if changed:
            raise UserError(
                f"{notes.parent} holds results of other settings ({'; '.join(changed)}); "
                "use another --out, or the settings there"
            )
    write_json(notes, {"settings": settings, "report": None})


def finish(notes: Path, report: Row) -> None:
    """Write the final report beside the settings: from here on the step counts as finished."""
    write_json(notes, {"settings": _notes(notes)["settings"], "report": report})


def _notes(path: Path) -> Row:
    notes = read_json(path)
    if not isinstance(notes, dict) or not isinstance(notes.get("settings"), dict):
        raise UserError(f"{path}: not the notes of this step; use another --out")
    return notes
