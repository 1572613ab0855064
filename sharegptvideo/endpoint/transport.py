"""One request to one endpoint: slots, limits a minute, money, retries.

Retried, with a wait that doubles and is never shorter than the server's Retry-After: connections
that break, time-outs, 408, 409, 425, 429, 5xx, and replies that are no chat completion. An error
in a reply with status 200 is that error. Given up at once: what every further call would end with
(`permanent_error_hint`). A parameter that the server refuses (400, 422) is left out of this call;
of all further ones where it said that it does not take it, the call went well without, and no
other did with it.
"""

from __future__ import annotations

import random
import time
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from sharegptvideo._network import check_network_variables, is_this_machine, proxy_of
from sharegptvideo.endpoint.budget import Price, Size, find_price, measure
from sharegptvideo.endpoint.limits import Limits, LocalLimits, Need, Outcome
from sharegptvideo.endpoint.messages import NoAnswerError, Reply, parse_reply, read_reply
from sharegptvideo.endpoint.options import (
    Endpoint,
    EndpointOptions,
    find_endpoint,
    hide_key,
    is_key,
    without_key,
)
from sharegptvideo.endpoint.server_errors import (
    LONGEST_WAIT,
    CallFailedError,
    EndpointError,
    NoCompletionError,
    ReplyTooLargeError,
    ServerSaidError,
    connection_cause,
    is_overload,
    is_retryable,
    is_timeout,
    is_unsupported,
    may_be_of_one_text,
    message_of,
    permanent_error_hint,
    refused_parameter,
    retry_after,
    shorten,
)

if TYPE_CHECKING:
    import httpx2
    from openai import APIStatusError, AsyncOpenAI

__all__ = ["Sender"]

T = TypeVar("T")
# A parameter that so many texts were refused for, and none was answered with, is left out for all.
_MOST_DOUBTS = 3


