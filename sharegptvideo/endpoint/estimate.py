"""How much work, money and time lie ahead: rough, from the length of texts, before the first call.

Tokens are guessed as UTF-8 bytes / 4 (English in today's tokenizers: 4 to 4.5); the most they can
be is one for each byte, since such tokenizers fall back to single bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sharegptvideo._text import magnitude, rough_duration
from sharegptvideo.endpoint.budget import dollars
from sharegptvideo.endpoint.prices import Price

__all__ = ["Estimate", "Size", "measure"]

_BYTES_PER_TOKEN = 4.0
# Marks of turns around a message, and a name before it.
_PER_MESSAGE = 8
# A verdict with its explanation, or a full answer; most models stop well before they have to.
_USUAL_ANSWER = 120


@dataclass(frozen=True, slots=True)
class Size:
    """Of one request: bytes of text (UTF-8), messages, pictures, and tokens allowed as answer."""

    text: int
    messages: int
    pictures: int
    allowed: int

    def usual(self, image_tokens: int) -> tuple[float, float]:
        """(prompt, answer) tokens as they mostly are."""
        prompt = self.text / _BYTES_PER_TOKEN + self.messages * _PER_MESSAGE
        return prompt + self.pictures * image_tokens, min(self.allowed, _USUAL_ANSWER)

    def most(self, image_tokens: int) -> tuple[float, float]:
        """(prompt, answer) tokens that they cannot exceed."""
        prompt = self.text + self.messages * _PER_MESSAGE + self.pictures * image_tokens
        return prompt, self.allowed


def measure(body: Mapping[str, Any]) -> Size:
    """The size of a request: of its messages, and of the schema sent along, which counts too."""
    text = pictures = 0
    messages: Sequence[Mapping[str, Any]] = body["messages"]
    for message in messages:
        content = message.get("content")
        parts = content if isinstance(content, list) else [{"text": content or ""}]
        for part in parts:
            if "text" in part:
                text += len(str(part["text"]).encode("utf-8", "surrogatepass"))
            else:
                pictures += 1
    if "response_format" in body:
        text += len(str(body["response_format"]).encode())
    return Size(text, len(messages), pictures, int(body["max_tokens"]))


@dataclass(frozen=True, slots=True)
class Estimate:
    """Requests still to be sent, answers in the cache, tokens, US dollars (None: no price), time.

    `priced` names the table's date where there is one.
    """

    requests: int = 0
    cached: int = 0
    tokens: float = 0.0
    cost: float | None = 0.0
    seconds: float = 0.0
    priced: str | None = None

    def __add__(self, other: Estimate) -> Estimate:
        """Both, one after the other."""
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
        """One line."""
        kept = f" ({self.cached:,} more are in the cache)" if self.cached else ""
        money = "price unknown"
        if self.cost is not None:
            dated = f" at prices of {self.priced}" if self.priced and self.cost else ""
            money = f"about {dollars(self.cost)}{dated}"
        return (
            f"{self.requests:,} requests{kept}, about {magnitude(self.tokens, 2)} tokens,"
            f" {money}, about {rough_duration(self.seconds)}"
        )


def price_of(size: Size, price: Price | None, *, batch: bool = False) -> float | None:
    """US dollars that a request mostly costs; None without a price."""
    if price is None:
        return None
    return price.of(*size.usual(price.image_tokens), batch=batch)
