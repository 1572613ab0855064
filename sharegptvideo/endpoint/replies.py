"""What a server answers, read into one small record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sharegptvideo.endpoint.faults import NoCompletionError

__all__ = ["Message", "Reply", "read_reply"]

Message = Mapping[str, Any]
"""One message: `role`, and `content` as a text or a list of text and image parts."""


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


def read_reply(found: Any, asked: str) -> Reply:
    """The first choice of a chat completion as parsed from JSON; `asked` is the model's name.

    Raises:
        NoCompletionError: it is something else.
    """
    choices = found.get("choices") if isinstance(found, Mapping) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(choice, Mapping) or not isinstance(message, Mapping):
        raise NoCompletionError("the reply is no chat completion")
    text, reason = message.get("content"), choice.get("finish_reason")
    fingerprint = found.get("system_fingerprint")
    usage = found.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    return Reply(
        text=text if isinstance(text, str) else "",
        model=str(found.get("model") or asked),
        fingerprint=fingerprint if isinstance(fingerprint, str) else None,
        finish_reason=reason if isinstance(reason, str) else None,
        tokens=_count(usage.get("total_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
    )


def _count(value: Any) -> int:
    whole = isinstance(value, int | float) and 0 <= value < 1e12
    return int(value) if whole else 0
