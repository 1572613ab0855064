"""Answers from a model that an OpenAI-compatible endpoint serves, with a clip in the prompt."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections import deque
from collections.abc import Awaitable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sharegptvideo.endpoint import (
    CallFailedError,
    ChatClient,
    EndpointError,
    EndpointOptions,
    Estimate,
    NoAnswerError,
    Reply,
    in_parallel,
)
from sharegptvideo.endpoint.messages import (
    LONGEST_SIDE,
    QUALITY,
    frame_urls,
    with_pictures,
    with_video,
)
from sharegptvideo.errors import UserError
from sharegptvideo.media.facts import read_facts
from sharegptvideo.media.folder import FOLDER_FPS
from sharegptvideo.models.base import Answer, Model, Question, Request, SamplingParams
from sharegptvideo.models.settings import AnswerSettings

__all__ = ["Send", "ServedModel"]

Send = Literal["auto", "video", "pictures"]
"""How the frames of a clip are sent; "auto": as one video where the server takes it."""


class ServedModel(Model):
    """`openai:NAME`: the frames of a clip as one video or as pictures, then the prompt.

    A call for each answer. Sampled answers to a question differ in the seed that is sent; by it
    they are kept in the cache of replies, so that a run that is taken up again pays for none twice.

    Of the calls about a clip the first goes ahead, and the others follow when it is answered: they
    begin with the same tokens, which the server then has in its prefix cache.
    """

    obeys = Model.obeys | {"max_pixels", "repetition_penalty", "system", "top_k"}

    def __init__(
        self,
        name: str,
        *,
        base_url: str | None = None,
        options: EndpointOptions | None = None,
        send: Send = "auto",
        settings: AnswerSettings | None = None,
    ) -> None:
        """Nothing is contacted before `check`."""
        self.settings = settings or AnswerSettings()
        self.spec = f"openai:{name}"
        self._name = name
        self._client = ChatClient(name, base_url=base_url, options=options)
        self.width = self._client.width
        self._as_video = send == "video"
        self._reason = None if send == "auto" else "as asked for (--send)"
        self._clips = itertools.count(1)

    @property
    def refused(self) -> Collection[str]:  # type: ignore[override]  # known after the first calls
        """Parameters that the endpoint refused, and that were left out."""
        return sorted(self._client.refused)

    def describe(self) -> dict[str, Any]:
        """Return kind, name, endpoint, and, once that is known, how frames are sent and why.

        Raises:
            UserError: no endpoint is set.
        """
        sent = {"send": "video" if self._as_video else "pictures", "send_reason": self._reason}
        asked = self.settings.given
        return {
            "kind": "openai",
            "name": self._name,
            "temperature": 0,
            "jpeg": {"quality": QUALITY, "longest_side": LONGEST_SIDE},
            **(sent if self._reason else {}),
            "endpoint": self._client.endpoint.base_url,
            **{name: asked[name] for name in ("system", "max_pixels") if name in asked},
        }

    def go_on(self, recorded: Mapping[str, Any]) -> None:
        """Send frames as the run did before, unless that was asked for otherwise."""
        if self._reason is None:
            self._as_video = recorded.get("send") == "video"
            self._reason = recorded.get("send_reason") or "a run of an earlier version"

    def check(
        self,
        questions: Sequence[Question],  # noqa: ARG002 - takes any
        every: Iterable[Question],  # noqa: ARG002
    ) -> dict[str, dict[str, Any]]:
        """Contact the endpoint; find out how it takes frames, where that is open.

        Raises:
            UserError: none is set, it does not answer, it does not know the model, or it refuses a
                setting of decoding.
        """
        self._client.check()
        params = self.settings.params(1)
        if sent := _drawn(params, 0) | _beyond(params):
            self._try_settings(sent)
        if self._reason is None:
            self._as_video, self._reason = _takes_video(self._client)
        return {}

    def _try_settings(self, sent: Mapping[str, Any]) -> None:
        """Ask for one token with the settings of decoding, which a call would go without.

        Servers that take a setting and leave it unused do not say so.

        Raises:
            UserError: the endpoint refuses one.
        """
        try:
            self._client.try_out([{"role": "user", "content": "Hi"}], sent)
        except CallFailedError as error:
            cause = str(error)
        else:
            refused = sorted(self._client.refused & sent.keys())
            cause = f"it refuses {', '.join(refused)}" if refused else ""
        if cause:
            raise UserError(f"model {self.spec}: cannot be asked with --generation: {cause}")

    def render(self, prompt: str) -> str:
        """Return the system text, where one was asked for, and the prompt."""
        system = self.settings.system
        return prompt if system is None else f"{system}\n\n{prompt}"

    def estimate(self, prompts: Iterable[str], *, frames: int, params: SamplingParams) -> Estimate:
        """Estimate what the answers will cost, from the length of the prompts."""
        empty = [""] * frames
        return self._client.estimate(
            (
                self._messages(with_pictures(prompt, empty))
                for prompt in prompts
                for _ in range(params.n)
            ),
            max_tokens=params.max_new_tokens,
        )

    def generate(self, requests: Sequence[Request], params: SamplingParams) -> Iterator[Answer]:
        """Ask for all answers, several at a time; yield each request's as they are complete.

        See `stream`.
        """
        return self.stream([requests], params)

    def stream(
        self, batches: Iterable[Sequence[Request]], params: SamplingParams
    ) -> Iterator[Answer]:
        """Yield the answers to all batches as they come, with no wait where one ends.

        A call that fails, or whose reply is no answer (cut off, withheld, refused, empty), leaves
        its request without answers; what such a reply held is in `reasoning` and `partial`.

        Raises:
            UserError: the endpoint cannot be used any more.
        """
        replies: dict[int, dict[int, Reply | CallFailedError]] = {}
        for call, reply in in_parallel(
            lambda call: self._reply(call, params),
            self._calls(batches, params),
            width=self._client.width,
            finish=self._client.close,
            group=lambda call: call.clip.number,
            opens=_was_read,
        ):
            done = replies.setdefault(call.position, {})
            done[call.number] = reply
            if len(done) == call.together:
                yield _answer(call.request, replies.pop(call.position))

    async def answer_all(self, requests: Sequence[Request], params: SamplingParams) -> list[Answer]:
        """Return the answers to requests, in their order; for coroutines of one event loop.

        The first call about a clip goes ahead of the others; see `stream` for failures.

        Raises:
            UserError: the endpoint cannot be used any more; calls under way have ended.
        """
        calls = await asyncio.to_thread(list, self._calls([requests], params))
        of_clip: dict[int | None, list[_Call]] = {}
        for call in calls:
            of_clip.setdefault(call.clip.number, []).append(call)
        replies: dict[int, dict[int, Reply | CallFailedError]] = {}

        async def ask(call: _Call) -> Reply | CallFailedError:
            reply = await self._reply(call, params)
            replies.setdefault(call.position, {})[call.number] = reply
            return reply

        async def ask_in_turn(calls: Sequence[_Call]) -> None:
            left = deque(calls)
            if calls[0].clip.number is not None:
                while left and not _was_read(await ask(left.popleft())):
                    pass
            await _all_of(map(ask, left))

        await _all_of(map(ask_in_turn, of_clip.values()))
        return [_answer(request, replies[place]) for place, request in enumerate(requests)]

    async def close(self) -> None:
        """Close the connections of the running event loop."""
        await self._client.close()

    async def _reply(self, call: _Call, params: SamplingParams) -> Reply | CallFailedError:
        """Return the reply to one call, or why it failed."""
        text = {"type": "text", "text": call.request.prompt}
        schema = call.request.schema
        try:
            reply = await self._client.complete(
                self._messages([*call.clip.parts, text]),
                response_format=None if schema is None else _response_format(schema),
                max_tokens=params.max_new_tokens,
                extra={**(call.clip.extra or {}), **_beyond(params)},
                **_drawn(params, call.number),
            )
        except CallFailedError as error:
            return error
        return replace(reply, text=reply.text.strip())

    def _messages(self, content: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the messages of a call, the system text first where one was asked for."""
        system = self.settings.system
        first = [] if system is None else [{"role": "system", "content": system}]
        return [*first, {"role": "user", "content": content}]

    def _calls(
        self, batches: Iterable[Sequence[Request]], params: SamplingParams
    ) -> Iterator[_Call]:
        """Yield the calls; those about a clip share what is sent of it.

        They hold no frames where they need not: many wait at once, and what is sent is smaller.
        """
        frames, clip, position = None, _Clip(), 0
        for batch in batches:
            for request in batch:
                if isinstance(request.sent, _Clip):
                    frames, clip = None, request.sent
                elif request.frames is None:
                    frames, clip = None, _Clip()
                elif request.frames is not frames:
                    frames, clip = request.frames, self._clip(request)
                for number in range(params.n):
                    yield _Call(request.bare, number, position, params.n, clip)
                position += 1

    def packed(self, request: Request) -> Request:
        """Return a request with what is sent of its frames, in their place; safe for threads."""
        if request.frames is None:
            return request
        return replace(request, frames=None, sent=self._clip(request))

    def _clip(self, request: Request) -> _Clip:
        assert request.frames is not None
        most = self.settings.max_pixels
        urls, number = frame_urls(request.frames, most), next(self._clips)
        if not self._as_video:
            return _Clip(number, with_pictures("", urls)[:-1])
        return _Clip(number, with_video("", urls)[:-1], _video_arguments(request, self._name))


