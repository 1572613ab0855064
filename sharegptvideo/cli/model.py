"""`sharegptvideo model`: convert the authors' checkpoints, and say what a checkpoint is."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from sharegptvideo._text import magnitude, plural
from sharegptvideo.cli._common import JsonOption, note, print_json, progress_bar

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)


def _part(text: str) -> Any:
    return typer.Option(rich_help_panel="Parts of --assemble", help=text)


@app.command()
def convert(
    to: Annotated[Path, typer.Option("--to", help="The new folder.")],
    source: Annotated[
        str | None,
        typer.Argument(help="A folder or Hub id, such as ShareGPTVideo/LLaVA-Hound-DPO."),
    ] = None,
    towers: Annotated[
        Path | None,
        typer.Option(
            help="JSON with the towers' sizes, where the repositories that the checkpoint names "
            'cannot be reached: {"image": {...}, "video": {...}}.'
        ),
    ] = None,
    assemble: Annotated[
        bool,
        typer.Option(
            "--assemble", help="Make what the paper's training starts from, of four parts."
        ),
    ] = False,
    language: Annotated[str | None, _part("A Llama; default: lmsys/vicuna-7b-v1.5.")] = None,
    image_tower: Annotated[str | None, _part("Default: LanguageBind/LanguageBind_Image.")] = None,
    video_tower: Annotated[
        str | None, _part("Default: LanguageBind/LanguageBind_Video_merge.")
    ] = None,
    projector: Annotated[
        str | None, _part("Default: ShareGPTVideo/Video-LLaVA-MLP-Adapter.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Convert a checkpoint in the authors' layout (LLaVA-Hound, Video-LLaVA) for this package.

    With --assemble, make one of the model's parts (folders or Hub ids). Every weight has a place in
    the new one, or nothing is written.

    Example: sharegptvideo model convert ShareGPTVideo/LLaVA-Hound-DPO --to models/hound-dpo

    Example: sharegptvideo model convert --assemble --to models/hound-start
    """
    from sharegptvideo.errors import UserError
    from sharegptvideo.models.convert import PAPER_PARTS, assemble_checkpoint, convert_checkpoint

    given = {
        name: part
        for name, part in (
            ("language", language),
            ("image_tower", image_tower),
            ("video_tower", video_tower),
            ("projector", projector),
        )
        if part is not None
    }
    if assemble and (source is not None or towers is not None):
        raise UserError("--assemble takes parts (--language ...), no checkpoint and no --towers")
    if given and not assemble:
        raise UserError(f"--{next(iter(given)).replace('_', '-')} is a part: add --assemble")
    if source is None and not assemble:
        raise UserError("give a checkpoint, or --assemble to make one of its parts")
    with progress_bar() as progress:
        if source is None:
            parts = PAPER_PARTS.model_copy(update=given)
            done = assemble_checkpoint(parts, to, progress=progress)
        else:
            done = convert_checkpoint(source, to, towers=towers, progress=progress)
    if json:
        print_json(asdict(done) | {"folder": str(done.folder)})
        return
    typer.echo(
        f"{plural(done.weights, 'weight')}, {magnitude(done.parameters)} parameters, in "
        f"{plural(done.shards, 'file')}; a clip takes {done.video_positions:,} positions"
    )
    if done.dropped:
        note(f"left out: {', '.join(_kinds(done.dropped))}")
    typer.echo(done.folder)


def _kinds(names: tuple[str, ...]) -> list[str]:
    """Return the kinds of what was left out, and how many tensors each has.

    What follows from the config goes by the last part of its name, a tower's other half
    (`text_model`) by the first.
    """
    ends = ("inv_freq", "position_ids")
    counts = Counter(
        last if (last := name.rpartition(".")[2]) in ends else name.partition(".")[0]
        for name in names
    )
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
