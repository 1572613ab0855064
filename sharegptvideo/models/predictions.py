"""Answers read from a file: predictions of `eval run`, of other programs, logs of lmms-eval."""

from __future__ import annotations

import contextlib
import csv
import difflib
import io
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sharegptvideo._io import (
    open_lines,
    read_json,
    read_jsonl,
    read_text,
    sha256_file,
    sha256_text,
)
from sharegptvideo._text import and_more, plural, shortened, web_link
from sharegptvideo.errors import UserError
from sharegptvideo.models.base import Answer, Model, Question, Request, SamplingParams

__all__ = [
    "ID_FIELDS",
    "PredictionsInfo",
    "PredictionsModel",
    "model_name",
    "read_answer",
    "read_id",
]

ID_FIELDS = ("accuracy", "answers")
"""The figures under which our tasks leave a question's id and task in a log of lmms-eval."""

_PREFIX = "sharegptvideo_"

_LOG_NAME = re.compile(r"^(?P<date>.+)_samples_(?P<task>.+)\.jsonl$")
_SHOWN = 50  # duplicate ids that an error lists
_SHOWN_CHARACTERS = 200  # of a failure's cause
_Key = tuple[str | None, str]  # task, where the line names one, and id


@dataclass(frozen=True, slots=True)
class PredictionsInfo:
    """What a file of answers does not say itself.

    Attributes:
        key: where a row has the answer, as `pred` or `model_prediction.message`; None: under one
            of the names that programs use.
        name: of the model that gave the answers.
        authors: whose model it is.
        link: where it is described, an address of the web.

    Raises:
        UserError: the link is no such address.
    """

    key: str | None = None
    name: str | None = None
    authors: str | None = None
    link: str | None = None

    def __post_init__(self) -> None:
        if self.link is not None and web_link(self.link) is None:
            raise UserError(
                f"link {shortened(self.link, _SHOWN_CHARACTERS)!r}: must be an address that begins"
                " with https:// or http://"
            )


@dataclass(frozen=True, slots=True)
class _Prediction:
    """What a line says: an answer, or why there is none."""

    text: str | None = None
    error: str | None = None
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _LogLine:
    """One answer in a sample log of lmms-eval.

    `id` is None where the log was written with `--predict_only`, which keeps no more of a question
    than its place among the task's.
    """

    id: str | None
    task: str | None
    place: int
    target: str
    prompt: str
    said: _Prediction

    def is_of(self, question: Question) -> bool:
        """Whether what the log says of the question fits this one."""
        return self.target == question.answer and question.question in self.prompt