class Sender:
    """The connection to one model, for many tasks of one event loop at a time."""

    def __init__(
        self,
        model: str,
        base_url: str | None,
        options: EndpointOptions,
        *,
        attempts: int,
        first_wait: float,
        timeout: float,
    ) -> None:
        self.model = model
        self.options = options
        self.refused: set[str] = set()
        self.first_wait = first_wait
        self._base_url = base_url
        self._attempts = attempts
        self._timeout = timeout
        self._client: AsyncOpenAI | None = None
        self._endpoint: Endpoint | None = None
        self._price: Price | None = None
        self._limits: Limits | None = None
        self._answered = False
        self._taken: set[str] = set()
        self._doubts: Counter[str] = Counter()
        self._permanent_error: EndpointError | None = None

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint of `find_endpoint`, the same as long as connections are open."""
        return self._endpoint or find_endpoint(self._base_url)

    @property
    def price(self) -> Price | None:
        """The price of `find_price`, the same as long as connections are open."""
        if self._endpoint is not None:
            return self._price
        return find_price(self.endpoint.base_url, self.model, self.options.prices)

    @property
    def limits(self) -> Limits:
        """What all calls of this model share, the same from the first call on."""
        if self._limits is None:
            options = self.options
            if options.limits is None:
                self._limits = LocalLimits(options.rules, options.budget, clock=options.clock)
            else:
                self._limits = options.limits(f"{self.model} at {self.endpoint.base_url}")
        return self._limits

    def require_price(self) -> None:
        """Check that a limit of money can be kept.

        Raises:
            EndpointError: there is a limit, and no price for this model.
        """
        if self.options.max_cost is not None and self.price is None:
            host = urlsplit(self.endpoint.base_url).hostname
            raise EndpointError(
                f"--max-cost needs a price for {self.model!r} at {host}, which the table lacks:"
                " write date: YYYY-MM-DD and"
                f" hosts: {{'{host}': {{'{self.model}': {{prompt: 1.0, completion: 2.0}}}}}}"
                " (US dollars per million tokens) into a file and give --prices FILE"
            )

    def open(self) -> AsyncOpenAI:
        """Return the client of the running event loop, opened on first use."""
        from openai import AsyncOpenAI

        from sharegptvideo.endpoint.http import BoundedClient

        if self._client is None:
            endpoint, price = self.endpoint, self.price
            check_network_variables()
            _warn_of_open_key(endpoint)
            self._endpoint, self._price = endpoint, price
            self._client = AsyncOpenAI(
                api_key=endpoint.api_key,
                base_url=endpoint.base_url,
                timeout=self._timeout,
                max_retries=0,  # retried here, where Retry-After holds for all calls
                http_client=BoundedClient(self.options.max_reply_bytes),
            )
        return self._client

    async def close(self) -> None:
        """Close the connections of the running event loop; the next call opens new ones."""
        self._permanent_error = self._endpoint = None
        if self._limits is not None:
            await self._limits.close()
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def send(self, body: Mapping[str, Any]) -> Reply:
        """Return the answer to a request.

        Raises:
            CallFailedError: this call failed, after all attempts where they could help.
            NoAnswerError: the model gave no answer that can be used.
            EndpointError: no call can succeed.
        """
        size = measure(body)
        call = _Call()

        async def once() -> Reply:
            self.open()
            return await self._once(body, size, call)

        try:
            reply = await self.retry(once)
        except CallFailedError as error:
            error.attempts = call.attempts
            error.dollars = None if self.price is None else call.dollars
            raise
        cost = None if self.price is None else call.dollars
        reply = replace(reply, attempts=call.attempts, dollars=cost)
        if reply.failure is not None:
            raise NoAnswerError(reply)
        return reply

    async def retry(self, once: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `once`, called again after errors that are retryable.

        Raises:
            CallFailedError: it failed with another error, or too often.
            EndpointError: no call can succeed.
        """
        import openai

        cause, attempt = "", 0
        while attempt < self._attempts:
            try:
                return await once()
            except _RefusedError:
                continue
            except openai.APIStatusError as error:
                cause, wait = self._retryable(error)
            except openai.APIConnectionError as error:
                cause, wait = self.connection_cause(error), 0.0
            except ReplyTooLargeError as error:
                raise CallFailedError(str(error)) from error
            except NoCompletionError as error:
                cause, wait = hide_key(str(error), self.endpoint), 0.0
            attempt += 1
            if attempt < self._attempts:
                await self.options.clock.sleep(self._pause(attempt, wait))
        raise CallFailedError(f"{cause} ({self._attempts} attempts)")

    async def _once(self, body: Mapping[str, Any], size: Size, call: _Call) -> Reply:
        """Try once: wait for a lease, send it."""
        import openai

        price = self.price
        images = price.image_tokens if price else 0
        prompt, typical = size.typical(images)
        most = price.of(*size.most(images)) if price else 0.0
        lease = await self.limits.begin(Need(prompt, typical, most))
        if self._permanent_error is not None:  # found while this call stood in line
            self.limits.withdraw(lease)
            raise self._permanent_error
        # What breaks off on the way may have been computed, and so be billed: counted as asked.
        tokens, cost = prompt, price.of(prompt, 0) if price else 0.0
        answer: float | None = None
        start, overload = time.monotonic(), False
        sent = self.as_sent(body, call.left_out)
        call.attempts += 1
        try:
            reply = replace(await self._post(sent), left_out=_missing(body, sent))
            self._learn(sent, call.left_out)
            if reply.tokens:
                tokens = reply.tokens
                answer = reply.completion_tokens
            else:  # the server does not count: as many as such texts mostly have
                answer = len(reply.text.encode("utf-8", "surrogatepass")) / 4
                tokens = prompt + answer
            cost = price.of(tokens - answer, answer) if price else 0.0
            return reply
        except openai.APIStatusError as error:
            tokens, cost, overload = 0, 0.0, is_overload(error)
            name = refused_parameter(error, sent)
            if name is None:
                raise
            call.left_out[name] = is_unsupported(error)
            raise _RefusedError from error
        except openai.APIConnectionError as error:
            overload = is_timeout(error)
            if "connection refused" in connection_cause(error):
                tokens, cost = 0, 0.0
            raise
        finally:
            call.dollars += cost
            seconds = time.monotonic() - start
            self.limits.end(lease, Outcome(tokens, answer, cost, seconds, overload))

    def _learn(self, sent: Mapping[str, Any], left_out: Mapping[str, bool]) -> None:
        """Note which parameters an answer came with, and which it only came without.

        Not before: the words of a refusal may be an echo of its text.
        """
        self._answered = True
        self._taken |= sent.keys()
        self._doubts.update(left_out.keys())
        self.refused |= {
            name
            for name, unsupported in left_out.items()
            if unsupported or self._doubts[name] >= _MOST_DOUBTS
        }
        self.refused -= self._taken

    async def _post(self, body: Mapping[str, Any]) -> Reply:
        import httpx2

        # As plain JSON: building the client's own objects takes longer than all the rest.
        response = await self.open().post(
            "/chat/completions", cast_to=httpx2.Response, body=dict(body)
        )
        try:
            return self.read(parse_reply(response.content))
        except RecursionError as error:
            raise ReplyTooLargeError("the reply is nested too deeply") from error
        except ServerSaidError as error:
            raise _status_error(error, response) from error

    def read(self, completion: Any) -> Reply:
        """Read a completion that this endpoint gave; see `read_reply`."""
        # Before and after: messages are cut short, and parts joined, on the way.
        clean = _without_key(completion, self.endpoint) if is_key(self.endpoint) else completion
        return self.without_key(read_reply(clean, self.model))

    def without_key(self, reply: Reply) -> Reply:
        """Return a reply without the endpoint's key, which some servers repeat."""
        texts: dict[str, Any] = {
            name: without_key(value, self.endpoint)
            for name in ("text", "model", "fingerprint", "finish_reason", "reasoning", "failure")
            if isinstance(value := getattr(reply, name), str)
        }
        return replace(reply, **texts)

    def as_sent(self, body: Mapping[str, Any], left_out: Collection[str] = ()) -> dict[str, Any]:
        """Return a request without the parameters that the server is known to refuse."""
        refused = self.refused.union(left_out)
        sent = {name: value for name, value in body.items() if name not in refused}
        if "max_tokens" in refused and "max_completion_tokens" not in refused:
            sent["max_completion_tokens"] = body["max_tokens"]
        return sent

    def _retryable(self, error: APIStatusError) -> tuple[str, float]:
        """Return the cause of an error to retry and the seconds the server asks to wait.

        Raises:
            CallFailedError: this call would fail again.
            EndpointError: every call would.
        """
        cause = f"HTTP {error.status_code}: {self.server_message(error)}"
        if permanent_error_hint(error) is not None:
            # What was good a moment ago is refused for what this text says.
            if self._answered and may_be_of_one_text(error):
                raise CallFailedError(cause, status=error.status_code) from error
            self._permanent_error = self.permanent_error(error)
            raise self._permanent_error from error
        if not is_retryable(error):
            raise CallFailedError(cause, status=error.status_code) from error
        return cause, retry_after(error)

    def _pause(self, attempt: int, asked: float) -> float:
        """Return the seconds to wait; a server's Retry-After holds back all other calls too."""
        if asked:
            self.limits.hold_back(asked)
        own = self.first_wait * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)
        return float(min(max(own, asked), LONGEST_WAIT))

    def server_message(self, error: APIStatusError) -> str:
        """Return what the server said on one line, without the key, which some servers repeat."""
        return shorten(hide_key(message_of(error), self.endpoint))

    def permanent_error(self, error: APIStatusError) -> EndpointError:
        """Return the error that ends the work, with its fix."""
        address, status = self.endpoint.base_url, error.status_code
        fix = permanent_error_hint(error) or "the endpoint cannot be used"
        moved = error.response.headers.get("location", "")
        if 300 <= status < 400 and moved:
            fix = f"it has moved to {shorten(hide_key(moved, self.endpoint))}; fix --base-url"
        if status in {404, 410}:
            fix = fix.replace("no such model", f"no model {self.model!r}")
        message = f"{address}: HTTP {status} ({self.server_message(error)}); {fix}"
        return EndpointError(message, status=status)

    def connection_cause(self, error: BaseException) -> str:
        """Say in a few words why no answer came; names the proxy where calls go through one."""
        cause, proxy = connection_cause(error), proxy_of(self.endpoint.base_url)
        return f"{cause} (by way of the proxy {proxy})" if proxy else cause

    def unreachable(self, error: Exception) -> EndpointError:
        """Return the error for a server that does not answer."""
        fix = "start the server or fix --base-url or OPENAI_BASE_URL"
        if proxy_of(self.endpoint.base_url):
            fix = "fix that variable, or name the server's host in NO_PROXY"
        return EndpointError(f"{self.endpoint.base_url}: {self.connection_cause(error)}; {fix}")