@dataclass(frozen=True, slots=True)
class _Clip:
    """What is sent of a clip: the parts of the message before the question, and parameters."""

    number: int | None = None
    parts: Sequence[dict[str, Any]] = ()
    extra: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class _Call:
    """One answer that is asked for: its number, its request's position, and calls for that."""

    request: Request
    number: int
    position: int
    together: int
    clip: _Clip


async def _all_of(calls: Iterable[Awaitable[Any]]) -> None:
    """Await all; then raise the first error, if there is one. What fails alone is a result."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        task.result()


def _response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameter that asks for an answer of a JSON schema."""
    named = {"name": "answer", "strict": True, "schema": dict(schema)}
    return {"type": "json_schema", "json_schema": named}


def _was_read(reply: Reply | CallFailedError) -> bool:
    """Return whether the server has read the clip for this reply, and so may have it cached."""
    if isinstance(reply, Reply):
        return not reply.cached
    return isinstance(reply, NoAnswerError)


_FPS_AS_ARGUMENT = ("qwen2-vl", "qwen2_vl", "qwen2.5-vl", "qwen2_5-vl", "qwen2_5_vl")


def _video_arguments(request: Request, name: str) -> dict[str, Any]:
    """Return where the frames stand in the clip, in the parameters that vLLM has for it.

    Models that write times into the prompt (Qwen3-VL) take them from there. Qwen2-VL and
    Qwen2.5-VL take frames a second of what is sent, as an argument of their processor.
    """
    assert request.frames is not None
    count = len(request.frames)
    indices = list(range(count)) if request.indices is None else [int(i) for i in request.indices]
    fps, total = request.fps, indices[-1] + 1
    if request.indices is not None and request.question and request.question.video_path:
        facts = read_facts(Path(request.question.video_path))
        fps, total = fps or facts.fps, max(total, facts.frames or 0)
    fps = fps or float(FOLDER_FPS)
    about = {
        "num_frames": -1,  # all that are sent, and not the server's default
        "fps": fps,
        "frames_indices": indices,
        "total_num_frames": total,
        "duration": total / fps,
        "do_sample_frames": False,
    }
    arguments: dict[str, Any] = {"media_io_kwargs": {"video": about}}
    if any(kind in name.lower() for kind in _FPS_AS_ARGUMENT):
        sent = {"fps": count / total * fps, "do_sample_frames": False}
        arguments["mm_processor_kwargs"] = sent
    return arguments


