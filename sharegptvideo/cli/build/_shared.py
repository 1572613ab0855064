"""Options that the commands of `sharegptvideo build` share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from sharegptvideo.build.gates import GateSettings
    from sharegptvideo.build.stage import EngineOptions

__all__ = [
    "ActorCpusOption",
    "ActorsOption",
    "AgainstOption",
    "EngineOption",
    "KeepAllOption",
    "ModelOption",
    "NoGateOption",
    "OutOption",
    "OwnEngineOption",
    "PromptFileOption",
    "RayAddressOption",
    "SeedOption",
    "engine_options",
    "gate_settings",
]

OutOption = Annotated[Path, typer.Option("--out", help="Folder to write; resumable.")]
SeedOption = Annotated[int, typer.Option(help="Seed of the draw.")]
ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        help="openai:NAME (with --base-url), hf:PATH_OR_ID (hf: may be left out),"
        " python:module:function.",
    ),
]
PromptFileOption = Annotated[
    Path | None,
    typer.Option(
        "--prompt",
        metavar="FILE",
        help="A prompt file of your own; datasets_cards/prompts has ours, to begin with.",
    ),
]
_GATES = "Quality gates"
KeepAllOption = Annotated[
    bool,
    typer.Option(
        "--keep-all",
        help="Keep rows that a quality gate flags, marked with the gates' names.",
        rich_help_panel=_GATES,
    ),
]
NoGateOption = Annotated[
    str | None,
    typer.Option(
        "--no-gate",
        metavar="NAMES",
        help="Gates to leave out, separated by commas, as no-change,language; all: every one.",
        rich_help_panel=_GATES,
    ),
]
AgainstOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--against",
        metavar="DIR",
        help="Folder with test sets (the release's, or Parquet), whose clips and texts are to be"
        " left out; may be given several times.",
        rich_help_panel=_GATES,
    ),
]
_ENGINE = "Engine"
EngineOption = Annotated[
    Literal["local", "ray"],
    typer.Option(
        "--engine",
        help="What runs the work: this process, or Ray, on this machine or a cluster.",
        rich_help_panel=_ENGINE,
    ),
]
RayAddressOption = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="ADDRESS",
        help="Cluster that --engine ray joins, as auto or HOST:6379; default: a new one"
        " on this machine.",
        rich_help_panel=_ENGINE,
    ),
]
ActorsOption = Annotated[
    int | None,
    typer.Option(
        "--actors", min=1, help="Processes at work under --engine ray.", rich_help_panel=_ENGINE
    ),
]


ActorCpusOption = Annotated[
    float | None,
    typer.Option(
        "--actor-cpus",
        help="CPUs that Ray gives each of these; default: 1, less where there are fewer.",
        rich_help_panel=_ENGINE,
    ),
]


OwnEngineOption = Annotated[
    bool,
    typer.Option(
        "--no-vllm",
        help="Under --engine ray, load hf: models in this package's own engine, also where vLLM is"
        " installed and could serve them, one to each GPU.",
        rich_help_panel=_ENGINE,
    ),
]


def engine_options(
    engine: str,
    ray_address: str | None,
    actors: int | None,
    actor_cpus: float | None = None,
    *,
    no_vllm: bool = False,
) -> EngineOptions:
    """Return what the options say.

    Raises:
        UserError: they do not go together.
    """
    from sharegptvideo.build.stage import EngineOptions

    return EngineOptions(engine, ray_address, actors, actor_cpus, vllm=not no_vllm)


def gate_settings(no_gate: str | None, kind: Literal["captions", "qa"]) -> GateSettings:
    """Return the gates that --no-gate leaves on.

    Raises:
        UserError: a name that is no gate's.
    """
    from sharegptvideo.build.gates import GateSettings

    names = tuple(name.strip() for name in (no_gate or "").split(",") if name.strip())
    if names == ("all",):
        return GateSettings(only=())
    settings = GateSettings(without=names)
    settings.gates(kind)  # a wrong name is an error before anything is paid
    return settings
