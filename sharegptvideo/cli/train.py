"""`sharegptvideo train`: list, copy, check and run training recipes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharegptvideo.cli._common import (
    JsonOption,
    Progress,
    make_world,
    note,
    print_figures,
    print_json,
    progress_bar,
)

if TYPE_CHECKING:
    from sharegptvideo.eval import SampleEvaluation
    from sharegptvideo.training.recipe import Evaluation

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)

RecipeArgument = Annotated[
    str, typer.Argument(metavar="FILE|NAME", help="A YAML file, or a name from `train ls`.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE", help="Change fields: optimisation.epochs=2 output=runs/a ..."
    ),
]


@app.command("ls")
def list_(as_json: JsonOption = False) -> None:
    """List the recipes that come with the package.

    Example: sharegptvideo train ls
    """
    from sharegptvideo.training import recipe_names, recipe_text

    about = {name: _about(recipe_text(name)) for name in recipe_names()}
    if as_json:
        print_json(about)
        return
    width = max(map(len, about))
    for name, text in about.items():
        typer.echo(f"{name:<{width}}  {text}")


@app.command()
def cp(
    name: Annotated[str, typer.Argument(help="A name from `train ls`.")],
    file: Annotated[Path, typer.Argument(help="Where to write the copy.")],
) -> None:
    """Copy a recipe to a file of your own.

    Example: sharegptvideo train cp demo/sft my_sft.yaml
    """
    from sharegptvideo.errors import UserError
    from sharegptvideo.storage import write_text
    from sharegptvideo.training import recipe_names, recipe_text

    if name not in recipe_names():
        from sharegptvideo.errors import unknown_name

        raise unknown_name("recipe", name, recipe_names())
    if file.is_dir():
        file = file / f"{name.rpartition('/')[2]}.yaml"
    if file.exists():
        raise UserError(f"{file}: exists already; remove it or choose another name")
    write_text(file, recipe_text(name))
    note(f"copied {name} to {file}")


@app.command()
def validate(
    recipe: RecipeArgument, overrides: Overrides = None, as_json: JsonOption = False
) -> None:
    """Check a recipe's keys, values and dataset name, and print it with its defaults.

    Model, data and clips are looked for by `train run --dry-run`.

    Example: sharegptvideo train validate my_sft.yaml optimisation.epochs=2
    """
    from sharegptvideo.training import load_steps

    print_figures(
        _of_steps([one.model_dump(mode="json") for one in load_steps(recipe, overrides or ())]),
        as_json=as_json,
    )


@app.command()
def run(recipe: RecipeArgument, overrides: Overrides = None, as_json: JsonOption = False) -> None:
    """Train by a recipe; run the same command again to go on after an interrupt.

    Example: sharegptvideo train run demo/dpo model=runs/sft output=runs/dpo
    """
    from sharegptvideo.training import load_steps, run_recipe

    figures = []
    for loaded in load_steps(recipe, overrides or ()):
        with progress_bar() as progress:
            make_world(loaded.data.source, progress)
            result = run_recipe(
                loaded,
                progress=progress,
                tell=note,
                evaluator=_evaluator(loaded.eval, progress) if loaded.eval else None,
            )
        if result.already_done:
            for text in result.notes:
                note(text)
            note(f"{result.output}: finished before; nothing to do")
        figures.append(result.figures())
        del figures[-1]["notes"]
    print_figures(_of_steps(figures), as_json=as_json)


def _evaluator(settings: Evaluation, progress: Progress) -> SampleEvaluation:
    """Who asks and judges while the model is in training."""
    from sharegptvideo.eval import SampleEvaluation

    if any(task.startswith("synthetic") for task in settings.tasks):
        make_world(settings.source or "synthetic", progress)
    # In a log, each evaluation's figures are a line; how they come about would be four more.
    return SampleEvaluation.of(settings, progress=progress if sys.stderr.isatty() else None)


def _of_steps(found: list[dict[str, Any]]) -> dict[str, Any]:
    """What was found of each step, under its name where there are several."""
    if len(found) == 1:
        return found[0]
    return {Path(figures["output"]).name: figures for figures in found}


def _about(text: str) -> str:
    """The first sentence of a recipe's opening comment."""
    lines = []
    for line in text.splitlines():
        words = line.removeprefix("#").strip()
        if not line.startswith("#") or not words:
            break
        lines.append(words)
    return " ".join(lines).partition(". ")[0].rstrip(".")
