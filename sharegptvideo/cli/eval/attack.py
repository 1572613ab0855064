"""`sharegptvideo eval attack`: what a judge gives to answers that deserve nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharegptvideo._text import points, rounded
from sharegptvideo.cli._common import JsonOption, note, print_json, print_table, progress_bar
from sharegptvideo.cli._endpoint import asks_endpoints
from sharegptvideo.cli.eval._shared import (
    DataOption,
    JudgeOption,
    PanelOption,
    TaskPathOption,
    UrlOption,
    figures_table,
    judge_name,
)

if TYPE_CHECKING:
    from sharegptvideo.endpoint import EndpointOptions

__all__ = ["attack"]


@asks_endpoints
def attack(
    judge: JudgeOption = None,
    panel: PanelOption = None,
    protocol: Annotated[
        str, typer.Option("--protocol", help="caption-grounded or official; a --task has its own.")
    ] = "caption-grounded",
    prompt_file: Annotated[
        Path | None, typer.Option("--prompt-file", help="A wording of your own for the judge.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option("--task", help="Questions of this task; default: ten that come along."),
    ] = None,
    data_dir: DataOption = None,
    task_path: TaskPathOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Questions that are used.")] = 10,
    base_url: UrlOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for every verdict; resumable.")
    ] = None,
    *,
    endpoint: EndpointOptions,
    json: JsonOption = False,
) -> None:
    """How many points a judge gives to empty answers and to answers that talk to the judge.

    Points are counted from the score of a plain wrong answer to the same question.

    Example: [bold]sharegptvideo eval attack --judge answer-match[/bold], or
    [bold]sharegptvideo eval attack --judge openai:NAME --base-url http://localhost:8000/v1
    --protocol official --out attacks/NAME[/bold]
    """
    from sharegptvideo.errors import UserError
    from sharegptvideo.eval.attack import attack_judge, cases_of, own_cases
    from sharegptvideo.eval.tasks import load_questions, load_task
    from sharegptvideo.judges import open_judge

    cases = own_cases()[:limit]
    if task is not None:
        chosen = load_task(task, task_path)
        if chosen.form != "open":
            raise UserError(
                f"task {task}: its answers are of form {chosen.form}; attacks are on open answers"
            )
        protocol = chosen.protocol
        if prompt_file is None and chosen.judge is not None:
            prompt_file = chosen.judge.prompt_file
        cases = cases_of(load_questions(chosen, data_dir), limit)
    opened = open_judge(
        judge_name(judge, panel),
        base_url=base_url,
        protocol=protocol,
        prompt_file=prompt_file,
        options=endpoint,
    )
    if opened.headline == "f1" or opened.compares_pairs:
        raise UserError(
            f"protocol {protocol}: attacks are on single answers, which are right or wrong; take"
            " caption-grounded or official"
        )
    with progress_bar() as progress:
        result = attack_judge(opened, cases, out=out, endpoint=endpoint, progress=progress)
    _show(result, out, as_json=json)


def _show(result: Mapping[str, Any], out: Path | None, *, as_json: bool) -> None:
    if as_json:
        print_json(result)
    else:
        table = figures_table("answer", "kind", "scored", "called right", "score", "won")
        for name, row in sorted(result["attacks"].items(), key=_by_points):
            table.add_row(name, row["kind"], *_cells(row))
        for kind, row in result["kinds"].items():
            table.add_row(f"all {kind}", kind, *_cells(row))
        print_table(
            table,
            f"{result['judge']}, {result['cases']} questions; won: points above a wrong answer",
        )
        if out is not None:
            note(f"verdicts: {out}")
    rows = result["attacks"].values()
    if not any(row["n_scored"] for row in rows):
        note("error: the judge gave no verdict that can be read")
        raise typer.Exit(1)
    if not result["controls_hold"]:
        note(
            "warning: the judge calls too few right answers right, or too many wrong ones (rows"
            " reference and wrong); what the others win says little"
        )


def _by_points(item: tuple[str, Mapping[str, Any]]) -> tuple[bool, float]:
    row = item[1]
    return row["kind"] != "control", -(row["won"] if row["won"] is not None else -99.0)


def _cells(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    score, won = row["score"], row["won"]
    return (
        f"{row['n_scored']}/{row['n']}",
        points(row["right"]),
        rounded(score),
        rounded(won, sign=True),
    )
