"""Finds and reads the task files of this folder."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from pydantic import ValidationError

from sharegptvideo.errors import UserError, unknown_name
from sharegptvideo.eval.tasks.schema import Task
from sharegptvideo.storage import parse_yaml

__all__ = ["list_tasks", "load_task", "parse_task", "task_names"]


@cache
def task_names() -> tuple[str, ...]:
    """Names of all tasks, sorted."""
    folder = files("sharegptvideo.eval.tasks")
    return tuple(
        sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))
    )


@cache
def load_task(name: str) -> Task:
    """The task called `name`.

    Raises:
        UserError: there is none; names the nearest ones.
    """
    if name not in task_names():
        raise unknown_name("task", name, task_names())
    text = (files("sharegptvideo.eval.tasks") / f"{name}.yaml").read_text(encoding="utf-8")
    return parse_task(text, name)


def list_tasks() -> list[Task]:
    """All tasks, by name."""
    return [load_task(name) for name in task_names()]


def parse_task(text: str, name: str) -> Task:
    """Read a task from YAML.

    Raises:
        UserError: every fault of the file in one line.
    """
    where = f"task file {name}.yaml"
    data = parse_yaml(where, text)
    if not isinstance(data, dict):
        raise UserError(f"{where}: needs one key: value a line")
    try:
        task = Task.model_validate(data)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()
        )
        raise UserError(f"{where}: {faults}") from error
    if task.name != name:
        raise UserError(f"{where}: its name is {task.name!r}; name and file have to agree")
    return task
