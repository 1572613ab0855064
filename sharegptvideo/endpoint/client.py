"""Chat completions from an OpenAI-compatible server, or from the cache if asked before.

`ChatClient` makes one call; `in_parallel` runs many from plain code.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sharegptvideo.endpoint.batch_api import BatchApi
from sharegptvideo.endpoint.budget import Estimate, measure
from sharegptvideo.endpoint.cache import ReplyCache, request_key
from sharegptvideo.endpoint.messages import Message, NoAnswerError, Reply
from sharegptvideo.endpoint.options import Endpoint, EndpointOptions, hide_key
from sharegptvideo.endpoint.server_errors import BudgetError, CallFailedError, EndpointError
from sharegptvideo.endpoint.transport import Sender
from sharegptvideo.errors import unknown_name

__all__ = ["ChatClient", "in_parallel"]

T = TypeVar("T")
R = TypeVar("R")

_HELLO: tuple[Message, ...] = ({"role": "user", "content": "Hi"},)
# After so many calls in a row that failed to the last attempt, the server counts as gone.
_MOST_FAILURES = 12
# Seconds of a typical answer, before one has come.
_TYPICAL_SECONDS = 2.0


class ChatClient:
    """A client of one model of one endpoint, for many tasks of one event loop at a time.

    Call `close` in the loop before it ends (`in_parallel(..., finish=client.close)`).
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        options: EndpointOptions | None = None,
        attempts: int = 6,
        first_wait: float = 1.0,
        timeout: float = 180.0,
    ) -> None:
        """Prepare a client; no endpoint is needed or contacted until `check` or `complete`.

        Args:
            model: the name the server knows it by.
            base_url: default: OPENAI_BASE_URL.
            options: speed, money, cache; default: `EndpointOptions(cache=False)`.
            attempts: tries per call in all.
            first_wait: seconds before the second try; doubles with each.
            timeout: seconds for one try.
        """
        self.model = model
        self.options = options or EndpointOptions(cache=False)
        self._sender = Sender(
            model,
            base_url,
            self.options,
            attempts=attempts,
            first_wait=first_wait,
            timeout=timeout,
        )
        self._left_out: set[str] = set()
        file = self.options.cache_file
        self._cache = ReplyCache(file) if file else None
        self._failures = 0

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint that `find_endpoint` returns."""
        return self._sender.endpoint

    @property
    def refused(self) -> set[str]:
        """Names of parameters that the server refuses, all of them or for some texts."""
        return self._sender.refused | self._left_out

    @property
    def width(self) -> int:
        """How many calls to have ready: some wait in line, so that no slot is ever empty."""
        return 2 * self.options.concurrency

    def check(self) -> None:
        """Check that the endpoint answers and knows the model, for a token at most.

        Raises:
            UserError: no endpoint is set, or (as EndpointError) it does not answer, refuses the
                key, or does not know the model; money is limited and the price is not known.
        """
        self._sender.require_price()
        known = self._at_once(self._models)
        if known is not None and self.model in known:
            return
        hello = self._body(_HELLO, None, 0.0, 1)
        try:
            self._at_once(functools.partial(self._sender.send, hello))
        except EndpointError as error:
            if known and error.status == 404:
                nearest = hide_key(str(unknown_name("model", self.model, known)), self.endpoint)
                raise EndpointError(f"{self.endpoint.base_url}: {nearest}") from error
            raise
        except CallFailedError:
            # It answered, and did not say that the model is unknown: calls may go well.
            return

    def _at_once(self, call: Callable[[], Awaitable[T]]) -> T:
        done = in_parallel(lambda function: function(), [call], width=1, finish=self.close)
        ((_, result),) = done
        return result

    async def close(self) -> None:
        """Close the connections of the running event loop; the next call opens new ones."""
        await self._sender.close()
        if self._cache is not None:
            self._cache.close()

    async def _models(self) -> list[str] | None:
        """Return the names of the served models, or None where the server does not list them."""
        import openai

        try:
            page = await self._sender.open().with_options(timeout=20).models.list()
            return [model.id for model in page.data or ()]
        except openai.APIConnectionError as error:
            raise self._sender.unreachable(error) from error
        except openai.APIStatusError as error:
            if error.status_code in {401, 403}:
                raise self._sender.permanent_error(error) from error
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
        top_p: float | None = None,
        seed: int | None = None,
    ) -> Reply:
        """Return a completion, from the cache where the same was asked before.

        A sample (at another temperature than 0) is kept by its `seed`; without one it is new each
        time. All parameters but the messages are left out if the server refuses them; the reply's
        `left_out` then names them.

        Raises:
            CallFailedError: this call failed, after all attempts where they could help; a
                NoAnswerError where the model gave no answer that can be used.
            EndpointError: no call can succeed, or none has for a long time; the money is spent.
        """
        body = self._body(messages, response_format, temperature, max_tokens)
        sampling = {"top_p": top_p, "seed": seed}
        body |= {name: value for name, value in sampling.items() if value is not None}
        key = self._key(body)
        if self._cache is None or key is None:
            return await self._ask(body)
        reply = self._kept(self._cache, key)
        if reply is None:
            async with self._cache.claim(key):
                reply = self._kept(self._cache, key)  # another process may have asked meanwhile
                if reply is None:
                    reply = await self._ask(body)
                    self._cache.put(key, reply, reply.left_out)
        return reply

    def _kept(self, cache: ReplyCache, key: str) -> Reply | None:
        """Return the answer to a request from the cache; None if it is not there."""
        cached = cache.get(key)
        if cached is None:
            return None
        self._left_out.update(cached.left_out)
        self.options.budget.count_cached()
        return self._sender.without_key(cached)

    async def _ask(self, body: Mapping[str, Any]) -> Reply:
        """Ask the server; see `complete`."""
        try:
            reply = await self._sender.send(body)
        except NoAnswerError as error:  # the server is there
            self._failures = 0
            self._left_out.update(error.reply.left_out)
            raise
        except CallFailedError as error:
            self._failures += 1
            if self._failures >= _MOST_FAILURES:
                raise EndpointError(
                    f"{self.endpoint.base_url}: {self._failures} calls in a row failed, the last"
                    f" with: {error}; run the same command again to go on"
                ) from error
            raise
        self._failures = 0
        self._left_out.update(reply.left_out)
        return reply

    def _body(
        self,
        messages: Sequence[Message],
        response_format: Mapping[str, Any] | None,
        temperature: float,
        max_tokens: int,
    ) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [dict(message) for message in messages],
            "temperature": temperature,
            "max_tokens": max_tokens,
        }
        if response_format is not None:
            body["response_format"] = dict(response_format)
        return body

    def _key(self, body: Mapping[str, Any]) -> str | None:
        """Return the key of a request in the cache; None for samples, which are new each time."""
        if self._cache is None or (body["temperature"] != 0 and "seed" not in body):
            return None
        return request_key(self.endpoint.base_url, body)

    def estimate(
        self,
        requests: Iterable[Sequence[Message]],
        *,
        response_format: Mapping[str, Any] | None = None,
        max_tokens: int = 512,
    ) -> Estimate:
        """Estimate what greedy requests will take together; sends nothing.

        Raises:
            UserError: no endpoint is set, the table of prices cannot be read.
        """
        price, options = self._sender.price, self.options
        asked, cached, tokens = 0, 0, 0.0
        cost: float | None = 0.0 if price else None
        for messages in requests:
            body = self._body(messages, response_format, 0.0, max_tokens)
            key = self._key(body)
            if self._cache is not None and key is not None and self._cache.get(key) is not None:
                cached += 1
                continue
            size = measure(body)
            asked += 1
            prompt, answer = size.typical(price.image_tokens if price else 0)
            tokens += prompt + answer
            if price and cost is not None:
                cost += price.of(prompt, answer, batch=options.batch_api)
        if self._cache is not None:
            self._cache.close()
        seconds = max(
            asked * _TYPICAL_SECONDS / options.concurrency,
            asked * 60 / options.rpm if options.rpm else 0.0,
            tokens * 60 / options.tpm if options.tpm else 0.0,
        )
        return Estimate(asked, cached, tokens, cost, seconds, price.date if price else None)

    def prefetch(
        self,
        requests: Iterable[Sequence[Message]],
        *,
        response_format: Mapping[str, Any] | None = None,
        max_tokens: int = 512,
    ) -> None:
        """Have requests answered in batches, where the options ask for `batch_api`.

        Afterwards `complete` takes the answers from the cache. Blocks until they are there, maybe
        for hours; killed, the next call goes on with the batches that were sent. What a batch
        could not answer is left to `complete`.

        Raises:
            EndpointError: the endpoint takes no batches, or gave one up; the money is spent.
        """
        if not self.options.batch_api or self._cache is None:
            return
        bodies = {}
        for messages in requests:
            body = self._body(messages, response_format, 0.0, max_tokens)
            bodies[request_key(self.endpoint.base_url, body)] = body
        batches = BatchApi(self._sender, self._cache)
        self._at_once(functools.partial(batches.answer, bodies))


def in_parallel(
    call: Callable[[T], Awaitable[R]],
    items: Iterable[T],
    *,
    width: int,
    finish: Callable[[], Awaitable[None]] | None = None,
) -> Iterator[tuple[T, R]]:
    """Yield `(item, result)` in the order of completion, with at most `width` calls under way.

    The calls run on an event loop in a thread of its own, so this also works where a loop runs
    already (a notebook). An error of a call is raised here once the results before it are out;
    then, and where the caller stops early, the calls under way are cancelled; after a `BudgetError`
    they finish, since they are paid for, and their results come out before it.
    `finish` is awaited last, whatever happened.

    Raises:
        ValueError: `width` is below 1.
    """
    if width < 1:
        raise ValueError(f"width {width}: must be at least 1")
    done: queue.SimpleQueue[tuple[T, R] | BaseException | None] = queue.SimpleQueue()
    stop = asyncio.Event()
    loop = asyncio.new_event_loop()

    async def call_one(item: T) -> None:
        done.put((item, await call(item)))

    def run() -> None:
        try:
            loop.run_until_complete(_work(call_one, items, width, stop, finish))
        except BaseException as error:  # noqa: BLE001 - handed over to the caller's thread
            done.put(error)
        else:
            done.put(None)
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    thread = threading.Thread(target=run, name="in_parallel", daemon=True)
    thread.start()
    try:
        while (outcome := done.get()) is not None:
            if isinstance(outcome, BaseException):
                raise outcome
            yield outcome
    finally:
        with contextlib.suppress(RuntimeError):  # the loop has closed: all is done
            loop.call_soon_threadsafe(stop.set)
        thread.join()


async def _work(
    call: Callable[[T], Awaitable[None]],
    items: Iterable[T],
    width: int,
    stop: asyncio.Event,
    finish: Callable[[], Awaitable[None]] | None,
) -> None:
    """Call `call` on all items with `width` workers; `stop` cancels them."""
    source = iter(items)
    spent: list[BudgetError] = []

    async def worker() -> None:
        for item in source:
            if spent:
                return
            try:
                await call(item)
            except BudgetError as error:  # the others are paid for: they finish
                spent.append(error)
                return

    tasks = [asyncio.ensure_future(worker()) for _ in range(width)]
    stopped = asyncio.ensure_future(stop.wait())
    everything = asyncio.gather(*tasks)
    try:
        both: set[asyncio.Future[Any]] = {everything, stopped}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if everything.done():
            await everything
            if spent:
                raise spent[0]
    finally:
        for task in (*tasks, stopped):
            task.cancel()
        await asyncio.gather(*tasks, stopped, return_exceptions=True)
        with contextlib.suppress(BaseException):  # raised above if it is news
            await everything
        if finish is not None:
            await finish()
