"""Chat messages: the pictures that are sent, and the completion that comes back."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sharegptvideo.endpoint.server_errors import NoCompletionError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "LONGEST_SIDE",
    "QUALITY",
    "Message",
    "Reply",
    "frame_urls",
    "read_reply",
    "with_pictures",
]

Message = Mapping[str, Any]
"""One message: `role`, and `content` as a text or a list of text and image parts."""

QUALITY = 90
LONGEST_SIDE = 768


def frame_urls(frames: NDArray[np.uint8]) -> list[str]:
    """Encode frames (n×H×W×3, RGB) as JPEG data URLs, the longest side at most 768 pixels."""
    from PIL import Image

    urls = []
    for frame in frames:
        picture = Image.fromarray(frame)
        picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        buffer = io.BytesIO()
        picture.save(buffer, format="JPEG", quality=QUALITY)
        urls.append(f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}")
    return urls


def with_pictures(text: str, urls: list[str]) -> list[dict[str, Any]]:
    """Return the content of a message: the pictures in order, then the text."""
    pictures = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [*pictures, {"type": "text", "text": text}]


@dataclass(frozen=True, slots=True)
class Reply:
    """One completion: its text ("" if the model gave none), who answered, and what it took.

    `tokens` are all that were counted, `completion_tokens` those of the answer (reasoning that is
    not shown included). `cached` says that it was paid for earlier and comes from the cache.
    """

    text: str
    model: str
    fingerprint: str | None
    finish_reason: str | None
    tokens: int
    completion_tokens: int = 0
    cached: bool = False


def read_reply(completion: Any, model: str) -> Reply:
    """Read the first choice of a chat completion, given as parsed JSON.

    Args:
        completion: the server's answer.
        model: the model that was asked, for servers that do not name the one that answered.

    Raises:
        NoCompletionError: it is something else.
    """
    choices = completion.get("choices") if isinstance(completion, Mapping) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(choice, Mapping) or not isinstance(message, Mapping):
        raise NoCompletionError("the reply is no chat completion")
    text, reason = message.get("content"), choice.get("finish_reason")
    fingerprint = completion.get("system_fingerprint")
    usage = completion.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    return Reply(
        text=text if isinstance(text, str) else "",
        model=str(completion.get("model") or model),
        fingerprint=fingerprint if isinstance(fingerprint, str) else None,
        finish_reason=reason if isinstance(reason, str) else None,
        tokens=_count(usage.get("total_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
    )


def _count(value: Any) -> int:
    is_count = isinstance(value, int | float) and 0 <= value < 1e12
    return int(value) if is_count else 0
