"""How an endpoint is used: how fast, for how much money, with which cache."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sharegptvideo.endpoint.budget import Meter, dollars
from sharegptvideo.endpoint.cache import default_cache_file
from sharegptvideo.endpoint.estimate import Estimate
from sharegptvideo.errors import UserError

__all__ = ["EndpointOptions"]


@dataclass(frozen=True, slots=True)
class EndpointOptions:
    """What holds for all clients opened with it together.

    Attributes:
        concurrency: calls under way at once, at the most; how many there are adapts.
        rpm: requests a minute, for each model.
        tpm: tokens a minute, for each model.
        max_cost: US dollars that all clients with these options may spend together.
        prices: a table that goes before the one that comes along; see prices.yaml.
        cache: the file that keeps answers; True: the usual one; False: none.
        batch_api: verdicts through the Batch API: cheaper, within a day.
        confirm: asked, with the estimate as a line, before a run that may cross `max_cost`;
            None: such a run is refused.
        tell: gets lines for the user: the estimate, how a batch is doing.
        meter: what they have spent so far.
    """

    concurrency: int = 32
    rpm: float | None = None
    tpm: float | None = None
    max_cost: float | None = None
    prices: Path | None = None
    cache: bool | Path = True
    batch_api: bool = False
    confirm: Callable[[str], bool] | None = field(default=None, compare=False, repr=False)
    tell: Callable[[str], None] | None = field(default=None, compare=False, repr=False)
    meter: Meter = field(default_factory=Meter, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Check.

        Raises:
            UserError: a number that is none, or a batch without a cache to keep track of it.
        """
        if self.concurrency < 1:
            raise UserError(f"concurrency {self.concurrency}: has to be 1 or more")
        for name in ("rpm", "tpm", "max_cost"):
            value = getattr(self, name)
            lowest = 0 if name == "max_cost" else math.ulp(0.0)
            if value is not None and not (lowest <= value < math.inf):
                least = "0 or more" if name == "max_cost" else "above 0"
                raise UserError(f"{name.replace('_', '-')} {value}: has to be a number {least}")
        if self.batch_api and not self.cache:
            raise UserError("the Batch API keeps track in the cache: take --no-cache away")

    @property
    def cache_file(self) -> Path | None:
        """Where answers are kept; None: nowhere."""
        if isinstance(self.cache, Path):
            return self.cache
        return default_cache_file() if self.cache else None

    def approve(self, estimate: Estimate) -> None:
        """Tell what is ahead; where it may cost more than is left, ask.

        Raises:
            UserError: the answer was no, or there is nobody to ask.
        """
        if not estimate.requests:
            return
        if self.tell:
            self.tell(f"ahead: {estimate}")
        if self.max_cost is None or estimate.cost is None:
            return
        left = self.max_cost - self.meter.spent
        if estimate.cost <= left:
            return
        question = f"{estimate}; this is above --max-cost {dollars(self.max_cost)}"
        if self.confirm is None:
            raise UserError(f"{question}: raise it, or give --yes to go on until it is reached")
        if not self.confirm(f"{question}, where it will stop"):
            raise UserError("not confirmed, so nothing was asked", exit_code=1)
