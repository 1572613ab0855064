"""`sharegptvideo model`: convert the authors' checkpoints, and say what a checkpoint is."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sharegptvideo._text import magnitude, plural
from sharegptvideo.cli._common import JsonOption, note, print_json, progress_bar

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)


@app.command()
def convert(
    source: Annotated[
        str, typer.Argument(help="A folder or Hub id, such as ShareGPTVideo/LLaVA-Hound-DPO.")
    ],
    to: Annotated[Path, typer.Option("--to", help="The new folder.")],
    towers: Annotated[
        Path | None,
        typer.Option(
            help="JSON with the towers' sizes, where the repositories that the checkpoint names "
            'cannot be reached: {"image": {...}, "video": {...}}.'
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Convert a checkpoint in the authors' layout (LLaVA-Hound, Video-LLaVA) for this package.

    Every weight has a place in the new one, or nothing is written.

    Example: sharegptvideo model convert ShareGPTVideo/LLaVA-Hound-DPO --to models/hound-dpo
    """
    from sharegptvideo.models.convert import convert_checkpoint

    with progress_bar() as progress:
        done = convert_checkpoint(source, to, towers=towers, progress=progress)
    if json:
        print_json(asdict(done) | {"folder": str(done.folder)})
        return
    typer.echo(
        f"{plural(done.weights, 'weight')}, {magnitude(done.parameters)} parameters, in "
        f"{plural(done.shards, 'file')}; a clip takes {done.video_positions:,} positions"
    )
    if done.dropped:
        note(f"left out, as they follow from the config: {', '.join(_kinds(done.dropped))}")
    typer.echo(done.folder)


def _kinds(names: tuple[str, ...]) -> list[str]:
    """Return the last part of each name, and how many tensors have it."""
    counts: dict[str, int] = {}
    for name in names:
        counts[name.rsplit(".", 1)[1]] = counts.get(name.rsplit(".", 1)[1], 0) + 1
    return [f"{kind} ({count})" for kind, count in sorted(counts.items())]


def _uses(architecture: str) -> list[str]:
    """Return the commands that take a checkpoint of an architecture."""
    from sharegptvideo.training.families import trained_architectures

    if architecture.endswith("layout"):
        return ["model convert, and all commands after that"]
    trains = ["train run"] if architecture in trained_architectures() else []
    return ["eval run", "build candidates", *trains]


@app.command()
def info(
    path: Annotated[str, typer.Argument(metavar="PATH_OR_ID", help="A folder or Hub id.")],
    json: JsonOption = False,
) -> None:
    """Say what a checkpoint is: architecture, sizes, positions a clip, and what takes it.

    Example: sharegptvideo model info models/hound-dpo
    """
    from sharegptvideo.models.info import model_info

    report = model_info(path)
    if json:
        print_json(asdict(report))
        return
    if not report.parameters:
        typer.echo(f"architecture  {report.architecture}")
        typer.echo(f"taken by      {', '.join(_uses(report.architecture))}")
        return
    rows = [
        ("architecture", report.architecture),
        ("parameters", magnitude(report.parameters)),
        *((f"  {name}", magnitude(count)) for name, count in report.parts.items()),
        ("frames a clip", report.frames if report.frames is not None else "any"),
        ("positions a clip", report.clip_positions or "as its processor says"),
        ("positions an image", report.image_positions or "as its processor says"),
        ("positions in all", f"{report.positions:,}" if report.positions else "unknown"),
        ("attention over time", "yes" if report.temporal_attention else "no, in its video tower"),
        ("taken by", ", ".join(_uses(report.architecture))),
    ]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        typer.echo(f"{name:<{width}}  {value}")