class PredictionsModel(Model):
    """`predictions:FILE`, rows with `id` and `prediction`: JSONL, a JSON list, or CSV.

    The answer may be called `pred`, `response` or `model_prediction` (with a `message`) as well,
    as other programs call it. `answer` has to be named by `PredictionsInfo.key`: most files have
    the reference there.

    Where a line has a `task` it answers that task's question only; where it has status `failed`
    (a run's predictions.jsonl) it stays failed, with its error, unless a later line has an answer.
    The letter of an option is one of the `options` that the line lists, as a run's do; where it
    lists none, of those in the order of the data's own file.

    FILE may also be a sample log of lmms-eval, or a folder of such logs of several tasks.
    """

    needs_frames = False
    gives_samples = False
    obeys = frozenset()

    def __init__(
        self, name: str, info: PredictionsInfo | None = None, *, faults: list[str] | None = None
    ) -> None:
        """Read the file.

        Args:
            name: FILE.
            info: what the file does not say itself.
            faults: takes what is wrong, a line each, and all else is read; None: it is raised.

        Raises:
            UserError: `FILE:LINE: cause`, or the ids that have two predictions.
        """
        self._faults = faults
        self.spec = f"predictions:{name}"
        self._info = info or PredictionsInfo()
        self._path = Path(name)
        self._files = _find_logs(self._path) if self._path.is_dir() else [self._path]
        self._answers: dict[_Key, _Prediction] = {}
        self._placed: list[tuple[str, _LogLine]] = []
        duplicates: dict[str, list[int]] = {}
        lines: dict[_Key, int] = {}
        for number, key, answer in self._read():
            earlier = self._answers.get(key)
            # A retried question leaves its failed line in the log; two answers are a mistake.
            if earlier is not None and earlier.error is None:
                duplicates.setdefault(key[1], [lines[key]]).append(number)
            self._answers[key] = answer
            lines[key] = number
        if duplicates:
            self._fault(UserError(_duplicates(name, duplicates)))
        if not self.n_answers and not self._faults:
            self._fault(UserError(f"{name}: no prediction in it"))

    @property
    def n_answers(self) -> int:
        """How many answers were read, those among them that failed when they were recorded."""
        return len(self._answers) + len(self._placed)

    def _fault(self, error: UserError) -> None:
        if self._faults is None:
            raise error
        self._faults.append(str(error))

    def _read(self) -> Iterator[tuple[int, _Key, _Prediction]]:
        for file in self._files:
            rows = _rows(file)
            while True:
                try:
                    number, row = next(rows)
                except StopIteration:
                    break
                except UserError as error:  # nothing can be read after it
                    self._fault(error)
                    break
                try:
                    read = self._line(file, number, row)
                except UserError as error:
                    self._fault(error)
                    continue
                if read is not None:
                    yield number, *read

    def _line(
        self, file: Path, number: int, row: dict[str, Any]
    ) -> tuple[_Key, _Prediction] | None:
        """Read one line; None where it is one of a log, which is to be placed."""
        where = f"{file}:{number}"
        if not _is_log_line(row):
            return _parse(where, row, self._info.key)
        line = _parse_log_line(row, file, where)
        if line.id is None:
            self._placed.append((where, line))
            return None
        return (line.task, line.id), line.said

    def describe(self) -> dict[str, Any]:
        """Return kind, name and hash of the file (which may change: what differs is judged).

        A run's predictions have the name and the weights of the model that gave them, and
        `answered_by` says all that its run.json does.
        """
        hashes = [sha256_file(file) for file in self._files]
        described: dict[str, Any] = {
            "kind": "predictions",
            "name": self._path.name,
            "file_hash": hashes[0] if len(hashes) == 1 else sha256_text("".join(hashes)),
        }
        info = self._info
        given = {"name": info.name, "authors": info.authors, "link": info.link}
        named = {key: value for key, value in given.items() if value is not None}
        model = self._run().get("model")
        if isinstance(model, dict) and isinstance(model.get("name"), str):
            described |= {"name": model["name"], "answered_by": model.get("answered_by", model)}
            if isinstance(model.get("weights_hash"), str):
                described["weights_hash"] = model["weights_hash"]
            return described | named
        return described | _model_beside(self._files[0]) | named

    def _run(self) -> Mapping[str, Any]:
        """Return the run.json of the run that the file is of; empty where it is of none."""
        record = self._files[0].parent / "run.json"
        run = read_json(record) if record.is_file() else None
        return run if isinstance(run, dict) else {}

    def shown(self, task: str, asked: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - not the task's
        """Return what the run that the file is of has; None where that is not known."""
        tasks = self._run().get("tasks")
        about = tasks.get(task) if isinstance(tasks, dict) else None
        settings = about if isinstance(about, dict) else {}
        counts = {name: settings.get(name) for name in ("frames", "max_new_tokens")}
        known = {name: n if isinstance(n, int) else None for name, n in counts.items()}
        others = {name: settings.get(name) for name in ("generation", "settings_changed")}
        return known | {name: each for name, each in others.items() if isinstance(each, dict)}

    def _find(self, question: Question) -> _Prediction | None:
        own = self._answers.get((question.task, question.id))
        return own if own is not None else self._answers.get((None, question.id))

    def check(
        self, questions: Sequence[Question], every: Iterable[Question]
    ) -> dict[str, dict[str, Any]]:
        """List the ids without a prediction, and the predictions without a question.

        Raises:
            UserError: not one id of the file belongs to the tasks, or a log without ids is about
                other questions.
        """
        every = list(every)
        self._place(every)
        tasks = list(dict.fromkeys(question.task for question in every))
        known = {question.id for question in every}
        if not any(self._find(question) for question in every):
            task, example = next(iter(self._answers), (None, self._files[0].name))
            if task is not None and task not in tasks:
                raise UserError(
                    f"{self._path}: is of the task {shortened(task, 40)}, not {', '.join(tasks)}"
                )
            raise UserError(
                f"{self._path}: none of its {len(self._answers)} ids (such as {example!r}) is a"
                f" question of {', '.join(tasks)} (such as {every[0].id!r}); is it for another"
                " task, or another --data-dir?"
            )
        remarks: dict[str, dict[str, Any]] = {task: {} for task in tasks}
        for question in questions:
            if self._find(question) is None:
                remarks[question.task].setdefault("missing_predictions", []).append(question.id)
        for task, row_id in self._answers:
            # A line that names no task is put down to the first; one of another task is no fault.
            of = tasks[0] if task is None else task
            if of in remarks and row_id not in known:
                remarks[of].setdefault("foreign_predictions", []).append(row_id)
        return remarks

    def _place(self, every: Sequence[Question]) -> None:
        """Give the lines of logs without ids the ids of the questions at their places."""
        tasks: dict[str, list[Question]] = {}
        for question in every:
            tasks.setdefault(question.task, []).append(question)
        only = next(iter(tasks)) if len(tasks) == 1 else None
        for where, line in self._placed:
            task = line.task if line.task is not None else only
            if task not in tasks:
                continue  # a log of a task that is not judged in this run
            questions = tasks[task]
            if line.place >= len(questions) or not line.is_of(questions[line.place]):
                raise UserError(
                    f"{where}: its question (doc_id {line.place}) is not that of {task} here: the"
                    " log was written for other data, or some clips were missing; run lmms-eval"
                    " without --predict_only, so that it logs the ids"
                )
            # Logs are of prompts of ours: a letter is of the options as these show them.
            question = questions[line.place]
            shown = question.shown_options
            self._answers[(task, question.id)] = replace(line.said, options=shown)

    def generate(
        self,
        requests: Sequence[Request],
        params: SamplingParams,  # noqa: ARG002 - they are written already
    ) -> Iterator[Answer]:
        """Read the answers; a question that the file leaves out is a failed one."""
        for request in requests:
            prediction = self._find(request.question) if request.question else None
            if prediction is None:
                yield Answer(request, error=f"no prediction in {self._path.name}")
            elif prediction.text is None:
                yield Answer(request, error=prediction.error)
            else:
                assert request.question is not None, "it was found by its question"
                options = prediction.options or request.question.options
                if sorted(options) != sorted(request.question.options):
                    yield Answer(request, error="its options are not those of the question")
                else:
                    yield Answer(request, (prediction.text,), options=options)


def _rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line (of a JSON list: place) and row: of JSONL, one JSON list, or CSV with a header."""
    if {".csv", ".tsv"} & {suffix.lower() for suffix in file.suffixes[-2:]}:
        yield from _csv_rows(file)
        return
    begins = b""
    # Damaged gzip data: reading the lines says so.
    with open_lines(file) as lines, contextlib.suppress(EOFError, OSError, zlib.error):
        begins = lines.read(_PEEKED)
    if not begins.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
        yield from read_jsonl(file)
        return
    rows = read_json(file)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise UserError(f"{file}: entry {number} of the list is no object with an id")
        yield number, row


def _csv_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    text = read_text(file)
    header = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)  # spreadsheets of some countries write semicolons
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    limit = csv.field_size_limit(len(text) + 1)
    try:
        reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        names = [name for name in reader.fieldnames if name]
        if len(set(names)) != len(names):
            raise UserError(f"{file}:1: two columns of one name; {_keys(dict.fromkeys(names))}")
        for row in reader:
            if None in row or None in row.values():
                raise UserError(f"{file}:{reader.line_num}: not as many columns as the header has")
            yield reader.line_num, dict(row)
    except csv.Error as error:
        raise UserError(f"{file}:{reader.reader.line_num}: not CSV ({error})") from error
    finally:
        csv.field_size_limit(limit)


# What programs call the answer, those whose meaning is sure first.
_KEYS = ("prediction", "model_prediction", "pred", "response")
_PEEKED = 4096  # bytes, enough to see whether it is a JSON list
_IDS = ("id", "idx", "question_id")


def _parse(where: str, row: dict[str, Any], key: str | None) -> tuple[_Key, _Prediction]:
    row_id = read_id(row)
    if row_id is None:
        raise UserError(
            f"{where}: no id (a text or a whole number, as {', '.join(_IDS)}) beside the"
            f" prediction; {_keys(row)}{_nearest(row, _IDS, 'the id? Then call it id')}"
        )
    task = row.get("task")
    place = (None if task is None else str(task), row_id)
    if row.get("status") == "failed":
        return place, _Prediction(error=str(row.get("error") or "failed in the run that wrote it"))
    text, error = read_answer(_answer_of(where, row, key))
    if text is None and error is None:
        raise UserError(
            f'{where}: {key or _named(row)[0]} must be a string; write "" for an empty answer'
        )
    options = row.get("options")
    listed = isinstance(options, list) and all(isinstance(each, str) for each in options)
    return place, _Prediction(text, error, tuple(options) if listed and options else ())


def _answer_of(where: str, row: Mapping[str, Any], key: str | None) -> object:
    """Return what a row has under `key`, or under the one name that answers have."""
    if key is not None:
        value: object = row
        for name in [key] if key in row else key.split("."):
            if not isinstance(value, Mapping) or name not in value:
                raise UserError(f"{where}: no {key} in it; {_keys(row)}")
            value = value[name]
        return value
    names = _named(row)
    if not names:
        near = _nearest(row, _KEYS, "the model's answer? Then --prediction-key {}")
        raise UserError(
            f"{where}: no prediction in it; {_keys(row)}"
            + (near or "; name the one with the model's answer by --prediction-key")
        )
    if len({repr(row[name]) for name in names}) > 1 and "prediction" not in names:
        raise UserError(
            f"{where}: {' and '.join(names)} differ; name the one with the model's answer by"
            " --prediction-key"
        )
    return row[names[0]]


def _named(row: Mapping[str, Any]) -> list[str]:
    return [name for name in _KEYS if name in row]


def _keys(row: Mapping[str, Any]) -> str:
    return f"it has the keys {and_more([shortened(str(key), 40) for key in row], 12)}"


def _nearest(row: Mapping[str, Any], names: Iterable[str], question: str) -> str:
    """Ask whether the key that is called most like one of `names` is meant; "" where none is."""
    others = {key.lower(): key for key in row if isinstance(key, str)}
    near = [key for name in names for key in difflib.get_close_matches(name, others, 1, 0.75)]
    if not near:
        return ""
    key = shortened(others[near[0]], 40)
    return f"; is {key} {question.format(key)}"


def read_id(row: Mapping[str, Any]) -> str | None:
    """Return the id in a row of another program's, under any of the usual names; or None."""
    value = next((row[name] for name in _IDS if name in row), None)
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def read_answer(value: object) -> tuple[str | None, str | None]:
    """Read an answer: a text, or `{status, message}` as the paper's programs write it.

    Returns:
        Text and error: one of them None, or both where it is neither form.
    """
    if isinstance(value, Mapping):
        status, value = value.get("status", "success"), value.get("message")
        if status != "success":
            cause = shortened(" ".join(str(value).split()), _SHOWN_CHARACTERS)
            return None, f"failed when recorded: {cause}"
    return (value, None) if isinstance(value, str) else (None, None)


def _duplicates(name: str, duplicates: Mapping[str, Sequence[int]]) -> str:
    ids = [f"{one} (lines {', '.join(map(str, lines))})" for one, lines in duplicates.items()]
    return (
        f"{name}: {plural(len(ids), 'id')} with more than one prediction: {and_more(ids, _SHOWN)}; "
        "keep one line each"
    )


def _find_logs(folder: Path) -> list[Path]:
    """List the sample logs in a folder, by name; one a task.

    Raises:
        UserError: there is none, or two of one task.
    """
    logs: dict[str, Path] = {}
    for file in sorted(folder.glob("*_samples_*.jsonl")):
        task = _task(file)
        if task is None:
            continue
        if task in logs:
            raise UserError(
                f"{folder}: holds two sample logs of {task} ({logs[task].name}, {file.name});"
                " name one file"
            )
        logs[task] = file
    if not logs:
        raise UserError(f"{folder}: no sample log of lmms-eval in it (DATE_samples_TASK.jsonl)")
    return list(logs.values())


def _is_log_line(row: Mapping[str, Any]) -> bool:
    """Whether a row is one of a sample log, not one with an id and a prediction."""
    return "doc_id" in row and "filtered_resps" in row and "prediction" not in row


def _parse_log_line(row: Mapping[str, Any], file: Path, where: str) -> _LogLine:
    """Read one line of a sample log.

    Raises:
        UserError: no place, or not one text as the answer.
    """
    ours: dict[str, Any] = next(
        (
            row[name]
            for name in ID_FIELDS
            if isinstance(row.get(name), dict) and isinstance(row[name].get("id"), str)
        ),
        {},
    )
    answer = row["filtered_resps"]
    while isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if not isinstance(answer, str) and "prediction" in ours:  # the losses of options
        answer = ours["prediction"]
    failed = answer is None and isinstance(ours.get("error"), str)
    if not isinstance(answer, str) and not failed:
        raise UserError(f"{where}: filtered_resps is not one answer; run lmms-eval without repeats")
    if not isinstance(row["doc_id"], int):
        raise UserError(f"{where}: doc_id is not a number; this is no sample log of lmms-eval")
    said = _Prediction(
        text=None if answer is None else answer.strip(),
        error=str(ours["error"]) if failed else None,
        options=tuple(map(str, ours.get("options") or ())),
    )
    return _LogLine(
        id=ours.get("id"),
        task=str(ours["task"]) if "task" in ours else _task(file),
        place=row["doc_id"],
        target=str(row.get("target")),
        prompt=str(row.get("input")),
        said=said,
    )


def _task(file: Path) -> str | None:
    match = _LOG_NAME.match(file.name)
    return match["task"].removeprefix(_PREFIX) if match else None


def _model_beside(file: Path) -> dict[str, Any]:
    """Read name and adapter of the model from the results that lmms-eval writes beside a log.

    Empty where they are not there.
    """
    match = _LOG_NAME.match(file.name)
    results = file.with_name(f"{match['date']}_results.json") if match else None
    content = read_json(results) if results is not None and results.is_file() else None
    config = content.get("config") if isinstance(content, dict) else None
    if not isinstance(config, dict) or not isinstance(config.get("model"), str):
        return {}
    adapter = config["model"]
    name = model_name(adapter, config.get("model_args"))
    version = content.get("lmms_eval_version") if isinstance(content, dict) else None
    answered_by = {"kind": "lmms-eval", "name": name, "adapter": adapter, "lmms_eval": version}
    return {"name": name, "answered_by": answered_by}


def model_name(adapter: str, model_args: object) -> str:
    """Return the name of the model in lmms-eval's arguments, or else its adapter.

    No other argument is kept: a key may be among them.

    >>> model_name("video_llava", "pretrained=models/sft,device=cpu")
    'sft'
    """
    if isinstance(model_args, str):
        parts = (part.split("=", 1) for part in model_args.split(",") if "=" in part)
        model_args = {key.strip(): value.strip() for key, value in parts}
    if isinstance(model_args, Mapping):
        for key in ("pretrained", "model_version", "model", "model_name"):
            if model_args.get(key):
                name = str(model_args[key])
                return Path(name).resolve().name if Path(name).is_dir() else name
    return adapter
