"""Commands about several stages together: what they hold, and all of them in one file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharegptvideo._text import dollars, duration, magnitude, number, plural, rough_duration
from sharegptvideo.cli._common import (
    JsonOption,
    echo,
    note,
    print_figures,
    print_json,
    print_table,
    progress_bar,
    text_table,
)
from sharegptvideo.cli._endpoint import MaxCostOption, YesOption, confirmation

if TYPE_CHECKING:
    from sharegptvideo.build.loop_file import Loop
    from sharegptvideo.build.report import BuildReport, StageFigures

__all__ = ["loop", "report", "run"]

DryRunOption = Annotated[
    bool,
    typer.Option("--dry-run", help="Show calls, tokens, dollars and time by stage; ask nothing."),
]


def report(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of a run of building.")],
    json: JsonOption = False,
) -> None:
    """Show what stages made, what failed and what it cost, by stage and model; nothing is asked.

    Also while a stage is at work: then with what is still ahead, if the rest goes as before.

    Example: [bold]sharegptvideo build report loop[/bold]
    """
    from sharegptvideo.build.report import read_report

    figures = read_report(out)
    if json:
        print_json(figures.as_dict())
        return
    print_table(_table(figures))
    for stage in figures.stages:
        for line in _lines(stage):
            echo(f"{stage.stage}: {line}")
    for config, written in figures.dataset.items():
        left = plural(written["n_left_out"], "flagged row")
        echo(f"dataset {config}: {plural(written['n_rows'], 'row')}, {left} left out")
    kept = figures.replies
    cost = "" if kept["dollars"] is None else f" ({dollars(kept['dollars'])})"
    count = plural(kept["count"], "reply", "replies")
    echo(f"{out / 'replies'}: {count}, {number(kept['paid'])} of them paid for here{cost}")


def _table(figures: BuildReport) -> object:
    table = text_table("stage", "model", header_style="bold")
    columns = ("rows", "failed", "prompt tokens", "cached", "answer tokens", "dollars", "time")
    for name in columns:
        table.add_column(name, justify="right")
    for stage in figures.stages:
        first = [stage.stage, duration(stage.seconds) if stage.n_sittings else "–"]
        for model in stage.models:
            counts = (model.rows, model.failed, *model.tokens.values())
            cost = "–" if model.dollars is None else dollars(model.dollars)
            table.add_row(first[0], model.model or "–", *map(number, counts), cost, first[1])
            first = ["", ""]  # what is said once
        if not stage.models:
            table.add_row(first[0], "–", *[number(stage.n_rows), "–", "–", "–", "–", "–", first[1]])
    totals = figures.totals
    cost = "–" if totals["dollars"] is None else dollars(totals["dollars"])
    table.add_section()
    spent = (*map(number, totals["tokens"].values()), cost, duration(totals["seconds"]))
    table.add_row("all", "", "", "", *spent)
    return table


def _lines(stage: StageFigures) -> Iterator[str]:
    for model in stage.models:
        if model.answered_by not in ([], [str(model.model).partition(":")[2]]):
            yield f"{model.model} was answered by {', '.join(model.answered_by)}"
    for cause, count in stage.failures.items():
        yield f"failed: {cause} ({count:,} of {stage.n_rows:,})"
    for cause, count in stage.dropped.items():
        yield f"dropped: {cause} ({count:,})"
    if stage.gates is not None:
        flagged = {name: count for name, count in stage.gates["by_gate"].items() if count}
        by_gate = ", ".join(f"{name} {count:,}" for name, count in flagged.items()) or "none"
        yield f"flagged by gates: {by_gate}"
        for name, reason in stage.gates["skipped"].items():
            yield f"gate {name} skipped: {reason}"
    if stage.n_killed:
        yield f"{plural(stage.n_killed, 'sitting')} killed, or at work now: the time is not counted"
    if ahead := stage.ahead:
        cost = "" if ahead["dollars"] is None else f", about {dollars(ahead['dollars'])}"
        left = ahead["seconds"]
        time = "" if left is None else f", about {rough_duration(left)}"
        yield f"ahead: {plural(ahead['rows'], 'row')}{cost}{time}"
    elif not stage.is_finished:
        yield "not finished"


def run(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A YAML file with stages and their settings.")
    ],
    dry_run: DryRunOption = False,
    max_cost: MaxCostOption = None,
    yes: YesOption = False,
    retry: Annotated[
        bool, typer.Option("--retry", help="Try rows again that failed in finished stages.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Run the stages of a file, one after the other, into one folder.

    The same command goes on where it was stopped: finished stages are passed over, and nothing is
    paid for twice. FILE has `out`, `videos`, the stages `captions`, `qa`, `candidates`, `rewards`,
    `preferences` with what their own commands take, and `max_cost` for all of them; `build loop`
    writes one to begin with.

    Example: [bold]sharegptvideo build run loop.yaml --dry-run[/bold]
    """
    from sharegptvideo.build.loop_file import load_loop

    loop = load_loop(file)
    _run(_limited(loop, max_cost), dry_run=dry_run, yes=yes, retry=retry, as_json=json)


