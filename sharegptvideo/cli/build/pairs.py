"""`sharegptvideo build candidates`, `rewards`, `preferences`: from questions to pairs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharegptvideo.cli._common import JsonOption, make_world, note, print_figures, progress_bar
from sharegptvideo.cli._endpoint import asks_endpoints
from sharegptvideo.cli.build._shared import (
    ActorsOption,
    EngineOption,
    OutOption,
    OwnEngineOption,
    RayAddressOption,
    SeedOption,
    engine_options,
)
from sharegptvideo.cli.eval._shared import (
    JudgeOption,
    PanelOption,
    SendOption,
    UrlOption,
    judge_name,
)

if TYPE_CHECKING:
    from sharegptvideo.endpoint import EndpointOptions

__all__ = ["candidates", "preferences", "rewards"]


@asks_endpoints
def candidates(
    source: Annotated[
        str,
        typer.Option(
            "--input", help="Folder in the release layout, or 'synthetic': its 'qa' questions."
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            help="As in `eval run`: hf:PATH_OR_ID (hf: may be left out), openai:NAME, "
            "python:module:function, predictions:FILE with -k 1."
        ),
    ],
    out: OutOption,
    media: Annotated[
        Path | None, typer.Option(help="Folder of the clips; default: the input.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split of the questions.")] = "train",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Take the first N questions only.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Answers a question.")] = 6,
    temperature: Annotated[float, typer.Option(help="Temperature of the draw.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Share of probability drawn from.")] = 0.95,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Where an answer is cut.")] = 256,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Answers decoded at once; default: 96, on a GPU 256."),
    ] = None,
    seed: SeedOption = 0,
    base_url: UrlOption = None,
    frames: Annotated[
        int | None,
        typer.Option(
            min=1, help="Frames of a clip, where the model was made for no number; default: 8."
        ),
    ] = None,
    send: SendOption = "auto",
    engine: EngineOption = "local",
    ray_address: RayAddressOption = None,
    actors: ActorsOption = None,
    no_vllm: OwnEngineOption = False,
    *,
    endpoint: EndpointOptions,
    json: JsonOption = False,
) -> None:
    """Let a model answer every question several times: OUT/candidates.jsonl.

    The same command again finishes what is missing.

    Example: [bold]sharegptvideo build candidates --input world --model sft --out loop[/bold]
    """
    from sharegptvideo.build import read_questions, sample_candidates

    options = engine_options(engine, ray_address, actors, no_vllm=no_vllm)
    with progress_bar() as progress:
        make_world(source, progress)
        rows = read_questions(source, split=split, media=media, limit=limit)
        report = sample_candidates(
            rows,
            model,
            out,
            k=k,
            temperature=temperature,
            top_p=top_p,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            seed=seed,
            frames=frames,
            base_url=base_url,
            send=send,
            engine=options,
            endpoint=endpoint,
            progress=progress,
        )
    if report.refused:
        note(f"the endpoint does not take {', '.join(report.refused)}: left out")
    for cause, count in (report.failures or {}).items():
        note(f"failed: {cause} ({count} of {report.n_questions} questions)")
    print_figures(report.as_dict(), as_json=json)
    if report.n_failed == report.n_questions:
        raise typer.Exit(1)


@asks_endpoints
def rewards(
    candidates: Annotated[
        Path, typer.Option("--input", help="Folder or file of `build candidates`.")
    ],
    out: OutOption,
    judge: JudgeOption = None,
    panel: PanelOption = None,
    base_url: UrlOption = None,
    engine: EngineOption = "local",
    ray_address: RayAddressOption = None,
    actors: ActorsOption = None,
    *,
    endpoint: EndpointOptions,
    json: JsonOption = False,
) -> None:
    """Score the candidates 1 to 5 by caption, question and reference: OUT/rewards.jsonl.

    The same command again finishes what is missing; no verdict is paid for twice.

    Example: [bold]sharegptvideo build rewards --input loop --judge answer-match --out loop[/bold]
    """
    from sharegptvideo.build import score_candidates
    from sharegptvideo.judges import JudgeChoice

    options = engine_options(engine, ray_address, actors)
    with progress_bar() as progress:
        report = score_candidates(
            candidates,
            JudgeChoice(judge_name(judge, panel), base_url),
            out,
            engine=options,
            endpoint=endpoint,
            progress=progress,
        )
    for reason, count in (report.reasons or {}).items():
        note(f"unscored: {reason} ({count} of {report.n_distinct} answers)")
    print_figures(report.as_dict(), as_json=json)
    if not report.n_scored:
        raise typer.Exit(1)


def preferences(
    rewards: Annotated[Path, typer.Option("--input", help="Folder or file of `build rewards`.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")],
    threshold: Annotated[float, typer.Option(help="Lowest acceptable score.")] = 3.0,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Pair an acceptable with an unacceptable answer of each question, ready for DPO.

    OUT then loads as a dataset: load_dataset("preferences", data_dir=OUT).

    Example: [bold]sharegptvideo build preferences --input loop --out pairs[/bold]
    """
    from sharegptvideo.build import PAIRS_FILE, make_pairs

    report = make_pairs(rewards, out, seed=seed, threshold=threshold)
    note(f"pairs: {out / PAIRS_FILE}; report: {out / 'preferences.json'}")
    print_figures(report.as_dict(), as_json=json)
    if not report.n_pairs:
        note("error: no question has both an acceptable and an unacceptable answer")
        raise typer.Exit(1)