# A trial has a video of few frames and one of four more. They are noise, so that one frame is
# 60,000 characters in base64: no number of tokens can be taken for both, frame and text.
_FEW, _MORE, _SIDE = 2, 6, 224
_TOKENS_A_FRAME = (1, 4096)


def _takes_video(client: ChatClient) -> tuple[bool, str]:
    """Return whether the server takes frames as one video, and how that was found out.

    Two calls for one token each. A server that refuses the part says so. One that ignores it, or
    decodes the first frame alone, counts no more tokens for more frames; one that takes it for
    text counts far too many.

    Raises:
        UserError: the endpoint cannot be used.
    """
    try:
        few, more = (client.try_out(*_trial(count)) for count in (_FEW, _MORE))
    except CallFailedError as error:
        return False, f"the server does not take a video: {error}"
    except EndpointError as error:
        # Routers say with a 404 that no model takes videos; one that is gone will say so again.
        if error.status not in {400, 403, 404, 410}:
            raise
        return False, f"the server does not take a video: HTTP {error.status}"
    if not more.prompt_tokens:
        return False, "the server counts no prompt tokens, so whether it takes a video is unknown"
    tokens = (more.prompt_tokens - few.prompt_tokens) / (_MORE - _FEW)
    least, most = _TOKENS_A_FRAME
    counted = f"{few.prompt_tokens} prompt tokens for {_FEW} frames of a video"
    counted += f" and {more.prompt_tokens} for {_MORE}"
    return least <= tokens <= most, f"the server counts {counted}"


