"""Chat completions from an OpenAI-compatible server, retried where that can help.

Retried, with a wait that doubles and is never shorter than the server's Retry-After: connections
that break, time-outs, 408, 409, 425, 429, 5xx, and replies that are no chat completion. Given up
at once: 401, 403, 404 (no such model or address) and an account without credit, since every
further call would end the same way. A parameter that the server refuses (400, 422) is left out
from then on.
"""

from __future__ import annotations

import asyncio
import email.utils
import functools
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from sharegptvideo.errors import UserError, unknown_name
from sharegptvideo.llm.endpoint import Endpoint, find_endpoint
from sharegptvideo.llm.parallel import in_parallel

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

__all__ = ["CallFailedError", "ChatClient", "EndpointError", "Message", "Reply"]

T = TypeVar("T")
Message = Mapping[str, str]

_HELLO: tuple[Message, ...] = ({"role": "user", "content": "Hi"},)

_RETRIED = frozenset({408, 409, 425, 429})
_LONGEST_WAIT = 120.0
# After so many calls in a row that failed to the last attempt, the server counts as gone.
_PATIENCE = 12


class EndpointError(UserError):
    """The endpoint cannot be used at all; every further call would fail too."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=1)


class CallFailedError(Exception):
    """One call failed for good; others may succeed."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One completion: its text ("" if the model gave none), who answered, and what it cost."""

    text: str
    model: str
    fingerprint: str | None
    finish_reason: str | None
    tokens: int


class ChatClient:
    """Calls one model of one endpoint; for many tasks of one event loop at a time.

    Whoever ends the loop calls `close` in it first (`in_parallel(..., finish=client.close)`).
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        attempts: int = 6,
        first_wait: float = 1.0,
        timeout: float = 180.0,
    ) -> None:
        """Contacts nothing yet, and needs no endpoint until `check` or `complete`.

        Args:
            model: the name the server knows it by.
            base_url: default: OPENAI_BASE_URL.
            attempts: tries per call in all.
            first_wait: seconds before the second try; doubles with each.
            timeout: seconds for one try.
        """
        self.model = model
        self.refused: set[str] = set()
        self._base_url = base_url
        self._attempts = attempts
        self._first_wait = first_wait
        self._timeout = timeout
        self._client: AsyncOpenAI | None = None
        self._not_before = 0.0
        self._failures = 0

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint; see `find_endpoint`."""
        return find_endpoint(self._base_url)

    def check(self) -> None:
        """Find out whether the endpoint answers and knows the model, for a token at the most.

        Raises:
            UserError: no endpoint is set, or (as EndpointError) it does not answer, refuses the
                key, or does not know the model.
        """
        known = self._at_once(self._models)
        if known is not None and self.model in known:
            return
        try:
            self._at_once(functools.partial(self.complete, _HELLO, max_tokens=1))
        except EndpointError as error:
            if known and getattr(error.__cause__, "status_code", None) == 404:
                nearest = unknown_name("model", self.model, known)
                raise EndpointError(f"{self.endpoint.base_url}: {nearest}") from error
            raise
        except CallFailedError:
            # It answered, and did not say that the model is unknown: calls may go well.
            return

    def _at_once(self, call: Callable[[], Awaitable[T]]) -> T:
        found = in_parallel(lambda function: function(), [call], width=1, finish=self.close)
        ((_, result),) = found
        return result

    async def close(self) -> None:
        """Close the connections of the running event loop; the next call opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _models(self) -> list[str] | None:
        """Names of the served models; None where the server does not list them."""
        import openai

        try:
            page = await self._open().with_options(timeout=20).models.list()
            return [model.id for model in page.data or ()]
        except openai.APIConnectionError as error:
            raise self._unreachable(error) from error
        except openai.APIStatusError as error:
            if error.status_code in {401, 403}:
                raise self._hopeless(error) from error
            return None
        except (openai.OpenAIError, ValueError, TypeError, AttributeError):
            # What came is no list of models; many servers have none.
            return None

    async def complete(
        self,
        messages: Sequence[Message],
        *,
        response_format: Mapping[str, Any] | None = None,
        temperature: float = 0.0,
        max_tokens: int = 512,
    ) -> Reply:
        """One completion.

        `response_format`, `temperature` and `max_tokens` are left out if the server refuses them;
        `refused` then names them.

        Raises:
            CallFailedError: this call failed, after all attempts where they could help.
            EndpointError: no call can succeed, or none has for a long time.
        """
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [dict(message) for message in messages],
            "temperature": temperature,
            "max_tokens": max_tokens,
        }
        if response_format is not None:
            body["response_format"] = dict(response_format)
        try:
            reply = await self._attempt(body)
        except CallFailedError as error:
            self._failures += 1
            if self._failures >= _PATIENCE:
                raise EndpointError(
                    f"{self.endpoint.base_url}: {self._failures} calls in a row failed, the last"
                    f" with: {error}; run the same command again to go on"
                ) from error
            raise
        self._failures = 0
        return reply

    async def _attempt(self, body: dict[str, Any]) -> Reply:
        import openai

        cause, attempt = "", 0
        while attempt < self._attempts:
            await self._wait_turn()
            sent = self._without_refused(body)
            try:
                return await self._once(sent)
            except openai.APIStatusError as error:
                if self._learn(error, sent):
                    continue
                cause, wait = self._judge_status(error)
            except openai.APIConnectionError as error:
                cause, wait = _connection_cause(error), 0.0
            except _NoCompletionError as error:
                cause, wait = str(error), 0.0
            attempt += 1
            if attempt < self._attempts:
                await asyncio.sleep(self._pause(attempt, wait))
        raise CallFailedError(f"{cause} ({self._attempts} attempts)")

    def _open(self) -> AsyncOpenAI:
        from openai import AsyncOpenAI

        if self._client is None:
            endpoint = self.endpoint
            self._client = AsyncOpenAI(
                api_key=endpoint.api_key,
                base_url=endpoint.base_url,
                timeout=self._timeout,
                max_retries=0,  # retried here, where Retry-After holds for all calls
            )
        return self._client

    async def _once(self, body: dict[str, Any]) -> Reply:
        from openai import APIResponseValidationError
        from openai.types.chat import ChatCompletion

        try:
            found: Any = await self._open().post(
                "/chat/completions", cast_to=ChatCompletion, body=body
            )
        except (APIResponseValidationError, ValueError) as error:
            raise _NoCompletionError("the reply is no chat completion") from error
        return _read(found, self.model)

    def _without_refused(self, body: dict[str, Any]) -> dict[str, Any]:
        sent = {name: value for name, value in body.items() if name not in self.refused}
        if "max_tokens" in self.refused and "max_completion_tokens" not in self.refused:
            sent["max_completion_tokens"] = body["max_tokens"]
        return sent

    def _learn(self, error: APIStatusError, sent: Mapping[str, Any]) -> bool:
        """Note the parameter that a 400 or 422 refuses; False if it refuses something else."""
        if error.status_code not in {400, 422}:
            return False
        text = _message(error).lower()
        if "context" in text or "too long" in text:
            return False  # of this text, not of a parameter
        names = ("max_completion_tokens", "max_tokens", "temperature", "response_format")
        present = [name for name in names if name in sent]
        # "use max_completion_tokens instead of max_tokens": the one that was sent is refused.
        named = [name for name in present if name in text.replace("'", "").replace("`", "")]
        if not named and "response_format" in sent and ("schema" in text or "json" in text):
            named = ["response_format"]
        if not named:
            return False
        self.refused.add(named[0])
        return True

    def _judge_status(self, error: APIStatusError) -> tuple[str, float]:
        """(cause, seconds the server asks to wait) of what can be tried again; raises the rest."""
        status = error.status_code
        if status in {401, 403, 404} or "insufficient_quota" in _message(error):
            raise self._hopeless(error) from error
        cause = f"HTTP {status}: {_shorten(_message(error))}"
        if status not in _RETRIED and status < 500:
            raise CallFailedError(cause) from error
        return cause, _retry_after(error)

    def _pause(self, attempt: int, asked: float) -> float:
        """Seconds to wait; a server's Retry-After holds back all other calls as well."""
        if asked:
            self._not_before = max(self._not_before, time.monotonic() + asked)
        own = self._first_wait * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)
        return float(min(max(own, asked), _LONGEST_WAIT))

    async def _wait_turn(self) -> None:
        while (left := self._not_before - time.monotonic()) > 0:
            await asyncio.sleep(min(left, _LONGEST_WAIT))

    def _hopeless(self, error: APIStatusError) -> EndpointError:
        address, said = self.endpoint.base_url, _shorten(_message(error))
        mend = {
            401: "set OPENAI_API_KEY to a key it takes",
            403: "the key may not use this model",
            404: f"it has no model {self.model!r}, or the address lacks its /v1",
        }.get(error.status_code, "the account has no credit left")
        return EndpointError(f"{address}: HTTP {error.status_code} ({said}); {mend}")

    def _unreachable(self, error: Exception) -> EndpointError:
        return EndpointError(
            f"{self.endpoint.base_url}: {_connection_cause(error)}; start the server or mend"
            " --base-url or OPENAI_BASE_URL"
        )


