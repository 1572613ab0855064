"""What a board asks of a submission: whole, unaltered, scored anew to the same figures."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError

from sharegptvideo._concurrency import Progress
from sharegptvideo._io import (
    RowCheck,
    dumps,
    numbered_lines,
    parse_row,
    parse_yaml,
    read_json_object,
    sha256_file,
)
from sharegptvideo._shipped import shipped
from sharegptvideo._strict import StrictModel
from sharegptvideo._text import and_more, byte_size, number, plural, shortened
from sharegptvideo.errors import UserError, field_problems
from sharegptvideo.eval.judge import judged_items
from sharegptvideo.eval.run_dir import asked_part, named, other_settings
from sharegptvideo.eval.run_record import (
    check_judgement,
    check_prediction,
    check_run,
    read_results,
)
from sharegptvideo.eval.score import score_answers, token_usage
from sharegptvideo.eval.submission import (
    FILES,
    RECORD,
    Submission,
    judge_prompt_hashes,
    public_rows,
    public_run,
    read_submission,
    submission_slug,
    submissions_in,
    task_versions,
)
from sharegptvideo.eval.tasks import Task, load_questions, load_task, task_names
from sharegptvideo.judges import Judge, open_judge
from sharegptvideo.judges.base import Claims, JudgeItem, is_judged, judge_items, verdict_row
from sharegptvideo.judges.protocol import AnyProtocol, UnreadableError, load_protocol
from sharegptvideo.models.base import Question, short_hash

__all__ = [
    "NEEDS_ANSWERS",
    "BoardSettings",
    "QuestionSet",
    "board_settings",
    "changed_submissions",
    "check_submission",
    "differing_figures",
    "question_set",
    "scored_anew",
]

Row = dict[str, Any]
Rows = dict[str, Row]
T = TypeVar("T")

_MOST_BYTES = 100 << 20  # what GitHub takes of one file
_MOST_OF_A_LINE = 1 << 20
_SHOWN = 5
_CLOSE = 1e-7  # what two versions of a library may differ by
_NO_SERVER = "http://localhost/v1"  # an address has to be named; it is never asked
_SECOND_REPLY = "\n---\n"  # between the two replies of a judge that was asked again
NEEDS_ANSWERS = frozenset({"yes_rate", "right_yes_rate", "accuracy_yes", "accuracy_no"})
"""Figures that take the right answers to score, which a submission does not hold."""


class QuestionSet(StrictModel):
    """The questions of a task: how many, and a hash of all that a submission says of them."""

    n: Annotated[int, Field(ge=0)]
    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class TaskOfBoard(StrictModel):
    """A task that the board takes, in the version of this package.

    `questions` are the sets that a submission has to have answered one of; None: not recorded, so
    that only the data can show whether one is missing.
    """

    questions: tuple[QuestionSet, ...] | None = None


class JudgesOfBoard(StrictModel):
    """The judges that the board takes: rules by name, served models by protocol; with versions."""

    rules: dict[str, tuple[int, ...]]
    served: dict[str, tuple[int, ...]]


class BoardSettings(StrictModel):
    """The contents of eval/leaderboard/settings.yaml."""

    version: Annotated[int, Field(ge=1)]
    tasks: dict[str, TaskOfBoard]
    judges: JudgesOfBoard


@cache
def board_settings() -> BoardSettings:
    """Return the settings that come along, eval/leaderboard/settings.yaml.

    Raises:
        UserError: the file is faulty.
    """
    file = shipped("eval/leaderboard") / "settings.yaml"
    contents = parse_yaml(file.name, file.read_text(encoding="utf-8"))
    try:
        return BoardSettings.model_validate(contents)
    except ValidationError as error:
        raise UserError(f"{file}: {'; '.join(field_problems(error))}") from error


def question_set(questions: Iterable[Question]) -> QuestionSet:
    """Return how many questions there are, and a hash of their ids, videos, texts and types."""
    texts = sorted(dumps(_said_of(question)) for question in questions)
    return QuestionSet(n=len(texts), hash=short_hash("\n".join(texts)))


def check_submission(
    folder: Path,
    *,
    data_dir: Path | None = None,
    settings: BoardSettings | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Check that a board may show a submission: every figure is scored anew.

    Args:
        folder: of the submission.
        data_dir: the questions, see `load_questions`; `synthetic` is the built-in world. None:
            the data are not read. With them ids, texts and the verdicts' hashes are compared, and
            verdicts by rules are given anew.
        settings: what the board takes; default: what comes along.
        progress: called as `progress(done, total, what)`.

    Returns:
        `folder`, `name`, `problems` (each a line; none: it may be shown), `remarks` (what could
        not be checked), and by task in `tasks` `n`, `questions` (their `QuestionSet`) and
        `verdicts`: "given anew" by rules from the data, "read anew" from the judge's replies, or
        "as submitted".
    """
    report = _Report()
    submitted = _read(folder, report)
    tasks: dict[str, Any] = {}
    if submitted is not None:
        answers: dict[str, str] = {}
        for name in submitted.run["tasks"]:
            task = _TaskCheck(name, submitted, settings or board_settings(), report)
            tasks[name] = task.check(data_dir, progress)
            answers |= task.answers
        _compare_results(submitted, answers, report)
    return {
        "folder": str(folder),
        "name": submitted.record.name if submitted else None,
        "problems": report.problems,
        "remarks": report.remarks,
        "tasks": tasks,
    }


