"""Options on how endpoints are asked, for every command that asks one."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from sharegptvideo.cli._common import ask, note

__all__ = ["MaxCostOption", "YesOption", "asks_endpoints", "confirmation"]

_option = partial(typer.Option, rich_help_panel="Endpoints")

_Concurrency = Annotated[
    int, _option("--concurrency", min=1, help="Calls at once, at most; adapts to the server.")
]
_Rpm = Annotated[float | None, _option("--rpm", help="Requests a minute, for each model.")]
_Tpm = Annotated[float | None, _option("--tpm", help="Tokens a minute, for each model.")]
MaxCostOption = Annotated[
    float | None,
    _option(
        "--max-cost",
        help="US dollars. Asks before a run that may cost more, and stops before it does, with"
        " all answers kept.",
    ),
]
_Prices = Annotated[
    Path | None, _option("--prices", help="Price table (YAML) before the built-in one.")
]
YesOption = Annotated[bool, _option("--yes", help="Do not ask: go on until --max-cost is reached.")]
_NoCache = Annotated[
    bool, _option("--no-cache", help="Ask anew what was asked before, and keep no answers.")
]
_BatchApi = Annotated[
    bool,
    _option("--batch-api", help="Verdicts by the endpoint's Batch API: cheaper, within a day."),
]


def asks_endpoints(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options above, and hand it what they say as its argument `endpoint`."""
    # Known to type checkers only, since its module is heavy; not an option of the command line.
    del command.__annotations__["endpoint"]
    own = inspect.signature(command, eval_str=True).parameters
    added = inspect.signature(_endpoint_options, eval_str=True).parameters

    @wraps(command)
    def asking(**given: Any) -> None:
        options = {name: given.pop(name) for name in added}
        command(endpoint=_endpoint_options(**options), **given)

    *others, last = (each for name, each in own.items() if name != "endpoint")  # last: --json
    parameters = [each.replace(kind=each.KEYWORD_ONLY) for each in (*others, *added.values(), last)]
    asking.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # typer's way
    asking.__annotations__ = {each.name: each.annotation for each in parameters}
    return asking


def _endpoint_options(
    *,
    concurrency: _Concurrency = 32,
    rpm: _Rpm = None,
    tpm: _Tpm = None,
    max_cost: MaxCostOption = None,
    prices: _Prices = None,
    yes: YesOption = False,
    no_cache: _NoCache = False,
    batch_api: _BatchApi = False,
) -> Any:
    """Return the options as one object; at a terminal, the user is asked before much is spent.

    Raises:
        UserError: one of them is no such number, or two exclude each other.
    """
    from sharegptvideo.endpoint import EndpointOptions

    return EndpointOptions(
        concurrency=concurrency,
        rpm=rpm,
        tpm=tpm,
        max_cost=max_cost,
        prices=prices,
        cache=not no_cache,
        batch_api=batch_api,
        confirm=confirmation(yes=yes),
        report=note,
    )


def confirmation(*, yes: bool) -> Callable[[str], bool] | None:
    """Return what agrees before much is spent: --yes, the user at a terminal; None without."""
    if yes:
        return _agreed
    return _ask if sys.stdin.isatty() and sys.stderr.isatty() else None


def _agreed(_: str) -> bool:
    return True


def _ask(question: str) -> bool:
    return ask(f"{question}. Go on?")
