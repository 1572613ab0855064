"""The key of a rating sheet: which answers of which runs the ids in it stand for.

Beside `sheet.html` lies `sheet.key.json`. Raters see the first alone; what they save has
the sheet's ids, and is joined with the second when it is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from sharegptvideo._io import read_json
from sharegptvideo._strict import StrictModel
from sharegptvideo.errors import UserError, field_problems

__all__ = ["KeyAnswer", "KeyItem", "KeyRun", "SheetKey", "key_file", "read_sheet_key"]


class KeyRun(StrictModel):
    """A run that answers are of: its folder's name, and its model."""

    name: str
    model: str


class KeyAnswer(StrictModel):
    """An answer, and the place of its run among the key's."""

    run: int
    text: str


class KeyItem(StrictModel):
    """What one id of the sheet stands for; `answers` in the order of the sheet, one or two."""

    task: str
    id: str
    video: str
    question: str
    reference: str
    caption: str | None
    answers: tuple[KeyAnswer, ...]


class SheetKey(StrictModel):
    """The contents of a key.

    Attributes:
        sheet: a hash of what the sheet asks.
        kind: whether it asks for preferences between two answers, or for ratings of one.
        seed: drew the questions and the order of the answers.
        runs: whose answers they are.
        n_shared: questions that all runs answered.
        n_same: of those, for each two runs ("0 1": the first and the second), how many have the
            same answer in both: they are never asked.
        items: by the sheet's ids.
    """

    sheet: str
    kind: Literal["preferences", "ratings"]
    seed: int
    runs: tuple[KeyRun, ...]
    n_shared: int
    n_same: dict[str, int]
    items: dict[str, KeyItem]


def key_file(sheet: Path) -> Path:
    """Return where the key of a sheet lies.

    >>> key_file(Path("out/sheet.html")).as_posix()
    'out/sheet.key.json'
    """
    return sheet.with_suffix(".key.json")


def read_sheet_key(file: Path, kind: Literal["preferences", "ratings"]) -> SheetKey:
    """Read the key of a sheet of one kind.

    Raises:
        UserError: the file cannot be read, is no key, or is one of the other kind of sheet.
    """
    contents = read_json(file)
    try:
        key = SheetKey.model_validate(contents)
    except ValidationError as error:
        cause = field_problems(error, "the file")[0]
        raise UserError(f"{file}: not the key of a sheet ({cause}); `study sheet` writes it beside"
                        " the sheet, as sheet.key.json") from error  # fmt: skip
    sides = 2 if key.kind == "preferences" else 1
    for name, item in key.items.items():
        if len(item.answers) != sides or any(
            not 0 <= answer.run < len(key.runs) for answer in item.answers
        ):
            raise UserError(f"{file}: item {name!r} has not {sides} answers of the key's runs")
    if key.kind != kind:
        fix = (
            "give the run first: eval agreement RUN RATINGS --key KEY"
            if key.kind == "ratings"
            else "leave the run out: eval agreement PREFERENCES --key KEY"
        )
        raise UserError(f"{file}: is the key of a sheet of {key.kind}; {fix}")
    return key
