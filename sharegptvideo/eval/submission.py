"""A submission: a finished run, packed for the leaderboard, with who sends it in.

run.json, results.json, predictions.jsonl, judgements.jsonl
                   those of the run, without what is of one machine only
submission.json    whose it is, and the hashes of the rest
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from itertools import pairwise
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationError

from sharegptvideo._io import read_json_object, sha256_text
from sharegptvideo._shipped import shipped
from sharegptvideo._strict import StrictModel
from sharegptvideo._text import web_link
from sharegptvideo.errors import UserError, field_problems

__all__ = [
    "FILES",
    "RECORD",
    "Submission",
    "SubmissionInfo",
    "Withdrawal",
    "judge_prompt_hashes",
    "public_rows",
    "public_run",
    "public_text",
    "read_submission",
    "submission_slug",
    "submissions_in",
    "submitted_runs",
    "task_versions",
]

FILES = ("run.json", "results.json", "predictions.jsonl", "judgements.jsonl")
"""What a submission has beside submission.json, and nothing else."""

_FOLDER = "eval/leaderboard/submissions"
RECORD = "submission.json"
"""Says whose a submission is, with the hashes of `FILES`."""

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
    file = folder / RECORD
    if not file.is_file():
        return None
    contents: dict[str, Any] = read_json_object(file)
    try:
        return Submission.model_validate(contents)
    except ValidationError as error:
        raise UserError(f"{file}: {'; '.join(field_problems(error))}") from error


def submitted_runs() -> list[Path]:
    """Return the folders of all submissions that come along, by name; withdrawn ones too."""
    return submissions_in(shipped(_FOLDER))


def submissions_in(folder: Path) -> list[Path]:
    """Return the folders of the submissions in a folder, by name; of one submission, itself.

    Raises:
        UserError: no such folder, or no submission in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    if any((folder / name).is_file() for name in (*FILES, RECORD)):
        return [folder]
    return [path for path in sorted(folder.iterdir()) if path.is_dir()]


def task_versions(run: Mapping[str, Any]) -> dict[str, int]:
    """Return the version of each task of a run, given the contents of its run.json."""
    return {name: about["version"] for name, about in run["tasks"].items()}


def judge_prompt_hashes(run: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the hash of the prompt by which each task was judged; None where none was sent."""
    return {name: about["judge"].get("prompt_hash") for name, about in run["tasks"].items()}


def submission_slug(name: str, day: str) -> str:
    """Return what a submission's folder is called: its name in plain letters, and the day.

    >>> submission_slug("LLaVA-Hound DPO (7B)", "2026-11-27")
    'llava-hound-dpo-7b-2026-11-27'
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:60].strip("-")
    return f"{slug or 'model-' + sha256_text(name)[:8]}-{day}"


# What of a run is published: the run, not the machine, the people and the keys.

_OF_A_RUN = ("model", "judge", "tasks", "seeds", "packages", "started")
_OF_A_PLACE = frozenset({"base_url", "endpoint", "send_reason"})
_REMOVED = "[removed]"
_ADDRESS = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]*://\S+")
_SECRET = re.compile(
    r"\b(?:sk|hf|gsk|xai|ghp|gho|pat|key|api|AIza)[-_]?[A-Za-z0-9][A-Za-z0-9_-]{14,}"
    r"|(?i:bearer\s+)\S+"
)
_PATH = re.compile(
    r"(?<![\w./\\-])(?:[A-Za-z]:[\\/]|~[\w-]*[\\/]|[\\/]{1,2})(?:[^\s\"'<>|:;,()\\/]+[\\/])*"
    r"([^\s\"'<>|:;,()\\/]*)"
)
_OPTION = re.compile(r"--?[a-z][a-z-]*")
_SECRET_OPTION = re.compile(r"--?[a-z-]*(?:key|token|secret|password|passwd)\b(?!-)")
_HARMLESS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,:+-]{0,60}")
_HUB_MODEL = re.compile(r"hf:[A-Za-z0-9][\w.-]{0,60}/[A-Za-z0-9][\w.-]{0,95}")


def public_text(text: str) -> str:
    """Return a text without the addresses, keys and folders in it; of a path its last name stays.

    >>> public_text("/home/alice/clips/a.mp4: cannot be read; https://10.0.0.7/v1 was down")
    'a.mp4: cannot be read; [removed] was down'
    """
    return _Cleaner().text(text)