class _Report:
    """What was noticed: problems refuse a submission, remarks do not."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.remarks: list[str] = []

    def problem(self, text: str) -> None:
        if text not in self.problems:
            self.problems.append(text)


@dataclass(frozen=True, slots=True)
class _Submitted:
    """A submission's files; rows by the keys of their questions, in the order of the file."""

    record: Submission
    run: Row
    results: Row
    predictions: Rows
    judgements: Rows


def _read(folder: Path, report: _Report) -> _Submitted | None:
    """Read all files; None where one cannot be."""
    if not _has_files(folder, report):
        return None

    def attempt(read: Callable[[], T]) -> T | None:
        try:
            return read()
        except UserError as error:
            report.problem(str(error).replace(f"{folder}/", ""))
            return None

    record = attempt(lambda: read_submission(folder))
    if record is not None:
        _compare_hashes(folder, record, report)
    run = attempt(lambda: _run_of(folder / "run.json"))
    results = attempt(lambda: read_results(folder / "results.json"))
    predictions = attempt(lambda: _rows(folder / "predictions.jsonl", check_prediction, report))
    judgements = attempt(lambda: _rows(folder / "judgements.jsonl", check_judgement, report))
    if record is None or run is None or results is None:
        return None
    if predictions is None or judgements is None:
        return None
    _compare_record(record, run, report)
    return _Submitted(record, run, results, predictions, judgements)


def _has_files(folder: Path, report: _Report) -> bool:
    """Check that a folder holds the files of a submission, plain and not too large."""
    if folder.is_symlink() or not folder.is_dir():
        report.problem(f"{folder}: no folder of a submission")
        return False
    wanted = (*FILES, RECORD)
    if not os.path.lexists(folder / RECORD):
        report.problem(
            f"{RECORD}: missing: no submission; `sharegptvideo submission make` packs a run as one"
        )
        return False
    others = sorted(
        shortened(path.name, 80) for path in folder.iterdir() if path.name not in wanted
    )
    if others:
        report.problem(
            f"{and_more(others, _SHOWN)}: not of a submission, which never holds clips; remove it"
        )
    whole = True
    for name in wanted:
        path, cause = folder / name, None
        if path.is_symlink():
            cause = "a link; put the file itself there"
        elif not path.is_file():
            cause = "missing; pack the run with `sharegptvideo submission make`"
        elif path.stat().st_size > _MOST_BYTES:
            cause = f"over {byte_size(_MOST_BYTES)}; submit fewer tasks at once"
        elif _is_packed(path):
            cause = "packed; put the text itself there"
        if cause is not None:
            whole = False
            report.problem(f"{name}: {cause}")
    return whole


