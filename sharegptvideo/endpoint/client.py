"""Chat completions from an OpenAI-compatible server, or from the cache if asked before.

`ChatClient` makes one call; `in_parallel` runs many from plain code.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from sharegptvideo.endpoint.batch_api import BatchApi
from sharegptvideo.endpoint.budget import Estimate, measure
from sharegptvideo.endpoint.cache import ReplyCache, claim, request_key
from sharegptvideo.endpoint.messages import Message, NoAnswerError, Reply
from sharegptvideo.endpoint.options import Endpoint, EndpointOptions, hide_key
from sharegptvideo.endpoint.server_errors import BudgetError, CallFailedError, EndpointError
from sharegptvideo.endpoint.store import ReplyStore
from sharegptvideo.endpoint.transport import Sender
from sharegptvideo.errors import unknown_name

__all__ = ["ChatClient", "in_parallel"]

T = TypeVar("T")
R = TypeVar("R")

_HELLO: tuple[Message, ...] = ({"role": "user", "content": "Hi"},)
# After so many calls in a row that failed to the last attempt, the server counts as gone.
_MOST_FAILURES = 12


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
        self._store = self.options.store
        self._failures = 0

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint that `find_endpoint` returns."""
        return self._sender.endpoint

    @property
    def known_as(self) -> str:
        """What stands for the address in keys and records: see `EndpointOptions`."""
        return self.options.known_as or self.endpoint.base_url

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

    def try_out(self, messages: Sequence[Message], extra: Mapping[str, Any]) -> Reply:
        """Ask for one token, past the cache, to see what the server takes.

        What comes need be no answer: it may be cut off.

        Raises:
            CallFailedError: the server refused it, or failed to the last attempt.
            EndpointError: no call can succeed, if the server is to be believed.
        """
        body = self._body(messages, None, 0.0, 1) | dict(extra)
        try:
            return self._at_once(functools.partial(self._sender.send, body))
        except NoAnswerError as error:
            return error.reply

    def keep_replies(self, store: ReplyStore) -> None:
        """Take replies from a store, and keep there what is asked, in place of the options'."""
        self._store = store

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
        extra: Mapping[str, Any] | None = None,
    ) -> Reply:
        """Return a completion, from the store or the cache where the same was asked before.

        `extra` are parameters of some servers only, by name.

        A sample (at another temperature than 0) is kept by its `seed`; without one it is new each
        time. All parameters but the messages are left out if the server refuses them; the reply's
        `left_out` then names them.

        Raises:
            CallFailedError: this call failed, after all attempts where they could help; a
                NoAnswerError where the model gave no answer that can be used.
            EndpointError: no call can succeed, or none has for a long time; the money is spent.
            UserError: the store cannot keep what would be paid for.
        """
        body = self._body(messages, response_format, temperature, max_tokens)
        sampling = {"top_p": top_p, "seed": seed, **(extra or {})}
        body |= {name: value for name, value in sampling.items() if value is not None}
        key = self._key(body)
        if key is None:
            return await self._ask(body)
        reply = self._kept(key)
        if reply is None:
            async with self._claim(key) as waited:
                if waited and self._store is not None:
                    self._store.refresh()
                reply = self._kept(key)  # another process may have asked meanwhile
                if reply is None:
                    if self._store is not None:
                        self._store.check()
                    reply = await self._ask(body)
                    self._keep(key, reply)
        return reply

    def _claim(self, key: str) -> contextlib.AbstractAsyncContextManager[bool]:
        """Hold a request until it is answered: in the store, or in what all work shares."""
        if self._cache is not None:
            return claim(self._cache.file, key)
        assert self._store is not None
        return claim(self._store.folder / "replies", key)

    def _keep(self, key: str, reply: Reply) -> None:
        if self._store is not None:
            self._store.put(key, reply)
        if self._cache is not None and not reply.cached:
            self._cache.put(key, reply, reply.left_out)

    def _known(self, key: str) -> tuple[Reply | None, bool]:
        """Return the answer that the store or the cache has, and whether the store has it."""
        reply = None if self._store is None else self._store.get(key)
        if reply is not None or self._cache is None:
            return reply, True
        return self._cache.get(key), False

    def _kept(self, key: str) -> Reply | None:
        """Return the answer to a request from the store or the cache; None if it is in neither."""
        reply, is_stored = self._known(key)
        if reply is None:
            return None
        reply = self._sender.without_key(reply)
        if not is_stored:
            self._keep(key, reply)
        self._left_out.update(reply.left_out)
        self.options.budget.count_cached()
        return reply

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
        """Return the key of a request; None where it is kept nowhere, as samples without a seed."""
        if self._cache is None and self._store is None:
            return None
        if body["temperature"] != 0 and "seed" not in body:
            return None
        return request_key(self.known_as, body)

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
            if key is not None and self._known(key)[0] is not None:
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
        seconds = options.seconds_of(asked, tokens)
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
            key = request_key(self.known_as, body)
            if self._store is None or self._store.get(key) is None:
                bodies[key] = body
        batches = BatchApi(self._sender, self._cache)
        self._at_once(functools.partial(batches.answer, bodies))


