"""`sharegptvideo train`: list, copy, check and run training recipes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharegptvideo.cli._common import (
    JsonOption,
    echo,
    make_world,
    note,
    print_figures,
    print_json,
    progress_bar,
)

if TYPE_CHECKING:
    from sharegptvideo.training.recipes import Recipe

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
        echo(f"{name:<{width}}  {text}")


@app.command()
def cp(
    name: Annotated[str, typer.Argument(help="A name from `train ls`.")],
    file: Annotated[Path, typer.Argument(help="Where to write the copy.")],
) -> None:
    """Copy a recipe to a file of your own.

    Example: sharegptvideo train cp demo/sft my_sft.yaml
    """
    from sharegptvideo._io import write_text
    from sharegptvideo.errors import UserError
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
def config(
    name: Annotated[
        str | None, typer.Argument(help="A configuration; without one, all are listed.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print where a configuration of `accelerate launch` lies: one GPU, eight, several machines.

    Example: accelerate launch --config_file $(sharegptvideo train config fsdp2) -m sharegptvideo
    train run llava_hound/dpo data.media=CLIPS
    """
    from sharegptvideo.training.launch import config_about, config_names, config_path

    if name is not None:
        path = str(config_path(name))
        print_json({name: path}) if as_json else echo(path)
        return
    about = {name: config_about(name) for name in config_names()}
    print_figures(about, as_json=as_json)


@app.command()
def validate(
    recipe: RecipeArgument, overrides: Overrides = None, as_json: JsonOption = False
) -> None:
    """Check a recipe's keys, values and dataset name, and print it as YAML with its defaults.

    Of a recipe of several steps each is a YAML document of its own.
    `train run --dry-run` checks model, data and clips too.

    Example: sharegptvideo train validate my_sft.yaml optimisation.epochs=2
    """
    import yaml

    from sharegptvideo.training import load_steps

    steps = [one.model_dump(mode="json") for one in load_steps(recipe, overrides or ())]
    if as_json:
        print_json(_of_steps(steps))
        return
    echo(yaml.safe_dump_all(steps, sort_keys=False, width=100).rstrip("\n"))


@app.command()
def run(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Show what it would take and what is missing; train nothing."
        ),
    ] = False,
    gpus: Annotated[
        str | None,
        typer.Option(
            metavar="NxKIND",
            help="With --dry-run: plan for these GPUs (8xH100, 1x4090), not this machine's.",
        ),
    ] = None,
    utilisation: Annotated[
        float | None,
        typer.Option(
            min=0.01, max=1.0, help="With --dry-run: share of the GPUs' peak reached [as measured]."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train by a recipe; run the same command again to go on after an interrupt.

    A recipe of several steps runs all of them. With --dry-run it reads the rows, looks for their
    clips and works out steps, tokens, memory, hours and disk space; it loads no weights and exits
    with 1 if something would stop the run here.

    Example: sharegptvideo train run demo/dpo model=runs/sft output=runs/dpo

    Example: sharegptvideo train run llava_hound/dpo --dry-run --gpus 8xA100-80
    """
    from sharegptvideo.errors import UserError
    from sharegptvideo.training import load_steps, run_recipe
    from sharegptvideo.training.checks import check_paths
    from sharegptvideo.training.launch import rank_of_environment

    recipes = load_steps(recipe, overrides or ())
    if dry_run:
        _dry_run(recipes, gpus, utilisation, as_json=as_json)
        return
    if gpus is not None or utilisation is not None:
        raise UserError("--gpus and --utilisation are for --dry-run; a run takes the GPUs it sees")
    figures = []
    for loaded in recipes:
        check_paths(loaded)  # before anything is made
        with progress_bar() as progress:
            make_world(loaded.data.data_dir, progress)
            if loaded.eval and any(task.startswith("synthetic") for task in loaded.eval.tasks):
                make_world(loaded.eval.data_dir or "synthetic", progress)
            result = run_recipe(loaded, progress=progress, report=note)
        if rank_of_environment() != 0:
            continue  # the first process of a launch speaks for all
        if result.already_done:
            for text in result.notes:
                note(text)
            note(f"{result.output}: finished before; nothing to do")
        figures.append(result.figures())
        del figures[-1]["notes"]
    if figures:
        print_figures(_of_steps(figures), as_json=as_json)


def _dry_run(
    recipes: list[Recipe], gpus: str | None, utilisation: float | None, *, as_json: bool
) -> None:
    from sharegptvideo.training.gpus import parse_gpus

    wanted = parse_gpus(gpus) if gpus is not None else None  # before torch, which takes seconds
    from sharegptvideo.training.plan import dry_run_figures, dry_run_lines, dry_run_steps

    with progress_bar() as progress:
        for recipe in recipes:
            make_world(recipe.data.data_dir, progress)
        outcomes = dry_run_steps(recipes, wanted, utilisation=utilisation, progress=progress)
    if as_json:
        print_json(_of_steps([dry_run_figures(one) for one in outcomes]))
    for number, one in enumerate(() if as_json else outcomes):
        if number:
            echo()
        for line in dry_run_lines(one):
            echo(line)
    if any(one.problems for one in outcomes):
        raise typer.Exit(1)


def _of_steps(steps: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of each step, under its name where there are several."""
    if len(steps) == 1:
        return steps[0]
    return {Path(figures["output"]).name: figures for figures in steps}


def _about(text: str) -> str:
    """Return the first sentence of a recipe's opening comment."""
    lines = []
    for line in text.splitlines():
        words = line.removeprefix("#").strip()
        if not line.startswith("#") or not words:
            break
        lines.append(words)
    return " ".join(lines).partition(". ")[0].rstrip(".")
