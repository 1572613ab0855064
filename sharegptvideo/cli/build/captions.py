"""`sharegptvideo build captions` and `qa`: from videos to captions, from these to questions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharegptvideo._text import and_more, plural
from sharegptvideo.cli._common import JsonOption, make_world, note, print_figures, progress_bar
from sharegptvideo.cli._endpoint import asks_endpoints
from sharegptvideo.cli.build._shared import (
    ActorCpusOption,
    ActorsOption,
    AgainstOption,
    EngineOption,
    KeepAllOption,
    ModelOption,
    NoGateOption,
    OutOption,
    OwnEngineOption,
    PromptFileOption,
    RayAddressOption,
    SeedOption,
    engine_options,
    gate_settings,
)
from sharegptvideo.cli.eval._shared import SendOption, UrlOption

if TYPE_CHECKING:
    from sharegptvideo.build.engines import StageReport
    from sharegptvideo.build.finish import FinishOptions
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
    against: AgainstOption = None,
    no_gate: NoGateOption = None,
    keep_all: KeepAllOption = False,
    engine: EngineOption = "local",
    ray_address: RayAddressOption = None,
    actors: ActorsOption = None,
    actor_cpus: ActorCpusOption = None,
    no_vllm: OwnEngineOption = False,
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
    from sharegptvideo.build.finish import FinishOptions
    from sharegptvideo.build.model_stage import ModelChoice
    from sharegptvideo.errors import UserError
    from sharegptvideo.models import SamplingParams

    if (videos is None) == (source is None):
        raise UserError("give --videos (a folder) or --input (rows that name videos), one of them")
    if videos is not None and media is not None:
        raise UserError("--media goes with --input; --videos is a folder of media itself")
    options = engine_options(engine, ray_address, actors, actor_cpus, no_vllm=no_vllm)
    params = SamplingParams(temperature=temperature, max_new_tokens=max_new_tokens, seed=seed)
    stage = CaptionStage(
        ModelChoice(model, params, base_url, send, batch_size), frames, caption_wording(prompt)
    )
    finish = FinishOptions(
        gate_settings(no_gate, "captions"),
        against or (),
        [folder for folder in (videos, media) if folder is not None],
        keep_all,
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
                names = plural(len(left), "name")
                note(f"{titles}: {names} of no video here: {and_more(left)}")
        report = run_stage(stage, clips, out, engine=options, endpoint=endpoint, progress=progress)
    _end(stage, report, out, finish, as_json=json)


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
    media: Annotated[
        Path | None,
        typer.Option(help="Folder of the videos, for the gate that compares them with test clips."),
    ] = None,
    split: Annotated[str, typer.Option(help="Split of the captions.")] = "train",
    limit: LimitOption = None,
    prompt: PromptFileOption = None,
    temperature: TemperatureOption = 0.0,
    max_new_tokens: TokensOption = 1024,
    seed: SeedOption = 0,
    batch_size: BatchOption = None,
    base_url: UrlOption = None,
    against: AgainstOption = None,
    no_gate: NoGateOption = None,
    keep_all: KeepAllOption = False,
    engine: EngineOption = "local",
    ray_address: RayAddressOption = None,
    actors: ActorsOption = None,
    actor_cpus: ActorCpusOption = None,
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
    from sharegptvideo.build.finish import FinishOptions
    from sharegptvideo.build.model_stage import ModelChoice
    from sharegptvideo.build.qa import QaStage, qa_wording, read_captions
    from sharegptvideo.models import SamplingParams

    options = engine_options(engine, ray_address, actors, actor_cpus)
    params = SamplingParams(temperature=temperature, max_new_tokens=max_new_tokens, seed=seed)
    chosen = tuple(name.strip() for name in (kinds or "").split(",") if name.strip())
    choice = ModelChoice(model, params, base_url, batch_size=batch_size)
    stage = QaStage(choice, n, chosen, difficulty, qa_wording(prompt))
    finish = FinishOptions(
        gate_settings(no_gate, "qa"), against or (), [media] if media else [], keep_all
    )
    with progress_bar() as progress:
        make_world(source, progress)
        rows = read_captions(source, split=split, limit=limit)
        report = run_stage(stage, rows, out, engine=options, endpoint=endpoint, progress=progress)
    _end(stage, report, out, finish, as_json=json)


def _end(
    stage: Stage, report: StageReport, out: Path, finish: FinishOptions, *, as_json: bool
) -> None:
    """Say what failed, write the dataset, print the figures.

    Raises:
        typer.Exit: nothing was made that could be kept.
    """
    from sharegptvideo.build.finish import finish_stage

    figures, log = report.as_dict(), out / f"{stage.name}.jsonl"
    for cause, count in report.failures.items():
        note(f"failed: {cause} ({count} of {plural(report.n_rows, 'row')})")
    if report.failures:
        note(f"each is in {log}; the same command tries clips and calls again that failed")
    dropped = report.figures.get("dropped", {})
    asked = report.n_made + sum(dropped.values())
    for gate, count in dropped.items():
        note(f"dropped: {gate} ({count} of {plural(asked, 'question')}; see {log})")
    kept = 0
    if report.n_made:
        with progress_bar() as progress:
            gates, dataset = finish_stage(stage, out, finish, progress)
        for reason in dict.fromkeys(gates.skipped.values()):
            names = (gate for gate, why in gates.skipped.items() if why == reason)
            note(f"not checked: {', '.join(names)} ({reason})")
        for gate, count in dataset.flags.items():
            note(f"flagged: {gate} ({count} of {plural(gates.rows, 'row')})")
        kept = dataset.n_rows
        figures["dataset"] = dataset.as_dict()
    if not as_json:  # those are the notes
        del figures["failures"]
        figures.get("dataset", {}).pop("flags", None)
    print_figures(figures, as_json=as_json)
    if not kept:
        what = f"every row is flagged by a gate; see {out / stage.name}_gates.jsonl"
        note(f"error: {what if report.n_made else f'nothing was made; see {log}'}")
        raise typer.Exit(1)
