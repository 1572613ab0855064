"""Money: what a model costs, what work will cost, and what it has cost, up to a limit.

Prices are US dollars from a dated table; a user's own table is read first. Estimates come from the
length of texts: tokens are guessed as UTF-8 bytes / 4 (English in today's tokenizers: 4 to 4.5),
and can be one for each byte at most, since such tokenizers fall back to single bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, ValidationError

from sharegptvideo._io import parse_yaml, read_text
from sharegptvideo._strict import StrictModel
from sharegptvideo._text import dollars, magnitude, rough_duration
from sharegptvideo.endpoint.server_errors import BudgetError
from sharegptvideo.errors import UserError, field_problems

__all__ = ["Budget", "Estimate", "Price", "Size", "find_price", "measure"]

# Where the table does not say: as most models cut a picture of 768 pixels.
_IMAGE_TOKENS = 1600
_BYTES_PER_TOKEN = 4.0
# Marks of turns around a message, and a name before it.
_PER_MESSAGE = 8
# A verdict with its explanation, or a full answer; most models stop well before they have to.
_TYPICAL_ANSWER = 120


class Budget:
    """Requests, tokens and US dollars of all clients that share it; safe for threads.

    Attributes:
        spent: US dollars.
        requests: calls that were answered and counted.
        cached: answers that came from the cache.
        tokens: tokens of the counted calls.
    """

    def __init__(self) -> None:
        self.spent = 0.0
        self.requests = 0
        self.cached = 0
        self.tokens = 0
        self._reserved: list[float] = []
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._lock = threading.Lock()

    async def reserve(self, amount: float, most: float | None) -> None:
        """Set `amount` dollars aside, the most that a call can cost, before it is sent.

        Where they would cross `most`, waits for calls under way, which mostly cost less than was
        set aside for them.

        Raises:
            BudgetError: nothing is under way, and they would still cross it.
        """
        while True:
            with self._lock:
                together = self.spent + sum(self._reserved) + amount
                if most is None or together <= most:
                    self._reserved.append(amount)
                    return
                if not self._reserved:
                    raise BudgetError(
                        f"stopped before --max-cost {dollars(most)}: {dollars(self.spent)} spent,"
                        f" and one more call could cost {dollars(amount)}; all answers that were"
                        " paid for are kept: raise --max-cost and run again to go on"
                    )
                turn = asyncio.get_running_loop().create_future()
                self._waiting.append(turn)
            await turn

    def commit(
        self, reserved: float | None, cost: float, tokens: int = 0, *, requests: int = 1
    ) -> None:
        """Replace what was set aside for a call, None for nothing, by what it cost."""
        with self._lock:
            if reserved is not None:
                self._reserved.remove(reserved)
            self.spent += cost
            self.tokens += tokens
            self.requests += requests
            waiting, self._waiting = self._waiting, deque()
        for turn in waiting:
            with contextlib.suppress(RuntimeError):  # its loop has ended
                turn.get_loop().call_soon_threadsafe(_wake, turn)

    def count_cached(self) -> None:
        """Count an answer from the cache."""
        with self._lock:
            self.cached += 1


def _wake(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per token; `batch` is the share of it under the Batch API; `date` of the table."""

    prompt: float
    completion: float
    image_tokens: int
    batch: float
    date: str

    def of(self, prompt_tokens: float, completion_tokens: float, *, batch: bool = False) -> float:
        """Return the US dollars that a call costs."""
        cost = prompt_tokens * self.prompt + completion_tokens * self.completion
        return cost * self.batch if batch else cost


class _Entry(StrictModel):
    """US dollars per million tokens."""

    prompt: float = Field(ge=0)
    completion: float = Field(ge=0)
    image_tokens: int = Field(default=_IMAGE_TOKENS, ge=0)


class _Table(StrictModel):
    date: datetime.date
    batch: float = Field(default=0.5, ge=0, le=1)
    hosts: dict[str, dict[str, _Entry]]

    def find(self, host: str, model: str) -> Price | None:
        """Return the price of the entry whose name fits and is longest."""
        entries = self.hosts.get(host, {})
        fitting = [
            name
            for name in entries
            if name == model or (name.endswith("*") and model.startswith(name[:-1]))
        ]
        if not fitting:
            return None
        entry = entries[max(fitting, key=lambda name: (name == model, len(name)))]
        return Price(
            prompt=entry.prompt / 1e6,
            completion=entry.completion / 1e6,
            image_tokens=entry.image_tokens,
            batch=self.batch,
            date=self.date.isoformat(),
        )