def _is_packed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _compare_hashes(folder: Path, record: Submission, report: _Report) -> None:
    if set(record.files) != set(FILES):
        report.problem(f"{RECORD}: files: has to name {', '.join(FILES)} and nothing else")
    for name in FILES:
        if name in record.files and record.files[name] != sha256_file(folder / name):
            report.problem(
                f"{name}: was altered after it was packed (its SHA-256 is not that in {RECORD})"
            )


def _run_of(file: Path) -> Row:
    run = read_json_object(file)
    check_run(file, run)
    for key, value in public_run(run).items():
        if run[key] != value:
            raise UserError(
                f"{file}: {key} holds a path, an address or a key of one machine; pack the run"
                " with `sharegptvideo submission make`"
            )
    if unknown := run.keys() - public_run(run).keys():
        raise UserError(f"{file}: {and_more(sorted(unknown), 3)}: not a part of a submission")
    if not run["tasks"]:
        raise UserError(f"{file}: names no task")
    return run


def _rows(file: Path, check: RowCheck, report: _Report) -> Rows:
    """Read rows by the keys of their questions; a question that has several is a problem.

    Raises:
        UserError: a line is no row, or longer than any answer.
    """
    rows: Rows = {}
    twice: list[str] = []
    with file.open("rb") as lines:
        for line_number, line in numbered_lines(file, lines):
            where = f"{file}:{line_number}"
            if len(line) > _MOST_OF_A_LINE:
                raise UserError(f"{where}: over {byte_size(_MOST_OF_A_LINE)}; no answer is so long")
            row = parse_row(file, line_number, line, finite=True)
            try:
                check(where, row)
            except RecursionError as error:
                raise UserError(f"{where}: nested too deeply") from error
            key = f"{row['task']}/{row['id']}"
            if key in rows:
                twice.append(row["id"])
            rows[key] = row
    for row, clean in zip(rows.values(), public_rows(rows.values()), strict=True):
        if row != clean:
            report.problem(
                f"{file.name}: {shortened(row['id'], 40)} holds a path, an address or a key of one"
                " machine; pack the run with `sharegptvideo submission make`"
            )
            break
    if twice:
        report.problem(f"{file.name}: {_ids(twice)} more than once; keep one row each")
    return rows


def _ids(ids: Sequence[str]) -> str:
    listed = and_more([shortened(each, 40) for each in ids], _SHOWN)
    return f"{plural(len(ids), 'id')} ({listed})"


def _compare_record(record: Submission, run: Mapping[str, Any], report: _Report) -> None:
    """Compare what submission.json says of the run with run.json."""
    said = {
        "judge": (record.judge, run["judge"]),
        "task_versions": (record.task_versions, task_versions(run)),
        "judge_prompt_hashes": (record.judge_prompt_hashes, judge_prompt_hashes(run)),
    }
    for key, (there, here) in said.items():
        if there != here:
            report.problem(f"{RECORD}: {key}: {_short(there)}, but run.json has {_short(here)}")


