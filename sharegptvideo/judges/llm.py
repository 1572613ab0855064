"""`openai:NAME`: a language model served by an OpenAI-compatible endpoint as the judge."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from sharegptvideo.endpoint import (
    CallFailedError,
    ChatClient,
    EndpointOptions,
    Estimate,
    Message,
    NoAnswerError,
    Reply,
    ReplyStore,
    in_parallel,
)
from sharegptvideo.endpoint.messages import LONGEST_SIDE, QUALITY, frame_urls, with_pictures
from sharegptvideo.errors import UserError
from sharegptvideo.judges.base import Claims, Judge, JudgeItem, Verdict, known_sum
from sharegptvideo.judges.protocol import ASPECTS, UnreadableError, load_protocol
from sharegptvideo.media import MediaError

__all__ = ["OpenAIJudge"]

_SEEING = {"sees": "frames", "jpeg": {"quality": QUALITY, "longest_side": LONGEST_SIDE}}
_QUOTED = 4000  # characters of an unreadable reply that it is shown again
# Questions come clip by clip, so a few clips are enough; 8 pictures take about half a megabyte.
_KEPT = 32


class OpenAIJudge(Judge):
    """Asks for one verdict an item; a reply that cannot be read is asked for once more."""

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        protocol: str = "caption-grounded",
        prompt_file: Path | None = None,
        sees: Literal["frames"] | None = None,
        options: EndpointOptions | None = None,
        client: ChatClient | None = None,
    ) -> None:
        """`client` replaces the one made from `model`, `base_url` and `options`.

        For `protocol`, `prompt_file` and `sees` see `load_protocol`.

        Raises:
            UserError: a prompt file that cannot be used; frames by the Batch API.
        """
        self.name = f"openai:{model}"
        self._protocol = load_protocol(protocol, prompt_file, sees=sees)
        self.needs_frames = self._protocol.sees == "frames"
        self.needs_reference = self._protocol.protocol != "frames"
        self.compares_pairs = self._protocol.protocol == "consistency"
        if self._protocol.protocol in ("claims", *ASPECTS):
            self.headline = "f1" if self._protocol.protocol == "claims" else "score"
        self.scale = (self._protocol.lowest, self._protocol.highest)
        self._pictures = _ClipPictures(self._protocol.frames or 1)
        self._client = client or ChatClient(model, base_url=base_url, options=options)
        self.width = self._client.width
        if self.needs_frames and self._client.options.batch_api:
            raise UserError("a judge that sees frames cannot use the Batch API, which takes texts")

    def describe(self) -> dict[str, Any]:
        """Name, kind, model asked for, prompt version and hash, decoding, endpoint.

        Raises:
            UserError: no endpoint is set.
        """
        return {
            "name": self.name,
            "kind": "openai",
            **self._about(),
            "temperature": 0,
            "max_tokens": self._protocol.reply_tokens,
            **(_SEEING if self.needs_frames else {}),
            "endpoint": self._client.known_as,
        }

    def check(self) -> None:
        """Contact the endpoint; see `ChatClient.check`."""
        self._client.check()

    def judge(self, items: Sequence[JudgeItem]) -> Iterator[Verdict]:
        """Yield verdicts as they come.

        An item is unscored where a call failed or its reply was no answer (empty, cut off, refused,
        withheld): worth asking again, so what was said is in `judge["partial"]` and there is no
        reply; or where the second reply could not be read either (both kept, in the order of their
        coming).

        Raises:
            UserError: the endpoint cannot be used, or is gone; the verdicts so far are out.
        """
        self.prefetch(items)
        done = in_parallel(self._verdict, items, width=self._client.width, finish=self.close)
        for _, verdict in done:
            yield verdict

    async def verdicts(self, items: Sequence[JudgeItem]) -> list[Verdict]:
        """Return the verdicts, see `judge`; all are asked for at once.

        Raises:
            UserError: the endpoint cannot be used, or is gone; calls under way have ended.
        """
        calls = [asyncio.ensure_future(self._verdict(item)) for item in items]
        await asyncio.gather(*calls, return_exceptions=True)
        return [call.result() for call in calls]

    def prefetch(self, items: Iterable[JudgeItem]) -> None:
        """Ask by the Batch API, where the options say so; see `ChatClient.prefetch`."""
        self._client.prefetch(
            (self._protocol.messages(item) for item in items),
            response_format=self._protocol.response_format(),
            max_tokens=self._protocol.reply_tokens,
        )

    def keep_replies(self, store: ReplyStore) -> None:
        """Take replies from a store, and keep there what is asked."""
        self._client.keep_replies(store)

    async def close(self) -> None:
        """Close the connections of the running event loop."""
        self._pictures.clear()
        await self._client.close()

    def estimate(self, items: Iterable[JudgeItem]) -> Estimate:
        """Return what asking will take, without repairs; see `ChatClient.estimate`."""
        return self._client.estimate(
            (self._asked(item) for item in items),
            response_format=self._protocol.response_format(),
            max_tokens=self._protocol.reply_tokens,
        )

    def _asked(self, item: JudgeItem) -> list[dict[str, Any]]:
        """Return the messages about an item, with empty places for the pictures."""
        messages: list[dict[str, Any]] = [*self._protocol.messages(item)]
        if self.needs_frames:
            empty = [""] * (self._protocol.frames or 1)
            messages[-1]["content"] = with_pictures(messages[-1]["content"], empty)
        return messages

    def _about(self) -> dict[str, Any]:
        return {
            "model": self._client.model,
            "protocol": self._protocol.protocol,
            "prompt_version": self._protocol.version,
            "prompt_hash": self._protocol.hash,
        }

    async def _verdict(self, item: JudgeItem) -> Verdict:
        messages: list[dict[str, Any]] = [*self._protocol.messages(item)]
        seen: dict[str, Any] = {"answer_cut": True} if self._protocol.is_cut(item) else {}
        if self.needs_frames:
            if item.clip is None:
                return self._make(item, [], f"the clip {item.video} is missing", seen)
            try:
                pictures = await self._pictures.of(item.clip)
            except MediaError as error:
                return self._make(item, [], f"the clip cannot be shown: {error}", seen)
            messages[-1]["content"] = with_pictures(messages[-1]["content"], pictures.urls)
            seen["frame_indices"] = pictures.indices
        return await self._ask(item, messages, seen)

    async def _ask(
        self, item: JudgeItem, messages: list[dict[str, Any]], seen: dict[str, Any]
    ) -> Verdict:
        """Ask for the verdict, and where the reply cannot be read, once more."""
        replies: list[Reply] = []
        problem = ""
        for _ in range(2):
            try:
                reply = await self._client.complete(
                    cast(list[Message], messages),  # pictures make a content a list
                    response_format=self._protocol.response_format(),
                    max_tokens=self._protocol.reply_tokens,
                )
                replies.append(reply)
                return self._make(item, replies, self._protocol.read(reply.text), seen)
            except NoAnswerError as error:
                replies.append(error.reply)
                cause = f"it is {error.reply.failure}"
                problem = f"the judge gave no verdict: {error}"
            except CallFailedError as error:
                return self._make(item, replies, f"the call failed: {error}", seen, answered=False)
            except UnreadableError as error:
                cause = str(error)
                problem = f"the reply cannot be read: {cause}"
            messages = [
                *messages,
                {"role": "assistant", "content": _repeatable(replies[-1].text)},
                {"role": "user", "content": self._protocol.ask_again(cause)},
            ]
        answered = replies[-1].failure is None
        return self._make(item, replies, problem, seen, answered=answered)

    def _make(
        self,
        item: JudgeItem,
        replies: Sequence[Reply],
        outcome: tuple[bool, float, str | None] | Claims | str,
        seen: Mapping[str, Any],
        *,
        answered: bool = True,
    ) -> Verdict:
        """Return the verdict, from what was read or from the reason why there is none.

        `answered` is whether every call ended with an answer: else the next run asks again.
        """
        last = replies[-1] if replies else None
        about = self._about() | {
            "answered_by": last.model if last else None,
            "fingerprint": last.fingerprint if last else None,
            **seen,
        }
        left_out = {name for reply in replies for name in reply.left_out}
        if left_out:
            about["left_out"] = sorted(left_out)
        reasoning = [reply.reasoning for reply in replies if reply.reasoning]
        if reasoning:
            about["reasoning"] = "\n---\n".join(reasoning)
        # Apart from the verdict's own words: what was cut off or withheld, or is asked for again.
        kept = [reply for reply in replies if answered and reply.failure is None]
        partial = [reply.text for reply in replies if reply not in kept and reply.text]
        if partial:
            about["partial"] = "\n---\n".join(partial)
        correct: bool | None = None
        score: float | None = None
        claims: Claims | None = None
        reason: str | None
        if isinstance(outcome, str):
            reason = outcome
        elif isinstance(outcome, Claims):
            claims, score, reason = outcome, outcome.f1, str(outcome)
        else:
            correct, score, reason = outcome
        return Verdict(
            id=item.id,
            status="unscored" if score is None else "scored",
            correct=correct,
            score=None if score is None else float(score),
            reason=reason,
            reply="\n---\n".join(reply.text for reply in kept) if kept else None,
            judge=about,
            tokens=sum(reply.tokens for reply in replies),
            repaired=score is not None and len(replies) > 1,
            dollars=known_sum(reply.dollars for reply in replies),
            claims=claims,
            replies=tuple(replies),
        )


def _repeatable(reply: str) -> str:
    """Return a reply as a turn of the conversation, as servers take it: valid UTF-8, not empty."""
    return reply[:_QUOTED].encode("utf-8", "replace").decode() or "(nothing)"


@dataclass(frozen=True, slots=True)
class _Pictures:
    """JPEG data URLs of the frames of a clip, and which frames of it they are, from 0."""

    urls: list[str]
    indices: list[int]


class _ClipPictures:
    """The frames that a judge is sent: each clip is decoded once for all its questions.

    In threads, for the tasks of one event loop at a time.
    """

    def __init__(self, count: int) -> None:
        """`count`: frames per clip, spread over the whole of it."""
        self._count = count
        self._kept: OrderedDict[str, asyncio.Future[_Pictures]] = OrderedDict()

    async def of(self, clip: str) -> _Pictures:
        """Return the pictures of the clip at the path `clip`.

        Raises:
            MediaError: it cannot be read.
        """
        if clip not in self._kept:
            self._kept[clip] = asyncio.ensure_future(asyncio.to_thread(self._sample, clip))
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(clip)
        # Several questions wait for one decoding; a cancelled one must not take it from the rest.
        return await asyncio.shield(self._kept[clip])

    def clear(self) -> None:
        """Drop all; called when the event loop ends, which the waiting results belong to."""
        self._kept.clear()

    def _sample(self, clip: str) -> _Pictures:
        from sharegptvideo.media import sample_frames

        frames, indices = sample_frames(clip, self._count)
        return _Pictures(frame_urls(frames), [int(index) for index in indices])