class _NoCompletionError(Exception):
    """What came back is not a chat completion."""


def _read(found: Any, asked: str) -> Reply:
    choices: Any = getattr(found, "choices", None)
    message: Any = None
    if isinstance(choices, list) and choices:
        message = getattr(choices[0], "message", None)
    if message is None:
        raise _NoCompletionError("the reply is no chat completion")
    text = getattr(message, "content", None)
    usage = getattr(found, "usage", None)
    return Reply(
        text=text if isinstance(text, str) else "",
        model=str(getattr(found, "model", None) or asked),
        fingerprint=getattr(found, "system_fingerprint", None),
        finish_reason=getattr(choices[0], "finish_reason", None),
        tokens=int(getattr(usage, "total_tokens", None) or 0),
    )


def _message(error: APIStatusError) -> str:
    body = error.body
    if isinstance(body, Mapping):
        parts = [str(body[name]) for name in ("message", "code", "param") if body.get(name)]
        if parts:
            return " ".join(parts)
    return str(error.message)


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 160 else f"{line[:157]}..."


def _connection_cause(error: BaseException) -> str:
    inner: BaseException = error
    while inner.__cause__ is not None:
        inner = inner.__cause__
    if "Timeout" in type(error).__name__ or "Timeout" in type(inner).__name__:
        return "no answer in time"
    if isinstance(inner, ConnectionRefusedError) or "connection attempts failed" in str(inner):
        return "connection refused"
    return f"connection failed ({_shorten(str(inner)) or type(inner).__name__})"


def _retry_after(error: APIStatusError) -> float:
    """Seconds from a Retry-After header (a number or a date); 0 without one."""
    value = error.response.headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError):
            return 0.0
    return min(max(seconds, 0.0), _LONGEST_WAIT) if seconds == seconds else 0.0