class _TaskCheck:
    """One task of a submission."""

    def __init__(
        self, name: str, submitted: _Submitted, settings: BoardSettings, report: _Report
    ) -> None:
        self._name = name
        self._submitted = submitted
        self._settings = settings
        self._report = report
        self._about: Row = submitted.run["tasks"][name]
        self._judge: Row = self._about["judge"]
        self._predictions = _of_task(submitted.predictions, name)
        self._judgements = _of_task(submitted.judgements, name)

        self.answers: dict[str, str] = {}
        """The right answers by the questions' keys, where the data were read."""

    def _problem(self, text: str) -> None:
        self._report.problem(f"{self._name}: {text}")

    def _remark(self, text: str) -> None:
        self._report.remarks.append(f"{self._name}: {text}")

    def _ids(self, keys: Iterable[str]) -> str:
        """Say how many questions there are, with the first of them, by their keys."""
        return _ids([key.removeprefix(f"{self._name}/") for key in sorted(keys)])

    def check(self, data_dir: Path | None, progress: Progress | None) -> Row:
        """Note all that is wrong, and return what the report says of the task."""
        task = self._task()
        self._is_whole()
        self._judge_is_taken(task)
        self._verdicts_are_the_judges()
        asked = question_set(_questions_of(self._predictions.values()))
        verdicts = "as submitted"
        if task is not None:
            questions = self._load(task, data_dir)
            if questions is not None:
                self.answers = {key: question.answer for key, question in questions.items()}
                self._compare_questions(questions)
                if self._judge.get("kind") == "rules" and self._judge_again(questions, progress):
                    verdicts = "given anew"
            else:
                self._compare_set(asked)
        if self._read_again():
            verdicts = "read anew"
        if verdicts == "as submitted":
            self._remark(
                "its verdicts are taken as submitted"
                + ("; --data-dir has rules give them anew" if data_dir is None else "")
            )
        return {"n": len(self._predictions), "questions": asked.model_dump(), "verdicts": verdicts}

    def _task(self) -> Task | None:
        """Return the task; None, and a problem, where the board takes none like it."""
        if self._name not in self._settings.tasks or self._name not in task_names():
            taken = ", ".join(sorted(self._settings.tasks))
            self._problem(f"the board does not take this task; it takes {taken}")
            return None
        task = load_task(self._name)
        wanted = {
            "version": task.version,
            "config": task.config,
            "split": task.split,
            "protocol": task.protocol,
            "prompt_hash": task.prompt_hash,
            "task_hash": task.task_hash,
        }
        others = {key: value for key, value in wanted.items() if self._about.get(key) != value}
        for key, value in others.items():
            self._problem(f"its {key} is {_short(self._about.get(key))}; the board takes {value}")
        if changed := other_settings(self._submitted.run, self._name):
            self._remark(changed)
        return None if others else task

    def _is_whole(self) -> None:
        """Each question has one answer, each answer one verdict, and none is left to be judged."""
        part = asked_part(self._submitted.run, self._name, len(self._predictions))
        if part:
            self._problem(f"{part}; the board takes whole tasks: run it again without --limit")
        if not self._predictions:
            self._problem("predictions.jsonl has no answer to it")
        answered = set(
            self._items({key: _question_of(row) for key, row in self._predictions.items()})
        )
        for ids, what in (
            (answered - self._judgements.keys(), "without a verdict in judgements.jsonl"),
            (self._judgements.keys() - self._predictions.keys(), "judged, but never answered"),
            ({key for key in answered & self._judgements.keys() if self._is_open(key)},
             "not judged, as a call failed: finish the run by the same command"),
        ):  # fmt: skip
            if ids:
                self._problem(f"{self._ids(ids)} {what}")

    def _is_open(self, key: str) -> bool:
        """Whether a verdict is still to be had; rules that gave none would give none again."""
        row = self._judgements[key]
        return self._judge.get("kind") != "rules" and not is_judged({"reply": None, **row})

    def _judge_is_taken(self, task: Task | None) -> None:
        name, kind, judges = self._judge["name"], self._judge.get("kind"), self._settings.judges
        if kind == "rules":
            version, taken = self._judge.get("version"), judges.rules.get(name, ())
            asked = f"{name} version {version}"
            listed = [f"{each} {_listed(versions)}" for each, versions in judges.rules.items()]
            if task is not None and name != (task.own_judge or name):
                self._problem(f"judged by {name}; its answers are for {task.own_judge}")
        elif kind == "openai":
            protocol = str(self._judge.get("protocol"))
            version, taken = self._judge.get("prompt_version"), judges.served.get(protocol, ())
            asked = f"{name} by prompt {protocol} version {version}"
            listed = [f"{each} {_listed(versions)}" for each, versions in judges.served.items()]
            if task is not None and protocol != task.protocol:
                self._problem(f"judged by prompt {protocol}; the task's is {task.protocol}")
        else:
            version, taken, asked, listed = None, (), f"{name} (kind {kind})", []
            listed = [*judges.rules, "openai:NAME"]
        if version not in taken:
            self._problem(f"judged by {asked}; the board takes {', '.join(listed)}")
        elif kind == "openai":
            self._is_asked_as_here()

    def _is_asked_as_here(self) -> None:
        """Compare a served judge with one of this package: its name, wording and settings."""
        name = f"openai:{self._judge.get('model')}"
        sees: Literal["frames"] | None = "frames" if "sees" in self._judge else None
        try:
            judge = open_judge(
                name, base_url=_NO_SERVER, protocol=str(self._judge.get("protocol")), sees=sees
            )
        except UserError as error:
            self._problem(str(error))
            return
        here = judge.describe()
        if here["prompt_version"] != self._judge["prompt_version"]:
            return  # an earlier one that the board still takes
        for key in sorted((here.keys() | self._judge.keys()) - {"endpoint"}):
            if self._judge.get(key) != here.get(key):
                self._problem(
                    f"its judge's {key} is {_short(self._judge.get(key))}; judges of this package"
                    f" have {_short(here.get(key))}"
                )

    def _protocol(self) -> AnyProtocol | None:
        """Return the prompt that a served judge was asked by, where it is one of this package."""
        try:
            sees: Literal["frames"] | None = "frames" if "sees" in self._judge else None
            protocol = load_protocol(str(self._judge.get("protocol")), sees=sees)
        except UserError:
            return None
        same = protocol.hash == self._judge.get("prompt_hash")
        return protocol if same and protocol.version == self._judge.get("prompt_version") else None

    def _verdicts_are_the_judges(self) -> None:
        """Each verdict names the judge that run.json does, and lies on its scale."""
        lowest, highest = self._scale()
        others, outside, bare = [], [], []
        for row in self._judgements.values():
            about = {key: value for key, value in (row.get("judge") or {}).items()
                     if key in self._judge and key not in ("endpoint", "members")}  # fmt: skip
            if not about or any(self._judge[key] != value for key, value in about.items()):
                others.append(row["id"])
            score = row.get("score")
            if row["status"] == "scored" and not (score is None or lowest <= score <= highest):
                outside.append(row["id"])
            if not row.get("item_hash"):
                bare.append(row["id"])
        if others:
            self._problem(f"{_ids(others)} judged by another judge than run.json names")
        if outside:
            self._problem(f"{_ids(outside)} with a score that is not from {lowest} to {highest}")
        if bare:
            self._problem(f"{_ids(bare)} without item_hash, the hash of what was judged")

    def _scale(self) -> tuple[float, float]:
        try:
            return _judge_of(self._about).scale
        except UserError:  # a judge that the board does not take
            return -math.inf, math.inf

    def _compare_set(self, asked: QuestionSet) -> None:
        """Compare the questions with those that the settings record."""
        sets = self._settings.tasks[self._name].questions
        if sets is None:
            self._remark(
                f"whether its {plural(asked.n, 'question')} are all of the task's is not known"
                " here; --data-dir compares them"
            )
        elif asked not in sets:
            wanted = " or ".join(number(each.n) for each in sets)
            cause = (
                f"{plural(asked.n, 'question')}, of {wanted}"
                if asked.n not in {each.n for each in sets}
                else "its questions (ids, videos, texts or types) are not those of the task"
            )
            self._problem(f"{cause}: answers are missing or added")

    def _load(self, task: Task, data_dir: Path | None) -> dict[str, Question] | None:
        """Return the task's questions by key; None where no data are named for it."""
        if data_dir is None:
            return None
        builtin = str(data_dir) == "synthetic"
        if builtin and not self._name.startswith("synthetic"):
            return None
        return {q.key: q for q in load_questions(task, None if builtin else data_dir)}

    def _compare_questions(self, questions: Mapping[str, Question]) -> None:
        missing = questions.keys() - self._predictions.keys()
        added = self._predictions.keys() - questions.keys()
        for ids, what in ((missing, "without an answer"), (added, "not of the task")):
            if ids:
                self._problem(
                    f"{self._ids(ids)} {what}: answered {number(len(self._predictions))},"
                    f" in the data {number(len(questions))}"
                )
        both = self._predictions.keys() & questions.keys()
        changed = [
            key
            for key in both
            if _said_of(_question_of(self._predictions[key])) != _said_of(questions[key])
        ]
        hashes = [
            key
            for key, item in self._items(questions).items()
            if self._judgements.get(key, {}).get("item_hash", item.hash) != item.hash
        ]
        if changed:
            self._problem(
                f"{self._ids(changed)} with another video, text or type of"
                " question than the data have"
            )
        if hashes:
            self._problem(
                f"{self._ids(hashes)} whose verdict is on other texts (item_hash):"
                " the answer was changed after it was judged, or the data are others"
            )

    def _items(self, questions: Mapping[str, Question]) -> dict[str, JudgeItem]:
        """Return what was judged, by the questions' keys; nothing where no judge is known."""
        try:
            judge = _judge_of(self._about)
        except UserError:
            return {}
        asked = [question for key, question in questions.items() if key in self._predictions]
        items = judged_items(asked, self._predictions, judge)
        return {f"{item.task}/{item.id}": item for item in items}

    def _judge_again(self, questions: Mapping[str, Question], progress: Progress | None) -> bool:
        """Give the verdicts of rules anew, where the rules are of the same version."""
        items = list(self._items(questions).values())
        judge = _judge_of(self._about) if items else None
        if judge is None or judge.describe() != self._judge:
            return False
        others = []
        for done, (item, verdict) in enumerate(judge_items(judge, items), start=1):
            there = self._judgements.get(f"{item.task}/{item.id}", {})
            here = verdict_row(item, verdict)
            if any(there.get(key) != here[key] for key in _OF_A_VERDICT):
                others.append(f"{item.task}/{item.id}")
            if progress:
                progress(done, len(items), f"verdicts on {self._name}")
        if others:
            self._problem(f"{self._ids(others)} with another verdict than {judge.name} gives")
        return True

    def _read_again(self) -> bool:
        """Read the verdicts of a served judge anew from its replies."""
        protocol = self._protocol() if self._judge.get("kind") == "openai" else None
        if protocol is None:
            return False
        others = [key for key, row in self._judgements.items() if not _reads(protocol, row)]
        if others:
            self._problem(f"{self._ids(others)} whose verdict is not what the judge's reply says")
        return True


