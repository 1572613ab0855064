"""What can go wrong with a call: errors to retry, errors that are permanent, and their causes."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sharegptvideo._text import shortened
from sharegptvideo.errors import UserError

if TYPE_CHECKING:
    from openai import APIStatusError

__all__ = [
    "LONGEST_WAIT",
    "BudgetError",
    "CallFailedError",
    "EndpointError",
    "NoCompletionError",
    "ReplyTooLargeError",
    "ServerSaidError",
    "connection_cause",
    "is_overload",
    "is_retryable",
    "is_timeout",
    "is_unsupported",
    "may_be_of_one_text",
    "message_of",
    "permanent_error_hint",
    "refused_parameter",
    "retry_after",
    "shorten",
]

LONGEST_WAIT = 120.0

_RETRYABLE = frozenset({408, 409, 425, 429})
_OVERLOADED = frozenset({429, 503, 529})
# Servers say with a 400 as well what others say with 401, 402 or 404.
_NO_CREDIT = re.compile(
    r"insufficient_quota|insufficient_user_quota|billing_hard_limit|credit balance is too low"
    r"|insufficient (credit|balance|fund)"
)
_BAD_KEY = re.compile(
    r"invalid_api_key|(incorrect|invalid) api key|api key (is )?(not valid|invalid|expired)"
)
_NO_MODEL = re.compile(
    r"model_(not_found|decommissioned|deprecated|retired)|deploymentnotfound"
    r"|\bmodel\b.{0,80}\b(has been (deprecated|decommissioned|retired|shut down|removed)"
    r"|does not exist|is no longer (available|supported|served))"
)


class EndpointError(UserError):
    """The endpoint cannot be used at all; every further call would fail too."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        """`status`: the HTTP status that said so, None where no answer did."""
        super().__init__(message, exit_code=1)
        self.status = status


class BudgetError(EndpointError):
    """The money is spent; calls under way are paid for and should be left to finish."""


class CallFailedError(Exception):
    """One call failed after all attempts; others may succeed.

    Attributes:
        attempts: requests that were sent.
        dollars: US dollars that they may have cost; None where no price is known.
    """

    attempts: int = 0
    dollars: float | None = None

    def __init__(self, message: str | None, *, status: int | None = None) -> None:
        """`status`: the HTTP status of a refusal that another attempt would meet too."""
        super().__init__(message)
        self.status = status


class NoCompletionError(Exception):
    """What came back is not a chat completion; another try may get one."""


class ReplyTooLargeError(Exception):
    """What came back is larger than any reply, or nested deeper."""


class ServerSaidError(Exception):
    """An error that stands in a reply with status 200."""

    def __init__(self, error: Mapping[str, object]) -> None:
        """`error`: `message`, and where the server gives them `code`, `status`, `type`."""
        super().__init__("the server reports an error")
        self.error = error

    @property
    def status(self) -> int:
        """The HTTP status that goes with it; 500 where it says too little."""
        for name in ("code", "status", "status_code"):
            value = str(self.error.get(name, ""))
            if re.fullmatch("[45][0-9][0-9]", value):
                return int(value)
        said = " ".join(str(self.error.get(name)) for name in ("code", "type", "status", "message"))
        words = re.sub("[_-]", " ", said.lower())
        return next((status for pattern, status in _STATUS if re.search(pattern, words)), 500)


# By what errors are called where they have no number.
_STATUS = (
    (r"insufficient (user )?quota|insufficient (credit|balance|fund)|payment required", 402),
    (r"rate limit|request limit|too many requests|resource exhausted|quota|throttl", 429),
    (r"overload|unavailable|capacity", 503),
    (r"authenticat|unauthori|invalid api key", 401),
    (r"permission|forbidden", 403),
    (r"model not found|no such model", 404),
    (r"invalid|bad request|context length|too long|content policy|moderation", 400),
)


def permanent_error_hint(error: APIStatusError) -> str | None:
    """Return the fix of an error that every further call would end with; None for all others."""
    text = message_of(error).lower()
    if error.status_code == 402 or _NO_CREDIT.search(text):
        return "the account has no credit left"
    if error.status_code == 401 or (error.status_code == 400 and _BAD_KEY.search(text)):
        return "set OPENAI_API_KEY to a key it takes"
    if error.status_code == 403:
        return "the key may not use this model"
    if 300 <= error.status_code < 400:
        return "it sends calls elsewhere; fix --base-url"
    if error.status_code == 407:
        return "the proxy wants a name and a password"
    if error.status_code in {404, 410} or (error.status_code == 400 and _NO_MODEL.search(text)):
        return "it has no such model (any more), or the address lacks its /v1"
    return None


def may_be_of_one_text(error: APIStatusError) -> bool:
    """Return whether a permanent error may be about what one text says, such as its echo."""
    if error.status_code == 400:
        return not _NO_CREDIT.search(message_of(error).lower())
    return error.status_code == 403


def is_retryable(error: APIStatusError) -> bool:
    """Return whether the same call may go well later."""
    return error.status_code in _RETRYABLE or error.status_code >= 500


def is_overload(error: APIStatusError) -> bool:
    """Return whether the server asks for fewer calls."""
    return error.status_code in _OVERLOADED


def refused_parameter(error: APIStatusError, sent: Mapping[str, object]) -> str | None:
    """Return the parameter that a 400 or 422 refuses; None if it refuses something else."""
    if error.status_code not in {400, 422}:
        return None
    text = message_of(error).lower()
    if "context" in text or "too long" in text:
        return None  # of this text, not of a parameter
    names = (
        "max_completion_tokens",
        "max_tokens",
        "temperature",
        "response_format",
        "top_p",
        "top_k",
        "repetition_penalty",
        "seed",
        "media_io_kwargs",
        "mm_processor_kwargs",
    )
    present = [name for name in names if name in sent]
    # "use max_completion_tokens instead of max_tokens": the one that was sent is refused.
    named = [name for name in present if name in text.replace("'", "").replace("`", "")]
    if not named and "response_format" in sent and ("schema" in text or "json" in text):
        named = ["response_format"]
    return named[0] if named else None


_UNSUPPORTED = re.compile(
    r"support|unknown|unrecogni[sz]ed|unexpected (keyword|field)|not (allowed|permitted|available"
    r"|implemented|accepted|enabled)|instead of|knows no|deprecated|extra (inputs|fields)"
    r"|does not (take|accept|know|allow)|invalid (parameter|argument|value|type)|must be"
)


def is_unsupported(error: APIStatusError) -> bool:
    """Return whether a 400 is about what the server takes at all, not about this one text."""
    return bool(_UNSUPPORTED.search(message_of(error).lower()))


# Where servers of their own kind say what went wrong.
WORDS = ("message", "msg", "detail", "error_msg", "error_message")


def message_of(error: APIStatusError) -> str:
    """Return what the server said, with its code and the parameter it names."""
    body: object = error.body
    if isinstance(body, list) and body:  # as Google's servers send errors
        body = body[0]
    if isinstance(body, Mapping) and isinstance(body.get("error"), Mapping | str):
        body = body["error"]
    if isinstance(body, str) and body.strip() and not body.lstrip().startswith("<"):
        return body.strip()
    if isinstance(body, Mapping):
        words = next((body[name] for name in WORDS if body.get(name)), None)
        parts = [str(words)] if words else []
        parts += [
            str(each)
            for name in ("code", "param")
            if isinstance(each := body.get(name), str | int) and each
        ]
        if parts:
            return " ".join(parts)
    return str(error.message)


def shorten(text: str) -> str:
    """Return the text as one line of at most 160 characters."""
    return shortened(" ".join(text.split()), 160)


def is_timeout(error: BaseException) -> bool:
    """Return whether the server took the call and gave no answer in time."""
    return "Timeout" in type(error).__name__ or "Timeout" in type(_innermost(error)).__name__


def connection_cause(error: BaseException) -> str:
    """Say in a few words why no answer came."""
    inner = _innermost(error)
    if isinstance(inner, ReplyTooLargeError):
        return str(inner)
    if is_timeout(error):
        return "no answer in time"
    if isinstance(inner, ConnectionRefusedError) or "connection attempts failed" in str(inner):
        return "connection refused"
    return f"connection failed ({shorten(str(inner)) or type(inner).__name__})"


def _innermost(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def retry_after(error: APIStatusError) -> float:
    """Return the seconds of a Retry-After header (a number or a date), bounded; 0 without one.

    Some servers send milliseconds beside it or alone, as Retry-After-Ms.
    """
    headers = error.response.headers
    value, unit = headers.get("retry-after", "").strip(), 1.0
    if not value:
        value, unit = headers.get("retry-after-ms", "").strip(), 0.001
    try:
        seconds = float(value) * unit
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return min(max(seconds, 0.0), LONGEST_WAIT) if seconds == seconds else 0.0
