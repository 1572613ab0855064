"""`sharegptvideo build captions` and `qa`: from videos to captions, from these to questions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharegptvideo.cli._common import JsonOption, make_world, note, print_figures, progress_bar
from sharegptvideo.cli._endpoint import asks_endpoints
from sharegptvideo.cli.build._shared import (
    ActorsOption,
    EngineOption,
    KeepAllOption,
    ModelOption,
    OutOption,
    PromptFileOption,
    RayAddressOption,
    SeedOption,
    engine_options,
)
from sharegptvideo.cli.eval._shared import SendOption, UrlOption

if TYPE_CHECKING:
    from sharegptvideo.build.engines import StageReport
    from sharegptvideo.build.stage import Stage
    from sharegptvideo.endpoint import EndpointOptions

__all__ = ["captions", "qa"]

LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="Take the first N only.")]
TemperatureOption = Annotated[
    float, typer.Option(min=0.0, help="Temperature of the draw; 0: the likeliest words.")
]
TokensOption = Annotated[int, typer.Option("--max-new-tokens", min=1, help="Where a reply is cut.")]
BatchOption = Annotated[
    int | None,
    typer.Option(min=1, help="Replies an hf: model decodes at once; default: 96, on a GPU 256."),
]


@asks_endpoints
def captions(
    model: ModelOption,
    out: OutOption,
    videos: Annotated[
        Path | None,
        typer.Option(
            help="Folder of videos, or folders of frames, at any depth: a caption for each."
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="In place of --videos: rows whose videos are captioned anew. A folder in the "
            "release layout, 'synthetic', or a JSONL or CSV file with a column video.",
        ),
    ] = None,
    media: Annotated[
        Path | None, typer.Option(help="Folder of the videos of --input; default: the input.")
    ] = None,
    titles: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Titles and tags for the model to know: JSONL or CSV with video, title, tags.",
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Split of the rows of --input.")] = "train",
    limit: LimitOption = None,
    frames: Annotated[
        int | None,
        typer.Option(
            min=1, help="Frames of a clip, where the model was made for no number; default: 10."
        ),
    ] = None,
    prompt: PromptFileOption = None,
    temperature: TemperatureOption = 0.0,
    max_new_tokens: TokensOption = 1024,
    seed: SeedOption = 0,
    batch_size: BatchOption = None,
    base_url: UrlOption = None,
    send: SendOption = "auto",
    keep_all: KeepAllOption = False,
    engine: EngineOption = "local",
    ray_address: RayAddressOption = None,
    actors: ActorsOption = None,
    *,
    endpoint: EndpointOptions,
    json: JsonOption = False,
) -> None:
    """Let a model write one detailed caption of each video: OUT/captions.jsonl.

    The same command again finishes what is missing, and pays for nothing twice.

    Example: [bold]sharegptvideo build captions --videos my_videos --model openai:NAME
    --base-url http://localhost:8000/v1 --out mine[/bold]
    """
    from sharegptvideo.build.captions import CaptionStage, caption_wording
    from sharegptvideo.build.clips import clips_in_folder, clips_of_rows, with_titles
    from sharegptvideo.build.engines import run_stage
    from sharegptvideo.build.model_stage import ModelChoice
    from sharegptvideo.errors import UserError
    from sharegptvideo.models import SamplingParams

    if (videos is None) == (source is None):
        raise UserError("give --videos (a folder) or --input (rows that name videos), one of them")
    if videos is not None and media is not None:
        raise UserError("--media goes with --input; --videos is a folder of media itself")
    options = engine_options(engine, ray_address, actors)
    params = SamplingParams(temperature=temperature, max_new_tokens=max_new_tokens, seed=seed)
    stage = CaptionStage(
        ModelChoice(model, params, base_url, send, batch_size), frames, caption_wording(prompt)
    )
    with progress_bar() as progress:
        if videos is not None:
            clips = clips_in_folder(videos, limit)
        else:
            assert source is not None
            make_world(source, progress)
            clips = clips_of_rows(source, media=media, split=split, limit=limit)
        if titles is not None:
            clips, left = with_titles(clips, titles)
            if left:
                note(f"{titles}: names {len(left)} that are not among the videos: {left[0]} ...")
        report = run_stage(stage, clips, out, engine=options, endpoint=endpoint, progress=progress)
    _end(stage, report, out, "videos", as_json=json, keep_all=keep_all)


@asks_endpoints
def qa(
    source: Annotated[
        str,
        typer.Option(
            "--input",
            help="Folder of `build captions`, or any with captions in the release layout; or "
            "'synthetic'.",
        ),
    ],
    model: ModelOption,
    out: OutOption,
    n: Annotated[int, typer.Option("-n", min=1, help="Questions to each caption.")] = 3,
    kinds: Annotated[
        str | None,
        typer.Option(
            help="Kinds of question, separated by commas, as action,order; default: any of action,"
            " order, object, attribute, place, reason, manner."
        ),
    ] = None,
    difficulty: Annotated[
        str | None, typer.Option(help="easy, medium or hard; default: any of them.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split of the captions.")] = "train",
    limit: LimitOption = None,
    prompt: PromptFileOption = None,
    temperature: TemperatureOption = 0.0,
    max_new_tokens: TokensOption = 1024,
    seed: SeedOption = 0,
    batch_size: BatchOption = None,
    base_url: UrlOption = None,
    keep_all: KeepAllOption = False,
    engine: EngineOption = "local",
    ray_address: RayAddressOption = None,
    actors: ActorsOption = None,
    *,
    endpoint: EndpointOptions,
    json: JsonOption = False,
) -> None:
    """Let a language model write questions with answers about each caption: OUT/qa.jsonl.

    Questions that the caption cannot answer, that repeat another or give their answer away are
    dropped, counted and listed. The same command again finishes what is missing, and pays for
    nothing twice.

    Example: [bold]sharegptvideo build qa --input mine --model openai:NAME --out mine[/bold]
    """
    from sharegptvideo.build.engines import run_stage
    from sharegptvideo.build.model_stage import ModelChoice
    from sharegptvideo.build.qa import QaStage, qa_wording, read_captions
    from sharegptvideo.models import SamplingParams

    options = engine_options(engine, ray_address, actors)
    params = SamplingParams(temperature=temperature, max_new_tokens=max_new_tokens, seed=seed)
    chosen = tuple(name.strip() for name in (kinds or "").split(",") if name.strip())
    choice = ModelChoice(model, params, base_url, batch_size=batch_size)
    stage = QaStage(choice, n, chosen, difficulty, qa_wording(prompt))
    with progress_bar() as progress:
        make_world(source, progress)
        rows = read_captions(source, split=split, limit=limit)
        report = run_stage(stage, rows, out, engine=options, endpoint=endpoint, progress=progress)
    _end(stage, report, out, "captions", as_json=json, keep_all=keep_all)


def _end(
    stage: Stage, report: StageReport, out: Path, what: str, *, as_json: bool, keep_all: bool
) -> None:
    """Write the dataset, say what failed, print the figures.

    Raises:
        typer.Exit: nothing was made.
    """
    from sharegptvideo.build.finish import finish_stage

    figures = report.as_dict()
    log = out / f"{stage.name}.jsonl"
    for cause, count in report.failures.items():
        note(f"failed: {cause} ({count} of {report.n_rows} {what})")
    if report.failures:
        note(f"each is in {log}, and tried again by the same command")
    dropped = report.figures.get("dropped", {})
    for gate, count in dropped.items():
        note(f"dropped: {gate} ({count} of {report.n_made + sum(dropped.values())} questions)")
    if report.n_made:
        figures["dataset"] = finish_stage(stage, out, keep_all=keep_all).as_dict()
    if not as_json:
        del figures["failures"]  # those are the notes
    print_figures(figures, as_json=as_json)
    if not report.n_made:
        note(f"error: nothing was made; see {log}")
        raise typer.Exit(1)