_OF_A_VERDICT = ("status", "correct", "score", "reason", "contradiction")


def _reads(protocol: AnyProtocol, row: Mapping[str, Any]) -> bool:
    """Whether a verdict is what its reply says; a repaired one has two replies in one text."""
    reply = row.get("reply")
    if reply is None:
        return bool(row["status"] == "unscored")
    parts = reply.split(_SECOND_REPLY)
    texts = [_SECOND_REPLY.join(parts[start:]) for start in range(len(parts))]
    readings = []
    for text in texts:
        with contextlib.suppress(UnreadableError):
            readings.append(_reading(protocol.read(text)))
    if row["status"] == "unscored":
        return not readings
    repaired = row.get("repaired") is True
    first = readings[:1] if not repaired else readings
    said = ("correct", "score", "reason", "claims")
    return tuple(row.get(key) for key in said) in first


def _reading(
    read: tuple[bool, float, str | None] | Claims,
) -> tuple[bool | None, float, str | None, dict[str, int] | None]:
    """Return correct, score, reason and claims, as the row of a verdict has them."""
    if isinstance(read, Claims):
        return None, read.f1, str(read), asdict(read)
    correct, score, reason = read
    return correct, float(score), reason, None


def _of_task(rows: Rows, task: str) -> Rows:
    return {key: row for key, row in rows.items() if row["task"] == task}


