"""`sharegptvideo eval tasks`: what can be run."""

from __future__ import annotations

from typing import Annotated

import typer

from sharegptvideo.cli._common import JsonOption, print_json, print_table
from sharegptvideo.cli.eval._shared import TaskPathOption, figures_table

__all__ = ["tasks"]


def tasks(
    name: Annotated[str | None, typer.Argument(help="Show this task.")] = None,
    task_path: TaskPathOption = None,
    json: JsonOption = False,
) -> None:
    """List the tasks, or show one.

    Example: [bold]sharegptvideo eval tasks msvd_qa[/bold]
    """
    from sharegptvideo.eval import list_tasks, load_task

    if name is not None:
        found = load_task(name, task_path)
        task = found.model_dump(mode="json") | {"prompt_hash": found.prompt_hash}
        if json:
            print_json(task)
            return
        for key, value in task.items():
            typer.echo(f"{key:<15} {value}")
        return
    if json:
        print_json([task.model_dump(mode="json") for task in list_tasks(task_path)])
        return
    table = figures_table("task", "version", "protocol", "about")
    for task_ in list_tasks(task_path):
        table.add_row(task_.name, str(task_.version), task_.protocol, task_.title)
    print_table(table)