def loop(
    videos: Annotated[Path, typer.Option(help="Folder with the clips, at any depth.")],
    to: Annotated[Path, typer.Option("--to", help="Folder to write; resumable.")],
    captioner: Annotated[
        str, typer.Option(help="Model that writes the captions: openai:NAME, hf:PATH_OR_ID, ...")
    ],
    judge: Annotated[
        str, typer.Option(help="Scores the answers: openai:NAME, answer-match, panel:A,B,C.")
    ],
    questioner: Annotated[
        str | None,
        typer.Option(help="Model that writes questions; default: the captioner."),
    ] = None,
    answerer: Annotated[
        str | None,
        typer.Option(
            help="Model whose answers are paired, best the one to be trained; default: the "
            "captioner."
        ),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="Endpoint of openai:NAME; default: OPENAI_BASE_URL.")
    ] = None,
    dry_run: DryRunOption = False,
    max_cost: MaxCostOption = None,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Make captions, questions, answers, scores and pairs of one's own videos.

    Writes what is to be done to OUT/loop.yaml and runs it: for other settings change that file and
    use `build run`.

    Example: [bold]sharegptvideo build loop --videos clips --to mine --captioner openai:NAME
    --judge openai:NAME --answerer hf:MODEL --dry-run[/bold]
    """
    from sharegptvideo.build.loop_file import common_loop, write_loop

    made = common_loop(
        videos,
        to,
        captioner=captioner,
        judge=judge,
        questioner=questioner,
        answerer=answerer,
        base_url=base_url,
    )
    if not dry_run:
        note(f"settings: {write_loop(made)}")
    _run(_limited(made, max_cost), dry_run=dry_run, yes=yes, retry=False, as_json=json)


def _limited(loop: Loop, max_cost: float | None) -> Loop:
    return loop if max_cost is None else loop.model_copy(update={"max_cost": max_cost})


def _run(loop: Loop, *, dry_run: bool, yes: bool, retry: bool, as_json: bool) -> None:
    from sharegptvideo.build.loop import run_loop, train_command
    from sharegptvideo.build.plan import plan_loop

    if dry_run:
        plans = [plan.as_dict() for plan in plan_loop(loop)]
        known = [plan["dollars"] for plan in plans]
        total = None if None in known else sum(known)
        if as_json:
            print_json({"stages": plans, "dollars": total, "max_cost": loop.max_cost})
            return
        print_table(_plan_table(plans), caption=_plan_caption(loop, total))
        return
    with progress_bar() as progress:
        outcomes = run_loop(
            loop, confirm=confirmation(yes=yes), report=note, progress=progress, retry=retry
        )
    figures: dict[str, Any] = {outcome.stage: outcome.as_dict() for outcome in outcomes}
    print_figures(figures | {"train": train_command(loop)}, as_json=as_json)


def _plan_table(plans: Sequence[dict[str, Any]]) -> object:
    table = text_table("stage", header_style="bold")
    for name in ("inputs", "left", "calls", "tokens", "dollars", "time"):
        table.add_column(name, justify="right")
    table.add_column("by")
    for plan in plans:
        cost = "not known" if plan["dollars"] is None else dollars(plan["dollars"])
        if plan["hours"] is None:
            cells, basis = ("–", "–", "–", "not known"), "asks no server"
        else:
            time = rough_duration(plan["hours"] * 3600)
            cells, basis = (
                (number(plan["calls"]), magnitude(plan["tokens"]), cost, time),
                plan["basis"],
            )
        table.add_row(plan["stage"], number(plan["inputs"]), number(plan["left"]), *cells, basis)
    return table


def _plan_caption(loop: Loop, total: float | None) -> str:
    shown = "not known" if total is None else dollars(total)
    limit = "" if loop.max_cost is None else f"; --max-cost {dollars(loop.max_cost)}"
    return f"all: {shown}{limit}; nothing was asked"