@dataclass(slots=True)
class _Call:
    """What is known of a call after the requests that were sent for it.

    Attributes:
        left_out: parameters that were refused for its text, with whether the server said that it
            does not take them at all.
        attempts: requests that were sent.
        dollars: US dollars that they cost, or may have cost.
    """

    left_out: dict[str, bool] = field(default_factory=dict)
    attempts: int = 0
    dollars: float = 0.0


class _RefusedError(Exception):
    """A parameter was refused and is left out from now on: try the same call again at once."""


def _missing(body: Mapping[str, Any], sent: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the parameters of a request that were not sent, in order."""
    return tuple(sorted(body.keys() - sent.keys()))


def _status_error(error: ServerSaidError, response: httpx2.Response) -> APIStatusError:
    """Return the error that a reply with status 200 holds, as if the status had said it."""
    from openai import APIStatusError

    made = APIStatusError(str(error), response=response, body=error.error)
    made.status_code = error.status
    return made


def _without_key(value: Any, endpoint: Endpoint) -> Any:
    """Return parsed JSON without the endpoint's key, wherever it stands."""
    if isinstance(value, str):
        return hide_key(value, endpoint)
    if isinstance(value, list):
        return [_without_key(each, endpoint) for each in value]
    if isinstance(value, dict):
        return {
            hide_key(name, endpoint): _without_key(each, endpoint) for name, each in value.items()
        }
    return value


_warned: set[str] = set()


def _warn_of_open_key(endpoint: Endpoint) -> None:
    """Warn, once for each host, where a key goes to another machine and anybody can read it."""
    parts = urlsplit(endpoint.base_url)
    host = parts.hostname or ""
    if parts.scheme != "http" or is_this_machine(host) or not is_key(endpoint) or host in _warned:
        return
    _warned.add(host)
    warnings.warn(
        f"{endpoint.base_url}: OPENAI_API_KEY is sent to another host without encryption; use"
        " https://, or unset the key if the server wants none",
        OpenKeyWarning,
        stacklevel=2,
    )


class OpenKeyWarning(UserWarning):
    """A key that is sent over plain http."""
