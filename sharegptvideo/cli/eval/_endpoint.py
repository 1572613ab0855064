"""Options on how endpoints are asked, for every command of `sharegptvideo eval` that asks one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharegptvideo.cli._common import ask, note

if TYPE_CHECKING:
    from sharegptvideo.llm import EndpointOptions

__all__ = [
    "BatchApiOption",
    "ConcurrencyOption",
    "MaxCostOption",
    "NoCacheOption",
    "PricesOption",
    "RpmOption",
    "TpmOption",
    "YesOption",
    "endpoint_options",
]

_PANEL = "Endpoints"

ConcurrencyOption = Annotated[
    int,
    typer.Option(
        "--concurrency",
        min=1,
        help="Calls at once, at most; adapts to what the server bears.",
        rich_help_panel=_PANEL,
    ),
]
RpmOption = Annotated[
    float | None,
    typer.Option("--rpm", help="Requests a minute, for each model.", rich_help_panel=_PANEL),
]
TpmOption = Annotated[
    float | None,
    typer.Option("--tpm", help="Tokens a minute, for each model.", rich_help_panel=_PANEL),
]
MaxCostOption = Annotated[
    float | None,
    typer.Option(
        "--max-cost",
        help="US dollars. Asks before a run that may cost more, and stops before it does, with"
        " all answers kept.",
        rich_help_panel=_PANEL,
    ),
]
PricesOption = Annotated[
    Path | None,
    typer.Option(
        "--prices", help="Price table (YAML) before the built-in one.", rich_help_panel=_PANEL
    ),
]
YesOption = Annotated[
    bool,
    typer.Option(
        "--yes", help="Do not ask: go on until --max-cost is reached.", rich_help_panel=_PANEL
    ),
]
NoCacheOption = Annotated[
    bool,
    typer.Option(
        "--no-cache",
        help="Ask anew what was asked before, and keep no answers.",
        rich_help_panel=_PANEL,
    ),
]
BatchApiOption = Annotated[
    bool,
    typer.Option(
        "--batch-api",
        help="Verdicts by the endpoint's Batch API: cheaper, within a day.",
        rich_help_panel=_PANEL,
    ),
]


def endpoint_options(
    *,
    concurrency: int,
    rpm: float | None,
    tpm: float | None,
    max_cost: float | None,
    prices: Path | None,
    yes: bool,
    no_cache: bool,
    batch_api: bool,
) -> EndpointOptions:
    """The options as one; whoever sits at a terminal is asked before much money is spent.

    Raises:
        UserError: one of them is no such number, or two exclude each other.
    """
    from sharegptvideo.llm import EndpointOptions

    confirm: Callable[[str], bool] | None = None
    if yes:
        confirm = _agreed
    elif sys.stdin.isatty() and sys.stderr.isatty():
        confirm = _ask
    return EndpointOptions(
        concurrency=concurrency,
        rpm=rpm,
        tpm=tpm,
        max_cost=max_cost,
        prices=prices,
        cache=not no_cache,
        batch_api=batch_api,
        confirm=confirm,
        tell=note,
    )


def _agreed(_: str) -> bool:
    return True


def _ask(question: str) -> bool:
    return ask(f"{question}. Go on?")