def _listed(versions: Sequence[int]) -> str:
    return f"version {' or '.join(map(str, versions))}"


def _short(value: object) -> str:
    if isinstance(value, str):
        return shortened(value, 120)
    # A score beyond all bounds makes figures that JSON does not have.
    return shortened(json.dumps(value, ensure_ascii=False), 120)


def _question_of(row: Mapping[str, Any]) -> Question:
    """Return a question as a row of predictions.jsonl has it: without the right answer."""
    return Question(
        id=row["id"],
        task=row["task"],
        video=row["video"],
        question=row.get("question") or "",
        answer="",
        question_type=row.get("question_type"),
        options=tuple(row.get("options") or ()),
        pair=row.get("pair"),
    )


def _questions_of(rows: Iterable[Mapping[str, Any]]) -> list[Question]:
    return [_question_of(row) for row in rows]


def _said_of(question: Question) -> list[Any]:
    texts: list[Any] = [question.id, question.video, question.question, question.question_type]
    return texts + ([question.pair, sorted(question.options)] if question.options or question.pair
                    else [])  # fmt: skip


def _judge_of(about: Mapping[str, Any]) -> Judge:
    """Return a judge that scores as that of a task in run.json does; a served one is never asked.

    Raises:
        UserError: there is none of that name.
    """
    judge = about["judge"]
    return open_judge(judge["name"], protocol=str(judge.get("protocol") or about["protocol"]))


