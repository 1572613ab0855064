"""`sharegptvideo eval report` and `tasks`: a finished run on a page; the tasks that there are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharegptvideo._text import number, plural
from sharegptvideo.cli._common import JsonOption, echo, note, print_json, print_table, progress_bar
from sharegptvideo.cli.eval._shared import TaskPathOption, figures_table
from sharegptvideo.reports.estimates import headline_cells, headline_titles, score_cells

if TYPE_CHECKING:
    from sharegptvideo.eval.tasks import Task

__all__ = ["report", "tasks"]


def report(
    run: Annotated[Path, typer.Argument(help="Run folder that `eval run` or `judge` finished.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the tables and the page.")],
    against: Annotated[
        Path | None,
        typer.Option("--against", help="Second run folder; its verdicts are shown beside these."),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Questions; default: where the run had them.")
    ] = None,
    media: Annotated[
        Path | None, typer.Option("--media", help="Clips; default: where the run had them.")
    ] = None,
    task_path: TaskPathOption = None,
    dataset_id: Annotated[
        str | None,
        typer.Option(
            "--dataset-id",
            help="Hub repository of the benchmark: writes .eval_results/*.yaml for the model's.",
        ),
    ] = None,
    samples: Annotated[
        bool, typer.Option(help="Write the page with every sample; needs the run's data.")
    ] = True,
    copy_clips: Annotated[
        bool | None,
        typer.Option(
            "--copy-clips/--no-copy-clips",
            help="Copy the clips beside the page, or show them from where they are. Default: copy"
            " what takes 64 MiB or less.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Tables of a run (JSON, CSV, Markdown, LaTeX) and a page with every sample.

    The page opens from the disk, without a server.

    Example: [bold]sharegptvideo eval report runs/dpo --against runs/sft --out report[/bold]
    """
    from sharegptvideo.eval.headline import headline
    from sharegptvideo.reports.run import write_report

    with progress_bar() as progress:
        made = write_report(
            run,
            out,
            against=against,
            data_dir=data_dir,
            media=media,
            task_path=task_path,
            dataset_id=dataset_id,
            samples=samples,
            copy_clips=copy_clips,
            progress=progress,
        )
    for remark in made["notes"]:
        note(remark)
    for file in made["files"]:
        note(f"written: {out / file}")
    if json:
        print_json(made)
        return
    mains = {name: headline(task) for name, task in made["tasks"].items()}
    titles = headline_titles(mains.values(), "accuracy")
    table = figures_table("task", "n", "failed", "unscored", *titles, "score")
    for name, task in made["tasks"].items():
        table.add_row(
            name,
            number(task["n"]),
            number(task["n_failed"]),
            number(task["n_unscored"]),
            *headline_cells(mains[name], titles),
            score_cells(task)[0],
        )
    judges = dict.fromkeys(str(task["judge"]["name"]) for task in made["tasks"].values())
    print_table(table, f"{made['model']['name']}, judged by {', '.join(judges)}")
    for name, counts in made.get("against", {}).get("tasks", {}).items():
        if counts["counted"]:  # descriptions: `eval compare` has their difference
            continue
        judge = " (by ANOTHER JUDGE)" if counts["other_judge"] else ""
        echo(
            f"{name}, against {made['against']['run']}{judge}: {number(counts['only_first'])} right"
            f" here only, {number(counts['only_second'])} right there only"
        )


def tasks(
    name: Annotated[str | None, typer.Argument(help="Show this task or group.")] = None,
    task_path: TaskPathOption = None,
    json: JsonOption = False,
) -> None:
    """List the tasks, or show one.

    Example: [bold]sharegptvideo eval tasks msvd_qa[/bold]
    """
    from sharegptvideo.eval import list_tasks, load_task
    from sharegptvideo.eval.tasks import named_tasks

    listed = None if name is None else named_tasks([name], task_path)
    if name is not None and listed == [name]:
        loaded = load_task(name, task_path)
        task = loaded.model_dump(mode="json") | {"prompt_hash": loaded.prompt_hash}
        if json:
            print_json(task)
            return
        for line in _task_lines(loaded):
            echo(line)
        return
    shown = [task for task in list_tasks(task_path) if listed is None or task.name in listed]
    if json:
        print_json([task.model_dump(mode="json") for task in shown])
        return
    table = figures_table("task", "version", "answers", "protocol", "about")
    groups: dict[str, list[str]] = {}
    for each in shown:
        table.add_row(each.name, str(each.version), each.form, each.protocol, each.title)
        for group in each.groups:
            groups.setdefault(group, []).append(each.name)
    print_table(table)
    for group, names in sorted(groups.items()):
        echo(f"--task {group}: {', '.join(names)}")


def _task_lines(task: Task) -> list[str]:
    """Say in lines what a task asks, of which data, and how its answers are judged."""
    protocol = {
        "official": "official: the judge sees question, reference and answer",
        "caption-grounded": "caption-grounded: the judge sees the clip's caption too",
        "claims": "claims: the judge splits description and reference into claims",
        "consistency": "consistency: the judge sees both answers of a pair, and scores 0 to 5",
    }
    aspect = f"{task.protocol}: the judge scores this aspect of an answer from 0 to 5"
    judged = protocol.get(task.protocol, aspect)
    if task.own_judge:
        judged = f"by the rules {task.own_judge}"
    about = {
        "data": task.data or f"{task.config}, split {task.split}",
        "prompt": f"{task.prompt!r} (hash {task.prompt_hash})",
        "judged": judged,
        "frames": f"{task.frames} a clip",
        "groups": ", ".join(task.groups) or "none",
        "answer": f"up to {plural(task.max_new_tokens, 'new token')}",
        "source": task.source,
        "cite": task.citation,
    }
    if task.annotations is not None:
        several = " and ".join if task.annotations.together else " or ".join
        also = "" if task.config is None else "also "
        about["files"] = f"{also}{several(task.annotations.questions)} in --data-dir"
    if task.judge is not None:
        about["wording"] = str(task.judge.prompt_file)
    head = f"{task.name} (version {task.version}): {task.title}"
    lines = [head, *(f"  {key:<8} {' '.join(text.split())}" for key, text in about.items())]
    return [
        *lines,
        "",
        f"sharegptvideo eval run --model hf:MODEL --task {task.name} --out RUN",
    ]