def public_run(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the contents of run.json without what is of one machine only, or of one person.

    What it is a run of stays: model, judge, tasks, seeds, versions. Of the data its limit stays,
    of paths their last name, of the command what is plainly no path, address or key.
    """
    clean = _Cleaner()
    public = {key: clean.value(run[key]) for key in _OF_A_RUN if key in run}
    if isinstance(run.get("model"), Mapping):
        public["model"] = clean.model(run["model"])
    data = run.get("data")
    if isinstance(data, Mapping):
        public["data"] = {"limit": data.get("limit")}
    if isinstance(run.get("command"), list):
        public["command"] = clean.command([str(word) for word in run["command"]])
    return public


def public_rows(rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield rows of predictions.jsonl or judgements.jsonl likewise.

    What a model or a judge said stays word for word, and so does the reason of a verdict.
    """
    clean = _Cleaner()
    for row in rows:
        public = dict(row)
        causes = ("error", "reason") if row["status"] != "scored" else ("error",)
        for key in causes:
            if isinstance(row.get(key), str):
                public[key] = clean.text(row[key])
        if isinstance(row.get("judge"), Mapping):
            public["judge"] = clean.value(row["judge"])
        yield public


class _Cleaner:
    """Takes out of texts what is not public; the keys are those of this process's environment."""

    def __init__(self) -> None:
        words = ("KEY", "TOKEN", "SECRET", "PASSWORD")
        self._secrets = [value for name, value in os.environ.items()
                         if name.upper().endswith(words) and len(value) >= 8]  # fmt: skip
        self._home = str(Path.home())
        self._known: dict[str, str] = {}  # judges' descriptions come a thousand times

    def text(self, text: str) -> str:
        """See `public_text`."""
        if text not in self._known:
            clean = text
            for secret in self._secrets:
                clean = clean.replace(secret, _REMOVED)
            clean = _SECRET.sub(_REMOVED, _ADDRESS.sub(_REMOVED, clean))
            if len(self._home) > 1:  # its name may have spaces
                clean = clean.replace(self._home, "~")
            self._known[text] = _PATH.sub(lambda path: path[1] or _REMOVED, clean)
        return self._known[text]

    def value(self, value: Any) -> Any:
        """Clean every text in a value, whatever it is nested in; keys of a place are left out."""
        if isinstance(value, Mapping):
            return {
                self.text(str(key)): self.value(each)
                for key, each in value.items()
                if key not in _OF_A_PLACE
            }
        if isinstance(value, list | tuple):
            return [self.value(each) for each in value]
        return self.text(value) if isinstance(value, str) else value

    def model(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """Clean a model's description; its link is an address that its authors published."""
        public: dict[str, Any] = self.value(model)
        if isinstance(model.get("link"), str):
            public["link"] = web_link(model["link"])
        for key in ("spec", "name"):
            if isinstance(model.get(key), str):
                public[key] = self._spec(model[key], model)
        if isinstance(model.get("answered_by"), Mapping):
            public["answered_by"] = self.model(model["answered_by"])
        return public

    def _spec(self, spec: str, model: Mapping[str, Any]) -> str:
        """Return `hf:NAME` and the like with a path's last name; of no path the whole name."""
        kind, colon, rest = spec.partition(":")
        if not colon or (len(kind) == 1 and rest[:1] in ("/", "\\")):  # a path with a drive
            kind, colon, rest = "", "", spec
        # A repository's name is "owner/name"; of a folder, only the last name is the model's.
        known = rest == model.get("name") and not rest.startswith(("/", "~", "."))
        if known and rest.count("/") == 1:
            return self.text(spec)
        return self.text(kind + colon + PureWindowsPath(rest).name)

    def command(self, words: Sequence[str]) -> list[str]:
        """Keep of a command's words those that can be no path, address or key."""
        public = [PureWindowsPath(word).name for word in words[:1]]
        for before, word in pairwise(words):
            option, equals, value = word.partition("=")
            name = option + equals if equals and _OPTION.fullmatch(option) else ""
            rest = value if name else word
            harmless = any(form.fullmatch(rest) for form in (_OPTION, _HARMLESS, _HUB_MODEL))
            if _SECRET_OPTION.match(name or before):
                harmless = False
            public.append(name + (self.text(rest) if harmless else _REMOVED))
        return public