def scored_anew(
    run: Mapping[str, Any],
    predictions: Rows,
    judgements: Rows,
    answers: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Row]:
    """Score the tasks of a run from its rows; see `score_answers`.

    Args:
        run: the contents of run.json.
        predictions: rows by the questions' keys, in the order in which they are scored.
        judgements: rows by the questions' keys.
        answers: the right ones by the questions' keys, where they are known; without them the
            figures of `NEEDS_ANSWERS` are not those of the run.

    Raises:
        UserError: a row does not hold what a score is made of.
    """
    figures = {}
    for name, about in run["tasks"].items():
        rows = _of_task(predictions, name)
        questions = [
            replace(_question_of(row), answer=answers.get(key, "")) for key, row in rows.items()
        ]
        form = load_task(name).form if name in task_names() else "open"
        try:
            scored = score_answers(questions, rows, judgements, _judge_of(about), form)
            figures[name] = scored | token_usage(questions, rows)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            cause = f"{type(error).__name__}: {shortened(str(error), 120)}"
            raise UserError(f"{name}: cannot be scored ({cause})") from error
    return figures


def differing_figures(
    there: Any, here: Any, where: str, *, skipped: Collection[str] = ()
) -> Iterator[str]:
    """Yield "NAME: VALUE, scored anew VALUE" for each figure that differs, by its dotted name.

    Args:
        there: figures of results.json.
        here: the same scored anew.
        where: the name of both.
        skipped: keys that are not compared, at any depth.
    """
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        for key in sorted(there.keys() | here.keys()):
            if key not in skipped:
                one, other = (each.get(key, _DEFAULTS.get(key)) for each in (there, here))
                yield from differing_figures(one, other, f"{where}.{key}", skipped=skipped)
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        for place, (one, other) in enumerate(zip(there, here, strict=True)):
            yield from differing_figures(one, other, f"{where}[{place}]", skipped=skipped)
    elif isinstance(there, float) and isinstance(here, float):
        if not math.isclose(there, here, rel_tol=_CLOSE, abs_tol=_CLOSE):
            yield f"{where}: {number(there, 6)}, scored anew {number(here, 6)}"
    elif there != here or isinstance(there, bool) != isinstance(here, bool):
        yield f"{where}: {_short(there)}, scored anew {_short(here)}"


_DEFAULTS = {"headline": "accuracy"}  # what the absence of a key says, else null


