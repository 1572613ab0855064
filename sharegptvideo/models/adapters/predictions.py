"""Answers read from a file: how `eval judge` works, and how other harnesses' output gets in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sharegptvideo._io import read_json, read_jsonl, sha256_file, sha256_text
from sharegptvideo._text import and_more
from sharegptvideo.errors import UserError
from sharegptvideo.models.adapters.sample_logs import (
    LogLine,
    find_logs,
    is_log_line,
    model_beside,
    parse_log_line,
)
from sharegptvideo.models.types import Answer, Question, Request

__all__ = ["PredictionsModel"]

_SHOWN = 50  # double ids that an error lists
_Key = tuple[str | None, str]  # task, where the line names one, and id


class PredictionsModel:
    """`predictions:FILE`, a JSONL file with `id` and `prediction` a line.

    Where a line has a `task` it answers that task's question only; where it has status `failed`
    (a run's predictions.jsonl) it stays failed, with its error, unless a later line mends it.

    FILE may also be a sample log of lmms-eval, or a folder of such logs of several tasks.
    """

    needs_frames = False
    frames: int | None = None

    def __init__(self, name: str) -> None:
        """Read the file.

        Raises:
            UserError: `FILE:LINE: cause`, or the ids that have two predictions.
        """
        self.spec = f"predictions:{name}"
        self._path = Path(name)
        self._files = find_logs(self._path) if self._path.is_dir() else [self._path]
        self._answers: dict[_Key, Answer] = {}
        self._placed: list[tuple[str, LogLine]] = []
        twice: dict[str, list[int]] = {}
        lines: dict[_Key, int] = {}
        for number, key, answer in self._read():
            earlier = self._answers.get(key)
            # A retried question leaves its failed line in the log; two answers are a mistake.
            if earlier is not None and earlier.error is None:
                twice.setdefault(key[1], [lines[key]]).append(number)
            self._answers[key] = answer
            lines[key] = number
        if twice:
            raise UserError(_told_twice(name, twice))
        if not self._answers and not self._placed:
            raise UserError(f"{name}: no prediction in it")

    def _read(self) -> Iterator[tuple[int, _Key, Answer]]:
        for file in self._files:
            for number, row in read_jsonl(file):
                where = f"{file}:{number}"
                if not is_log_line(row):
                    yield number, *_parse(where, row)
                    continue
                line = parse_log_line(row, file, where)
                if line.id is None:
                    self._placed.append((where, line))
                else:
                    yield number, (line.task, line.id), Answer(text=line.text)

    def describe(self) -> dict[str, Any]:
        """Kind, name and the hash of the file (which may change: what differs is judged).

        A run's predictions have the name and the weights of the model that gave them, and
        `answered_by` says all that its run.json does.
        """
        hashes = [sha256_file(file) for file in self._files]
        described: dict[str, Any] = {
            "kind": "predictions",
            "name": self._path.name,
            "file_hash": hashes[0] if len(hashes) == 1 else sha256_text("".join(hashes)),
        }
        record = self._files[0].parent / "run.json"
        run = read_json(record) if record.is_file() else None
        model = run.get("model") if isinstance(run, dict) else None
        if isinstance(model, dict) and "name" in model:
            described |= {"name": model["name"], "answered_by": model.get("answered_by", model)}
            if model.get("weights_hash"):
                described["weights_hash"] = model["weights_hash"]
            return described
        return described | model_beside(self._files[0])

    def _find(self, question: Question) -> Answer | None:
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
            example = next((key[1] for key in self._answers), self._files[0].name)
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
            self._answers[(task, questions[line.place].id)] = Answer(text=line.text)

    def render(self, prompt: str) -> str:
        """The prompt as it is: how the file's answers were asked for is not known here."""
        return prompt

    def answer(
        self,
        batch: Sequence[Request],
        *,
        max_new_tokens: int,  # noqa: ARG002 - they are written already
    ) -> Iterator[tuple[int, Answer]]:
        """What the file says; a question that it leaves out is a failed one."""
        missing = Answer(error=f"no prediction in {self._path.name}")
        for position, request in enumerate(batch):
            yield position, self._find(request.question) or missing


def _parse(where: str, row: dict[str, Any]) -> tuple[_Key, Answer]:
    if not isinstance(row.get("id"), str | int):
        raise UserError(f"{where}: no id; a line needs an id and a prediction")
    task = row.get("task")
    key = (None if task is None else str(task), str(row["id"]))
    if row.get("status") == "failed":
        return key, Answer(error=str(row.get("error") or "failed in the run that wrote it"))
    if not isinstance(row.get("prediction"), str):
        raise UserError(f'{where}: prediction is not a text; write "" for an empty answer')
    return key, Answer(text=row["prediction"])


def _told_twice(name: str, twice: Mapping[str, Sequence[int]]) -> str:
    ids = [f"{one} (lines {', '.join(map(str, lines))})" for one, lines in twice.items()]
    return (
        f"{name}: {len(ids)} ids have more than one prediction: {and_more(ids, _SHOWN)}; "
        "keep one line each"
    )
