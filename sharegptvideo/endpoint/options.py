"""The endpoint and how it is used: address, key, speed, money, cache."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from sharegptvideo._text import dollars
from sharegptvideo.endpoint.budget import Budget, Estimate
from sharegptvideo.endpoint.cache import default_cache_file
from sharegptvideo.endpoint.limits import Clock, LimitRules, Limits
from sharegptvideo.endpoint.store import ReplyStore
from sharegptvideo.errors import UserError

__all__ = [
    "Clock",
    "Endpoint",
    "EndpointOptions",
    "find_endpoint",
    "hide_key",
    "is_key",
    "without_key",
]

_OPENAI = "https://api.openai.com/v1"
# Local servers want no key, but the protocol wants the header.
_NO_KEY = "none"
# Seconds of a typical answer, before one has come.
_TYPICAL_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A base URL and its key; the key never shows in a repr or a record."""

    base_url: str
    api_key: str = field(repr=False)


def find_endpoint(base_url: str | None = None) -> Endpoint:
    """Return the endpoint to use: `base_url`, else OPENAI_BASE_URL, else OpenAI's with a key.

    Raises:
        UserError: neither an address nor a key is set; the address is not http(s)://HOST, or holds
            a password; the key cannot be sent. None of them shows the key.
    """
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    address = (base_url or os.environ.get("OPENAI_BASE_URL", "")).strip()
    if not address:
        if not key:
            raise UserError(
                "no endpoint: give --base-url or set OPENAI_BASE_URL (and OPENAI_API_KEY, if the"
                " server wants one)"
            )
        address = _OPENAI
    if any(not "!" <= character <= "~" for character in key):
        raise UserError("OPENAI_API_KEY holds a character that no key has; copy it again")
    try:
        parts = urlsplit(address)
        whole = parts.scheme in {"http", "https"} and bool(parts.hostname)
        secret = bool(parts.username or parts.password or parts.query or parts.fragment)
    except ValueError:  # a bracket that opens an IPv6 address and none that closes it
        whole = secret = False
    if secret:
        # The address is written into records; what follows @ or ? may be a secret.
        raise UserError(
            "the endpoint's address holds more than http://HOST:PORT/v1; a key belongs into"
            " OPENAI_API_KEY"
        )
    if not whole:
        raise UserError(f"endpoint {address!r}: write it as http://HOST:PORT/v1")
    return Endpoint(address.rstrip("/"), key or _NO_KEY)


def hide_key(text: str, endpoint: Endpoint) -> str:
    """Return `text` without the endpoint's key.

    >>> hide_key("no key sk-123", Endpoint("http://a", "sk-123"))
    'no key (the key)'
    """
    key = endpoint.api_key
    return text if key == _NO_KEY else text.replace(key, "(the key)")


def is_key(endpoint: Endpoint) -> bool:
    """Return whether the endpoint's key is a secret, and no word such as `none` or `EMPTY`.

    >>> is_key(Endpoint("http://a", "EMPTY")), is_key(Endpoint("http://a", "sk-123"))
    (False, True)
    """
    key = endpoint.api_key
    odd = any(character.isdigit() for character in key)
    return key.startswith("sk-") or len(key) >= 12 or (len(key) >= 8 and odd)


def without_key(text: str, endpoint: Endpoint) -> str:
    """Return a model's words without the endpoint's key, where it is one (`is_key`)."""
    return hide_key(text, endpoint) if is_key(endpoint) else text


@dataclass(frozen=True, slots=True)
class EndpointOptions:
    """Limits, cache and budget that all clients opened with it share.

    Attributes:
        concurrency: calls under way at once, at the most; how many there are adapts.
        rpm: requests a minute, for each model.
        tpm: tokens a minute, for each model.
        max_cost: US dollars that all clients with these options may spend together.
        prices: a table that is read before the built-in one; see prices.yaml.
        cache: the file that keeps answers; True: the usual one; False: none.
        store: where all replies go that have a key, before their caller has them; read before the
            cache.
        batch_api: verdicts through the Batch API: cheaper, within a day.
        max_reply_bytes: size of a reply, unpacked, from which on it is given up.
        confirm: asked, with the estimate as a line, before a run that may cross `max_cost`;
            None: such a run is refused.
        report: called with lines for the user: the estimate, the state of a batch.
        budget: what they have spent so far.
        clock: what waits before new attempts go by.
        known_as: what stands for the address in the keys of replies and in a judge's description,
            for a server that is at another address each time; None: the address does.
        limits: gives what all calls of a model share, by the model's name and address, where other
            processes share it too; money is then counted there and not in `budget`. None: this
            process alone keeps to the numbers above.
    """

    concurrency: int = 32
    rpm: float | None = None
    tpm: float | None = None
    max_cost: float | None = None
    prices: Path | None = None
    cache: bool | Path = True
    store: ReplyStore | None = field(default=None, compare=False, repr=False)
    batch_api: bool = False
    max_reply_bytes: int = 16 << 20
    confirm: Callable[[str], bool] | None = field(default=None, compare=False, repr=False)
    report: Callable[[str], None] | None = field(default=None, compare=False, repr=False)
    budget: Budget = field(default_factory=Budget, compare=False, repr=False)
    clock: Clock = field(default_factory=Clock, compare=False, repr=False)
    known_as: str | None = None
    limits: Callable[[str], Limits] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            UserError: a number that is none, or a batch without a cache to keep track of it.
        """
        if self.concurrency < 1:
            raise UserError(f"concurrency {self.concurrency}: must be at least 1")
        for name, value in (("rpm", self.rpm), ("tpm", self.tpm)):
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"{name} {value}: must be a number above 0")
        if self.max_cost is not None and not 0 <= self.max_cost < math.inf:
            raise UserError(f"max-cost {self.max_cost}: must be a number of at least 0")
        if self.batch_api and not self.cache:
            raise UserError("the Batch API keeps track in the cache; remove --no-cache")
        if self.batch_api and self.limits is not None:
            raise UserError("the Batch API is for one process; leave --batch-api out")

    @property
    def rules(self) -> LimitRules:
        """Return the numbers that `SharedLimits` keeps to."""
        return LimitRules(self.concurrency, self.rpm, self.tpm, self.max_cost)

    @property
    def cache_file(self) -> Path | None:
        """Return the file that keeps answers, or None."""
        if isinstance(self.cache, Path):
            return self.cache
        return default_cache_file() if self.cache else None

    def seconds_of(self, requests: int, tokens: float) -> float:
        """Return how long so many requests take by the limits, before any has been answered."""
        return max(
            requests * _TYPICAL_SECONDS / self.concurrency,
            requests * 60 / self.rpm if self.rpm else 0.0,
            tokens * 60 / self.tpm if self.tpm else 0.0,
        )

    def approve(self, estimate: Estimate) -> None:
        """Report an estimate, and ask for confirmation where it may cost more than is left.

        Raises:
            UserError: the answer was no, or no `confirm` is set.
        """
        if not estimate.requests:
            return
        if self.report:
            self.report(f"ahead: {estimate}")
        if self.max_cost is None or estimate.cost is None:
            return
        left = self.max_cost - self.budget.spent
        if estimate.cost <= left:
            return
        question = f"{estimate}; this is above --max-cost {dollars(self.max_cost)}"
        if self.confirm is None:
            raise UserError(f"{question}: raise it, or give --yes to go on until it is reached")
        if not self.confirm(f"{question}, where it will stop"):
            raise UserError("not confirmed, so nothing was asked", exit_code=1)