def in_parallel(
    call: Callable[[T], Awaitable[R]],
    items: Iterable[T],
    *,
    width: int,
    finish: Callable[[], Awaitable[None]] | None = None,
    group: Callable[[T], Hashable | None] | None = None,
    opens: Callable[[R], bool] = lambda _: True,
) -> Iterator[tuple[T, R]]:
    """Yield `(item, result)` in the order of completion, with at most `width` calls under way.

    The calls run on an event loop in a thread of its own, so this also works where a loop runs
    already (a notebook); `items` are taken in the caller's thread, as they are needed. An error of
    a call is raised here once the results before it are out; then, and where the caller stops
    early, the calls under way are cancelled; after a `BudgetError` they finish, since they are paid
    for, and their results come out before it. `finish` is awaited last, whatever happened.

    Args:
        call: one call.
        items: what to call it with.
        width: calls under way, those that wait for the first of their group among them.
        finish: closes what the calls share.
        group: of each item, what it shares with others, None for nothing. The first item of a
            group goes ahead; the others begin when it is done.
        opens: whether a result lets the others begin; else the next one goes ahead of them.

    Raises:
        ValueError: `width` is below 1.
    """
    if width < 1:
        raise ValueError(f"width {width}: must be at least 1")
    calls = _Calls(call, group or (lambda _: None), opens)
    loop = asyncio.new_event_loop()

    def run() -> None:
        try:
            loop.run_until_complete(calls.serve(finish))
        except BaseException as error:  # noqa: BLE001 - handed over to the caller's thread
            calls.done.put(error)
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    thread = threading.Thread(target=run, name="in_parallel", daemon=True)
    thread.start()
    try:
        yield from _results(calls, loop, iter(items), width)
    finally:
        with contextlib.suppress(RuntimeError):  # the loop has closed on an error of its own
            loop.call_soon_threadsafe(calls.stopped.set)
        thread.join()
    if not calls.done.empty():  # an error of `finish`
        raise _error(calls.done.get())


_END: Any = object()


def _error(outcome: object) -> BaseException:
    assert isinstance(outcome, BaseException), outcome
    return outcome


def _results(
    calls: _Calls[T, R], loop: asyncio.AbstractEventLoop, source: Iterator[T], width: int
) -> Iterator[tuple[T, R]]:
    """Hand items over as there is room for them, and yield the results; see `in_parallel`."""
    under_way, more = 0, True
    spent: BudgetError | None = None
    while more or under_way:
        if more and under_way < width:
            item = next(source, _END)
            if more := item is not _END:
                loop.call_soon_threadsafe(calls.take, item)
                under_way += 1
            continue
        outcome, under_way = calls.done.get(), under_way - 1
        if isinstance(outcome, BudgetError):  # the others are paid for: they finish
            spent, more = spent or outcome, False
        elif isinstance(outcome, tuple):
            yield outcome
        elif outcome is not None:
            raise outcome
    if spent is not None:
        raise spent


class _Calls(Generic[T, R]):
    """Calls of one event loop. For each item one outcome is put into `done`.

    That is the item with its result, an error, or None where it was not begun for want of money.
    """

    def __init__(
        self,
        call: Callable[[T], Awaitable[R]],
        group: Callable[[T], Hashable | None],
        opens: Callable[[R], bool],
    ) -> None:
        self._call, self._group, self._opens = call, group, opens
        self.done: queue.SimpleQueue[tuple[T, R] | BaseException | None] = queue.SimpleQueue()
        self.stopped = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: dict[Hashable, deque[T]] = {}  # by group whose first is under way
        self._open: set[Hashable] = set()
        self._spent = False

    def take(self, item: T) -> None:
        """Begin with an item, or hold it until the first of its group is done."""
        key = self._group(item)
        if self._spent:
            self.done.put(None)
        elif key in self._held:
            self._held[key].append(item)
        else:
            leads = key is not None and key not in self._open
            if leads:
                self._held[key] = deque()
            self._begin(item, key if leads else None)

    def _begin(self, item: T, leads: Hashable | None) -> None:
        task = asyncio.get_running_loop().create_task(self._one(item, leads))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _one(self, item: T, leads: Hashable | None) -> None:
        try:
            result = await self._call(item)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - handed over to the caller's thread
            self.done.put(error)
            self._spent |= isinstance(error, BudgetError)
            for _ in self._held.pop(leads, ()):
                self.done.put(None)
        else:
            self.done.put((item, result))
            if leads is not None:
                self._let_go(leads, self._opens(result))

    def _let_go(self, key: Hashable, opened: bool) -> None:
        """Begin with what waits for the first of a group: all, or the next one alone."""
        waiting = self._held.pop(key)
        if opened:
            self._open.add(key)
        for item in waiting:
            self.take(item)

    async def serve(self, finish: Callable[[], Awaitable[None]] | None) -> None:
        """Run until `stopped` is set; then cancel what is under way, and await `finish`."""
        try:
            await self.stopped.wait()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if finish is not None:
                await finish()