def _compare_results(submitted: _Submitted, answers: Mapping[str, str], report: _Report) -> None:
    """Compare every figure of results.json with what its rows give.

    Those that take the right answers are compared where these are known, but for intervals of the
    bootstrap: they depend on the order of the questions, which the rows need not have.
    """
    run, results = submitted.run, submitted.results
    stray = {row["task"] for rows in (submitted.predictions, submitted.judgements)
             for row in rows.values()} - run["tasks"].keys()  # fmt: skip
    if stray:
        names = and_more([shortened(name, 40) for name in sorted(stray)], 3)
        report.problem(
            f"predictions.jsonl or judgements.jsonl has rows of {names}, not in run.json"
        )
    said = {"model": run["model"]["spec"], **named(run["model"]), "judge": run["judge"]}
    head = {key: value for key, value in results.items() if key != "tasks"}
    try:
        anew = scored_anew(run, submitted.predictions, submitted.judgements, answers)
    except UserError as error:
        report.problem(str(error))
        return
    tasks = differing_figures(results["tasks"], anew, "results.json: tasks", skipped=NEEDS_ANSWERS)
    differing = [*differing_figures(head, said, "results.json"), *tasks]
    for name in {key.partition("/")[0] for key in answers} & results["tasks"].keys():
        there, here = ({key: figures[name].get(key) for key in NEEDS_ANSWERS}
                       for figures in (results["tasks"], anew))  # fmt: skip
        where = f"results.json: tasks.{name}"
        differing += differing_figures(there, here, where, skipped=("ci95_bootstrap",))
    for line in differing[:_MOST_FIGURES]:
        report.problem(line)
    if len(differing) > _MOST_FIGURES:
        report.problem(f"results.json: {len(differing) - _MOST_FIGURES} more figures differ")


_MOST_FIGURES = 10


def changed_submissions(folder: Path, base: Path) -> tuple[list[str], list[Path]]:
    """Compare a folder of submissions with what it was: what was submitted stays as it was.

    Only a withdrawal may be added to a submission.

    Returns:
        A line for each that was removed or altered, and the folders of new submissions.

    Raises:
        UserError: one of the two is no folder.
    """
    for path in (folder, base):
        if not path.is_dir():
            raise UserError(f"{path}: no such folder")
    problems = []
    before = {path.name: path for path in submissions_in(base)}
    for name, old in before.items():
        now = folder / name
        if now.is_symlink() or not now.is_dir():
            problems.append(
                f"{name}: removed; what was submitted stays: mark it as withdrawn in {RECORD}"
            )
            continue
        altered = _altered(now, old)
        if altered:
            problems.append(f"{name}: {', '.join(altered)} altered; send a new submission instead")
    new = [path for path in submissions_in(folder) if path.name not in before]
    known = {_content(path): path.name for path in before.values()}
    for path in new:
        same = known.setdefault(_content(path), path.name)
        if same != path.name:
            problems.append(f"{path.name}: the same answers and verdicts as {same}")
        with contextlib.suppress(UserError):  # `check_submission` says what is wrong with it
            record = read_submission(path)
            slug = submission_slug(record.name, record.submitted) if record else path.name
            if not re.fullmatch(rf"{slug}(-[0-9]+)?", path.name):
                problems.append(f"{path.name}: has to be named {slug}, by its model and day")
    return problems, new


def _content(folder: Path) -> tuple[str, ...]:
    files = (folder / name for name in ("predictions.jsonl", "judgements.jsonl"))
    return tuple(sha256_file(file) if file.is_file() and not file.is_symlink() else str(file)
                 for file in files)  # fmt: skip


def _altered(now: Path, old: Path) -> list[str]:
    """Return the files of a submission that are not as they were."""
    names = {path.name for path in (*now.iterdir(), *old.iterdir())} - {RECORD}
    altered = sorted(
        name
        for name in names
        if (now / name).is_symlink()
        or not ((now / name).is_file() and (old / name).is_file())
        or sha256_file(now / name) != sha256_file(old / name)
    )
    try:
        here, there = read_json_object(now / RECORD), read_json_object(old / RECORD)
        read_submission(now)  # a withdrawal has a day and a reason
    except UserError:
        return [*altered, RECORD]
    if there.get("withdrawn") is None:
        here.pop("withdrawn", None)
        there.pop("withdrawn", None)
    return altered if here == there and not (now / RECORD).is_symlink() else [*altered, RECORD]