def _trial(count: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return messages with a video of noise, and the parameters that go with it."""
    import numpy as np

    shape = (_MORE, _SIDE, _SIDE, 3)
    frames = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)[:count]
    content = with_video("Hi", frame_urls(frames))
    return [{"role": "user", "content": content}], _video_arguments(Request("", frames), "")


def _answer(request: Request, replies: Mapping[int, Reply | CallFailedError]) -> Answer:
    outcomes = [reply for _, reply in sorted(replies.items())]
    errors = [str(outcome) for outcome in outcomes if isinstance(outcome, CallFailedError)]
    partial = [
        outcome.reply.text or None if isinstance(outcome, NoAnswerError) else None
        for outcome in outcomes
    ]
    given = [
        outcome.reply if isinstance(outcome, NoAnswerError) else outcome for outcome in outcomes
    ]
    reasoning = [reply.reasoning if isinstance(reply, Reply) else None for reply in given]
    dollars = [outcome.dollars for outcome in given if outcome.dollars is not None]
    return Answer(
        request,
        () if errors else tuple(reply.text for reply in given if isinstance(reply, Reply)),
        error=errors[0] if errors else None,
        reasoning=tuple(reasoning) if any(reasoning) else (),
        partial=tuple(partial) if any(partial) else (),
        usage=_usage([reply for reply in given if isinstance(reply, Reply)]),
        answered_by=next((reply.model for reply in given if isinstance(reply, Reply)), None),
        attempts=sum(outcome.attempts for outcome in given),
        dollars=sum(dollars) if dollars else None,
    )


def _usage(replies: Sequence[Reply]) -> dict[str, int | None] | None:
    """Return the tokens of replies together, None where the server counts none."""
    if not any(reply.prompt_tokens for reply in replies):
        return None
    cached = [reply.cached_tokens for reply in replies if reply.cached_tokens is not None]
    return {
        "prompt_tokens": sum(reply.prompt_tokens for reply in replies),
        "cached_tokens": sum(cached) if len(cached) == len(replies) else None,
        "completion_tokens": sum(reply.completion_tokens for reply in replies),
    }


def _beyond(params: SamplingParams) -> dict[str, Any]:
    """Return what is sent of `params` under names that vLLM and others have, and OpenAI has not."""
    asked = {"top_k": params.top_k, "repetition_penalty": params.repetition_penalty}
    return {name: value for name, value in asked.items() if value is not None}


def _drawn(params: SamplingParams, number: int) -> dict[str, Any]:
    """Return what is sent of `params`; the answers of one seed get seeds of their own.

    31 bits, which every server takes.
    """
    if params.greedy:
        return {}
    digest = hashlib.blake2b(f"{params.seed}\n{number}".encode(), digest_size=4).digest()
    seed = int.from_bytes(digest, "little") >> 1
    return {"temperature": params.temperature, "top_p": params.top_p, "seed": seed}
