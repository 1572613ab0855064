"""`sharegptvideo study`: experiments on the method's open questions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharegptvideo._text import duration, plural, rough_duration, visible
from sharegptvideo.cli._common import JsonOption, echo, note, print_json
from sharegptvideo.cli.study_sheet import sheet
from sharegptvideo.errors import UserError

if TYPE_CHECKING:
    from sharegptvideo.study import Outlook

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")
app.command("sheet")(sheet)

ALL = "all"

ScaleOption = Annotated[
    str,
    typer.Option(help="small (the demo's world and model), or tiny (shows that all works)."),
]
SeedsOption = Annotated[
    int | None,
    typer.Option(min=1, help="So many seeds, instead of each experiment's own number."),
]
OutOption = Annotated[Path, typer.Option(help="Folder of the study; the same one goes on.")]


@app.command("ls")
def list_(as_json: JsonOption = False) -> None:
    """List the experiments: their questions, levels and seeds.

    Example: sharegptvideo study ls
    """
    from sharegptvideo.study import list_experiments

    experiments = list_experiments()
    if as_json:
        print_json({one.name: one.model_dump(mode="json") for one in experiments})
        return
    width = max(len(one.name) for one in experiments)
    for one in experiments:
        levels = plural(len(one.levels), "level")
        echo(f"{one.number:>2}  {one.name:<{width}}  {one.title}")
        echo(f"    {'':<{width}}  {levels}, {plural(one.seeds, 'seed')}")


@app.command()
def run(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME...", help="Names from `study ls`, files, or all."),
    ],
    out: OutOption = Path("study-out"),
    scale: ScaleOption = "small",
    seeds: SeedsOption = None,
    processes: Annotated[
        int, typer.Option(min=1, help="Pieces of work at a time, one core each.")
    ] = 2,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is done and what is ahead, and stop.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run experiments. Models and answers are kept, and shared between them.

    Interrupted, the same command goes on.

    Example: sharegptvideo study run video_used --seeds 5
    """
    from sharegptvideo.study import list_experiments, run_study, study_outlook

    if ALL in names:
        if len(names) > 1:
            raise UserError("give names of experiments, or all, not both", exit_code=2)
        names = [one.name for one in list_experiments()]
    ahead = study_outlook(names, out, scale=scale, seeds=seeds, processes=processes)
    if dry_run:
        if as_json:
            print_json({"done": ahead.done, "total": ahead.total, "seconds": ahead.seconds})
        else:
            echo(_outlook(ahead))
        return
    note(_outlook(ahead))
    with _Bars() if sys.stderr.isatty() else _Lines() as watcher:
        results = run_study(
            names, out, scale=scale, seeds=seeds, processes=processes, watcher=watcher
        )
    if as_json:
        print_json(
            {
                name: {key: result[key] for key in ("state", "seeds", "contrast", "says")}
                for name, result in results.items()
            }
        )
        return
    for name, result in results.items():
        echo(f"{name}: {' '.join(result['says'])}")
    echo(f"The page: sharegptvideo study report --out {out}")


@app.command()
def report(
    out: OutOption = Path("study-out"),
    to: Annotated[
        Path | None,
        typer.Option(help="Folder of the report.", show_default="report in the study's folder"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write what a study found: a page, the same as Markdown, tables as CSV.

    Experiments without results are listed as not run. Verdicts on the declared contrasts are after
    Holm's correction over all that have figures.

    Example: sharegptvideo study report --out study-out --to docs/study
    """
    from sharegptvideo.reports.study import write_study
    from sharegptvideo.study import list_experiments

    declared = [one.model_dump(mode="json") for one in list_experiments()]
    place = out / "report" if to is None else to
    whole = write_study(out, place, declared)
    if as_json:
        print_json({"page": str(place / "index.html"), "contrasts": whole["contrasts"]})
        return
    for row in whole["contrasts"]:
        note(f"{row['experiment']}: {row['state']}; {row['verdict'] or 'no verdict'}")
    echo(place / "index.html")


def _outlook(ahead: Outlook) -> str:
    left = ahead.total - ahead.done
    text = f"{ahead.done} of {plural(ahead.total, 'piece')} of work done"
    return f"{text}; about {rough_duration(ahead.seconds)} for the rest" if left else text


class _Lines:
    """Where stderr is no terminal: a line as a piece of work ends, with what is left."""

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing to close."""

    def begins(self, label: str, outlook: Outlook) -> None:
        """Wait for the end."""

    def progress(self, label: str, done: int, total: int, what: str) -> None:
        """Wait for the end."""

    def ended(self, label: str, seconds: float, outlook: Outlook) -> None:
        note(f"[{outlook.done}/{outlook.total}] {label}: {duration(seconds)}; {_left(outlook)}")

    def concluded(self, name: str, file: Path) -> None:
        note(f"{name}: done; {file}")


class _Bars:
    """On a terminal: a bar for the experiment and one for each piece of work under way."""

    def __enter__(self) -> _Bars:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeElapsedColumn as Elapsed
        from rich.table import Column

        self._bars = Progress(
            TextColumn(
                "{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis")
            ),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            Elapsed(),
            TextColumn("{task.fields[left]}", table_column=Column(no_wrap=True)),
            console=Console(stderr=True),
            transient=True,
        )
        self._bars.start()
        self._whole: Any = None
        self._pieces: dict[str, list[Any]] = {}  # two may have one label
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def _add(self, text: str, total: int | None) -> Any:
        from rich.markup import escape

        return self._bars.add_task(escape(visible(text, keep="")), total=total, left="")

    def _show(self, outlook: Outlook) -> None:
        if self._whole is None:
            self._whole = self._add("pieces of work", outlook.total)
        self._bars.update(
            self._whole, completed=outlook.done, total=outlook.total, left=_left(outlook)
        )

    def begins(self, label: str, outlook: Outlook) -> None:
        self._show(outlook)
        self._pieces.setdefault(label, []).append(self._add(label, None))

    def progress(self, label: str, done: int, total: int, what: str) -> None:
        from rich.markup import escape

        task = self._pieces[label][0]
        rest = self._bars.tasks[self._bars.task_ids.index(task)].time_remaining
        self._bars.update(
            task,
            completed=done,
            total=total or None,
            description=escape(visible(f"{label}, {what}", keep="")),
            left="" if rest is None else f"{rough_duration(rest)} left",
        )

    def ended(self, label: str, seconds: float, outlook: Outlook) -> None:
        self._show(outlook)
        self._bars.remove_task(self._pieces[label].pop(0))
        self._print(f"✓ {label}: {duration(seconds)}")

    def concluded(self, name: str, file: Path) -> None:
        self._bars.remove_task(self._whole)
        self._whole = None
        self._print(f"✓ {name}: {file}")

    def _print(self, text: str) -> None:
        self._bars.console.print(visible(text), highlight=False, markup=False)


def _left(outlook: Outlook) -> str:
    return f"about {rough_duration(outlook.seconds)} left" if outlook.seconds else "all done"
