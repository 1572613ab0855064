"""Requests through the Batch API: sent as files, answered within a day at a lower price.

A batch is written into the cache's file before and after it is sent, so that a run that is killed
finds its batches again: by their ids, or, where it died between sending and writing, by the name
that the server keeps with them.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sharegptvideo.endpoint.budget import measure
from sharegptvideo.endpoint.cache import Batch, ReplyCache
from sharegptvideo.endpoint.options import hide_key
from sharegptvideo.endpoint.server_errors import (
    CallFailedError,
    EndpointError,
    NoCompletionError,
    ServerSaidError,
    shorten,
)
from sharegptvideo.endpoint.transport import Sender

if TYPE_CHECKING:
    from openai.types import Batch as RemoteBatch

__all__ = ["BatchApi"]

Body = Mapping[str, Any]

# OpenAI takes 50,000 requests and 200 MB a file; others less, and a smaller file fails cheaper.
_MOST_REQUESTS = 20_000
_MOST_BYTES = 90_000_000
# A file of answers, unpacked: 13 kB for each request. And the time to send or fetch a file.
_MOST_FILE_BYTES = 256 << 20
_FILE_SECONDS = 3600.0
_LABEL = "sharegptvideo"
_LONGEST_POLL_S = 60.0
_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
# How many of the account's newest batches are searched for one that was lost.
_MOST_SEARCHED = 500


class BatchApi:
    """Requests that are answered in batches; the answers go into the cache."""

    def __init__(self, sender: Sender, cache: ReplyCache) -> None:
        self._sender = sender
        self._cache = cache
        self._endpoint = sender.endpoint.base_url
        self._last_line = ""

    async def answer(self, bodies: Mapping[str, Body]) -> None:
        """Fetch the batches under way, send the rest, wait for it and fetch it.

        `bodies` are requests by their keys in the cache. What a batch could not answer stays
        unanswered.

        Raises:
            EndpointError: the endpoint takes no batches, or gave one up; the money is spent.
        """
        tried: set[str] = set()
        for batch in self._cache.batches(self._endpoint):
            if not bodies.keys() & set(batch.keys):
                continue
            if batch.id is None:
                batch.id = await self._find_lost(batch)
            if batch.id is None:  # it was never sent
                self._cache.drop_batch(batch)
                continue
            await self._sender.options.budget.reserve(0.0, None)
            await self._fetch_for(batch, 0.0)
            tried.update(batch.keys)
        await self._ask_one(bodies, tried)
        while True:
            left = {
                key: body
                for key, body in bodies.items()
                if key not in tried and self._cache.get(key) is None
            }
            if not left:
                return
            keys = await self._send_next(left)
            tried.update(keys)

    async def _ask_one(self, bodies: Mapping[str, Body], tried: set[str]) -> None:
        """Ask one directly: a parameter that the server refuses would fail a whole batch."""
        for key, body in bodies.items():
            if key not in tried and self._cache.get(key) is None:
                with contextlib.suppress(
                    CallFailedError
                ):  # the batch shows whether the rest fails too
                    reply = await self._sender.send(body)
                    self._cache.put(key, reply, reply.left_out)
                tried.add(key)
                return

    async def _send_next(self, left: Mapping[str, Body]) -> list[str]:
        """Send as many as one file and the money allow, fetch them, and return their keys."""
        lines, reserved = [], 0.0
        price, options = self._sender.price, self._sender.options
        money = None
        if options.max_cost is not None:
            money = options.max_cost - options.budget.spent
        total = 0
        keys: list[str] = []
        for key, body in left.items():
            line = json.dumps(
                {
                    "custom_id": key,
                    "method": "POST",
                    "url": "/v1/chat/completions",
                    "body": self._sender.as_sent(body),
                }
            )
            most = 0.0
            if price is not None:
                most = price.of(*measure(body).most(price.image_tokens), batch=True)
            total += len(line) + 1
            full = len(keys) >= _MOST_REQUESTS or (keys and total > _MOST_BYTES)
            if full or (money is not None and keys and reserved + most > money):
                break
            keys.append(key)
            lines.append(line)
            reserved += most
        # Raises where not even one fits.
        await options.budget.reserve(reserved, options.max_cost)
        try:
            batch = await self._send(keys, "\n".join(lines) + "\n")
        except BaseException:  # cancelled too: what was reserved is free again
            options.budget.commit(reserved, 0.0, requests=0)
            raise
        await self._fetch_for(batch, reserved)
        return keys

    async def _fetch_for(self, batch: Batch, reserved: float) -> None:
        """Fetch a batch and commit what it cost in place of what was reserved for it."""
        spent = _Spent()
        try:
            await self._fetch(batch, spent)
        finally:
            self._sender.options.budget.commit(
                reserved, spent.cost, spent.tokens, requests=spent.requests
            )

    async def _send(self, keys: list[str], text: str) -> Batch:
        name = hashlib.sha256("".join(keys).encode()).hexdigest()[:32]
        batch = Batch(name, None, keys)
        self._cache.keep_batch(self._endpoint, batch)
        client = self._sender.open()
        tries = 0

        async def create() -> str:
            nonlocal tries
            tries += 1
            # A try whose answer never came may have gone through; twice would be paid twice.
            batch_id = await self._find(name) if tries > 1 else None
            if batch_id is not None:
                return batch_id
            file = await client.with_options(timeout=_FILE_SECONDS).files.create(
                file=(f"{name}.jsonl", text.encode()), purpose="batch"
            )
            remote = await client.batches.create(
                input_file_id=file.id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={_LABEL: name},
            )
            return remote.id

        try:
            batch.id = await self._sender.retry(create)
        except (CallFailedError, EndpointError) as error:
            self._cache.drop_batch(batch)
            cause = str(error)
            if isinstance(error, EndpointError):
                if error.status != 404:
                    raise
                cause = "it has no Batch API"
            raise EndpointError(
                f"{self._endpoint}: takes no batch: {cause}; leave --batch-api out to ask directly"
            ) from error
        self._cache.keep_batch(self._endpoint, batch)
        self._report(f"batch {batch.id}: {len(keys)} requests sent")
        return batch

    async def _find_lost(self, batch: Batch) -> str | None:
        """Return the id of a batch whose run ended before it could record it."""
        try:
            return await self._sender.retry(lambda: self._find(batch.name))
        except CallFailedError as error:
            raise EndpointError(
                f"{self._endpoint}: does not list its batches: {error}; run again to go on"
            ) from error

    async def _find(self, name: str) -> str | None:
        seen = 0
        async for remote in self._sender.open().batches.list(limit=100):
            if (remote.metadata or {}).get(_LABEL) == name:
                return remote.id
            seen += 1
            if seen >= _MOST_SEARCHED:
                break
        return None

    async def _fetch(self, batch: Batch, spent: _Spent) -> None:
        """Wait for a batch and put its answers into the cache; `spent` gets what they cost."""
        try:
            remote = await self._wait(batch)
            for file_id in (remote.output_file_id, remote.error_file_id):
                if file_id:
                    self._keep_answers(await self._download(file_id), batch, spent)
        except CallFailedError as error:
            raise EndpointError(
                f"{self._endpoint}: batch {batch.id}: {error}; run again to go on"
            ) from error
        self._cache.drop_batch(batch)
        missing = len(batch.keys) - spent.requests - spent.failed
        if remote.status == "completed":
            self._report(
                f"batch {batch.id}: {spent.requests} answers, {missing + spent.failed} none"
            )
            return
        causes = [error.message for error in (remote.errors.data if remote.errors else None) or ()]
        said = hide_key(f" ({shorten(causes[0] or '')})" if causes else "", self._sender.endpoint)
        raise EndpointError(
            f"{self._endpoint}: batch {batch.id} {remote.status}{said}: {spent.requests} answers"
            f" are kept, {missing + spent.failed} are missing; run again to send the rest"
        )

    async def _wait(self, batch: Batch) -> RemoteBatch:
        client, pause = self._sender.open(), self._sender.first_wait
        batch_id = batch.id or ""
        while True:
            try:
                remote = await self._sender.retry(lambda: client.batches.retrieve(batch_id))
            except EndpointError as error:
                if error.status == 404:
                    self._cache.drop_batch(batch)
                    raise EndpointError(
                        f"{self._endpoint}: knows no batch {batch_id} (any more); run again to"
                        " send its requests anew"
                    ) from error
                raise
            counts = remote.request_counts
            if counts is not None:
                done = counts.completed + counts.failed
                self._report(f"batch {batch_id}: {remote.status}, {done} of {counts.total} done")
            if remote.status in _ENDED:
                return remote
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_POLL_S)

    async def _download(self, file_id: str) -> str:
        from sharegptvideo.endpoint.http import BoundedClient

        async with BoundedClient(_MOST_FILE_BYTES) as http:
            client = self._sender.open().with_options(http_client=http, timeout=_FILE_SECONDS)

            async def download() -> str:
                return (await client.files.content(file_id)).text

            return await self._sender.retry(download)

    def _keep_answers(self, text: str, batch: Batch, spent: _Spent) -> None:
        """Keep the answers in a batch's file; a line without one counts as failed."""
        price, known = self._sender.price, set(batch.keys)
        for line in text.splitlines():
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                if row["custom_id"] not in known:
                    continue
                response = row.get("response") or {}
                if response.get("status_code") != 200:
                    raise NoCompletionError("no answer")
                reply = self._sender.read(response.get("body"))
            except (
                NoCompletionError,
                ServerSaidError,
                RecursionError,
                ValueError,
                KeyError,
                TypeError,
                AttributeError,
            ):
                spent.failed += 1
                continue
            spent.tokens += reply.tokens
            if price is not None:
                prompt = reply.tokens - reply.completion_tokens
                cost = price.of(prompt, reply.completion_tokens, batch=True)
                reply = replace(reply, dollars=cost)
                spent.cost += cost
            if reply.failure is None:
                known.discard(row["custom_id"])
                self._cache.put(row["custom_id"], reply, self._sender.refused)
                spent.requests += 1
            else:  # paid for, and no answer
                spent.failed += 1

    def _report(self, line: str) -> None:
        if self._sender.options.report and line != self._last_line:
            self._last_line = line
            self._sender.options.report(line)


@dataclass(slots=True)
class _Spent:
    """Answers, failures, tokens and cost of a batch so far."""

    requests: int = 0
    failed: int = 0
    tokens: int = 0
    cost: float = 0.0
