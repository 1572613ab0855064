"""Sample logs of lmms-eval (`DATE_samples_TASK.jsonl`), as `predictions:` reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharegptvideo._io import read_json
from sharegptvideo.errors import UserError
from sharegptvideo.models.types import Question

__all__ = [
    "ID_FIELD",
    "LogLine",
    "find_logs",
    "is_log_line",
    "model_beside",
    "model_name",
    "parse_log_line",
]

ID_FIELD = "accuracy"
"""The figure under which our tasks leave a question's id and task in the log."""

_NAME = re.compile(r"^(?P<date>.+)_samples_(?P<task>.+)\.jsonl$")


@dataclass(frozen=True, slots=True)
class LogLine:
    """One answer in a sample log.

    `id` is None where the log was written with `--predict_only`, which keeps no more of a question
    than its place among the task's.
    """

    id: str | None
    task: str | None
    place: int
    target: str
    prompt: str
    text: str

    def is_of(self, question: Question) -> bool:
        """Whether what the log says of the question fits this one."""
        return self.target == question.answer and question.question in self.prompt


def find_logs(folder: Path) -> list[Path]:
    """The sample logs in a folder, by name; one a task.

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


def is_log_line(row: Mapping[str, Any]) -> bool:
    """Whether a row is one of a sample log, not one with an id and a prediction."""
    return "doc_id" in row and "filtered_resps" in row and "prediction" not in row


def parse_log_line(row: Mapping[str, Any], file: Path, where: str) -> LogLine:
    """Read one line of a sample log.

    Raises:
        UserError: no place, or not one text as the answer.
    """
    answer = row["filtered_resps"]
    while isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if not isinstance(answer, str):
        raise UserError(f"{where}: filtered_resps is not one answer; run lmms-eval without repeats")
    if not isinstance(row["doc_id"], int):
        raise UserError(f"{where}: doc_id is not a number; this is no sample log of lmms-eval")
    ours = row.get(ID_FIELD)
    named = isinstance(ours, dict) and isinstance(ours.get("id"), str)
    return LogLine(
        id=ours["id"] if named and ours else None,
        task=str(ours["task"]) if named and ours and "task" in ours else _task(file),
        place=row["doc_id"],
        target=str(row.get("target")),
        prompt=str(row.get("input")),
        text=answer.strip(),
    )


def _task(file: Path) -> str | None:
    found = _NAME.match(file.name)
    return found["task"] if found else None


def model_beside(file: Path) -> dict[str, Any]:
    """Name and adapter of the model, from the results that lmms-eval writes beside a log.

    Empty where they are not there.
    """
    found = _NAME.match(file.name)
    results = file.with_name(f"{found['date']}_results.json") if found else None
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
    """What lmms-eval's arguments call the model, or else its adapter.

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
