"""A submission: a finished run, packed for the leaderboard, with who sends it in.

run.json, results.json, predictions.jsonl, judgements.jsonl
                   those of the run, without what is of one machine only
submission.json    whose it is, and the hashes of the rest
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationError

from sharegptvideo._io import read_json_object
from sharegptvideo._shipped import shipped
from sharegptvideo._strict import StrictModel
from sharegptvideo._text import web_link
from sharegptvideo.errors import UserError, field_problems

__all__ = [
    "FILES",
    "Submission",
    "SubmissionInfo",
    "Withdrawal",
    "read_submission",
    "submitted_runs",
]

FILES = ("run.json", "results.json", "predictions.jsonl", "judgements.jsonl")
"""What a submission has beside submission.json, and nothing else."""

_FOLDER = "eval/leaderboard/submissions"
_RECORD = "submission.json"
_MOST_CHARACTERS = 100
_MOST_OF_A_LINK = 300


def _plain(text: str) -> str:
    """Refuse a text that a page, a terminal or a reader could take for something else."""
    text = text.strip()
    if not text or len(text) > _MOST_CHARACTERS:
        raise ValueError(f"must have 1 to {_MOST_CHARACTERS} characters")
    if not text.isprintable() or set(text) & set("<>"):
        raise ValueError("may have no line ends, control characters, < or >")
    return unicodedata.normalize("NFC", text)


def _https(text: str) -> str:
    link = web_link(text)
    if link is None or not link.lower().startswith("https://") or len(link) > _MOST_OF_A_LINK:
        raise ValueError(
            f"must be an address that begins with https://, of at most {_MOST_OF_A_LINK} characters"
        )
    if "@" in urlsplit(link).netloc:
        raise ValueError("may have no user name or password in it")
    return link


def _day(text: str) -> str:
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise ValueError("must be a day as 2026-11-27")
    date.fromisoformat(text)
    return text


Text = Annotated[str, AfterValidator(_plain)]
Day = Annotated[str, AfterValidator(_day)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class SubmissionInfo(StrictModel):
    """What the submitter says of the model.

    Attributes:
        name: of the model, as the board shows it.
        organisation: whose it is.
        link: where it is described, an address that begins with https://.
        params: how many parameters it has; None where that is not known.
        licence: of its weights, such as Apache-2.0, or "closed".
        contamination: which test videos, or how many, were in training; None where that is not
            known.
    """

    name: Text
    organisation: Text
    link: Annotated[str, AfterValidator(_https)]
    params: Annotated[int, Field(ge=1, lt=2**63)] | None
    licence: Text
    contamination: Text | None = None


class Withdrawal(StrictModel):
    """That a submission is withdrawn, since when and why; it stays on the board, marked."""

    date: Day
    reason: Text


class Submission(SubmissionInfo):
    """The contents of a submission.json.

    Attributes:
        version: of this form.
        submitted: the day on which it was packed.
        package: the version of this package that packed it.
        judge: the judge of the run, as it was asked for.
        task_versions: by task.
        judge_prompt_hashes: by task; None for judges that are asked with no prompt.
        files: the SHA-256 of each of `FILES`.
        withdrawn: None while it stands.
    """

    version: Literal[1]
    submitted: Day
    package: Text
    judge: Text
    task_versions: dict[str, int]
    judge_prompt_hashes: dict[str, str | None]
    files: dict[str, Sha256]
    withdrawn: Withdrawal | None = None


def read_submission(folder: Path) -> Submission | None:
    """Read who sent a folder in; None where it holds no submission, such as a run of one's own.

    That its files are what they are said to be is for `check_submission`.

    Raises:
        UserError: its submission.json cannot be read, or a value in it is missing or impossible.
    """
    file = folder / _RECORD
    if not file.is_file():
        return None
    contents: dict[str, Any] = read_json_object(file)
    try:
        return Submission.model_validate(contents)
    except ValidationError as error:
        raise UserError(f"{file}: {'; '.join(field_problems(error))}") from error


def submitted_runs() -> list[Path]:
    """Return the folders of all submissions that come along, by name; withdrawn ones too."""
    return list(_submissions_in(shipped(_FOLDER)))


def _submissions_in(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if path.is_dir())