def find_price(base_url: str, model: str, file: Path | None = None) -> Price | None:
    """Return the price of `model` at an endpoint, from `file` or else the built-in table.

    Raises:
        UserError: `file` cannot be read, or is no such table; says where.
    """
    host = urlsplit(base_url).hostname or ""
    for table in ([_read(file)] if file else []) + [_builtin()]:
        price = table.find(host, model)
        if price is not None:
            return price
    return None


@cache
def _builtin() -> _Table:
    text = (resources.files(__package__) / "prices.yaml").read_text(encoding="utf-8")
    return _Table.model_validate(parse_yaml("prices.yaml", text))


def _read(file: Path) -> _Table:
    text = read_text(file, "name another file as --prices")
    try:
        return _Table.model_validate(parse_yaml(str(file), text))
    except ValidationError as error:
        causes = "; ".join(field_problems(error, "the file")[:5])
        raise UserError(
            f"{file}: no price table ({causes}); write date: YYYY-MM-DD and"
            " hosts: {HOST: {MODEL: {prompt: 1.0, completion: 2.0}}}"
        ) from error


@dataclass(frozen=True, slots=True)
class Size:
    """What a request holds: UTF-8 bytes of text, messages, pictures, allowed answer tokens."""

    text: int
    messages: int
    pictures: int
    allowed: int

    def typical(self, image_tokens: int) -> tuple[float, float]:
        """Return the (prompt, answer) tokens of a typical call."""
        prompt = self.text / _BYTES_PER_TOKEN + self.messages * _PER_MESSAGE
        return prompt + self.pictures * image_tokens, min(self.allowed, _TYPICAL_ANSWER)

    def most(self, image_tokens: int) -> tuple[float, float]:
        """Return the (prompt, answer) tokens that a call cannot exceed."""
        prompt = self.text + self.messages * _PER_MESSAGE + self.pictures * image_tokens
        return prompt, self.allowed


def measure(body: Mapping[str, Any]) -> Size:
    """Return the size of a request: its messages, and the schema sent along, which counts too."""
    text = pictures = 0
    messages: Sequence[Mapping[str, Any]] = body["messages"]
    for message in messages:
        content = message.get("content")
        parts: list[Any] = content if isinstance(content, list) else [{"text": content or ""}]
        for part in parts:
            if "text" in part:
                text += len(str(part["text"]).encode("utf-8", "surrogatepass"))
            elif part.get("type") == "video_url":  # as many frames as commas in the data
                pictures += str(part["video_url"]["url"]).count(",")
            else:
                pictures += 1
    if "response_format" in body:
        text += len(str(body["response_format"]).encode())
    return Size(text, len(messages), pictures, int(body["max_tokens"]))


@dataclass(frozen=True, slots=True)
class Estimate:
    """Requests still to send, answers in the cache, tokens, US dollars and seconds of some work.

    `cost` is None without a price; `priced` is the date of the price table, if there is one.
    """

    requests: int = 0
    cached: int = 0
    tokens: float = 0.0
    cost: float | None = 0.0
    seconds: float = 0.0
    priced: str | None = None

    def __add__(self, other: Estimate) -> Estimate:
        """Return the sum of both."""
        known = self.cost is not None and other.cost is not None
        return Estimate(
            self.requests + other.requests,
            self.cached + other.cached,
            self.tokens + other.tokens,
            (self.cost or 0.0) + (other.cost or 0.0) if known else None,
            self.seconds + other.seconds,
            self.priced or other.priced,
        )

    def __str__(self) -> str:
        """Return the estimate as one line."""
        kept = f" ({self.cached:,} more are in the cache)" if self.cached else ""
        money = "price unknown"
        if self.cost is not None:
            dated = f" at prices of {self.priced}" if self.priced and self.cost else ""
            money = f"about {dollars(self.cost)}{dated}"
        return (
            f"{self.requests:,} requests{kept}, about {magnitude(self.tokens, 2)} tokens,"
            f" {money}, about {rough_duration(self.seconds)}"
        )
