"""Answers from a model that an OpenAI-compatible endpoint serves, with images in the prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sharegptvideo.endpoint import (
    CallFailedError,
    ChatClient,
    EndpointOptions,
    Estimate,
    NoAnswerError,
    Reply,
    in_parallel,
)
from sharegptvideo.endpoint.messages import LONGEST_SIDE, QUALITY, frame_urls, with_pictures
from sharegptvideo.models.base import Answer, Model, Question, Request, SamplingParams

__all__ = ["ServedModel"]


class ServedModel(Model):
    """`openai:NAME`: the frames as JPEG pictures in order, then the prompt.

    A call for each answer, so that one can be asked for by its number. Sampled answers to a
    question differ in the seed that is sent; by it they are kept in the cache of replies, so that a
    run that is taken up again pays for none twice.
    """

    draws_apart = True

    def __init__(
        self, name: str, *, base_url: str | None = None, options: EndpointOptions | None = None
    ) -> None:
        """Nothing is contacted before `check`."""
        self.spec = f"openai:{name}"
        self._name = name
        self._client = ChatClient(name, base_url=base_url, options=options)
        self.width = self._client.width

    @property
    def refused(self) -> Collection[str]:  # type: ignore[override]  # known after the first calls
        """Parameters that the endpoint refused, and that were left out."""
        return sorted(self._client.refused)

    def describe(self) -> dict[str, Any]:
        """Return kind, name, how frames are sent, endpoint.

        Raises:
            UserError: no endpoint is set.
        """
        return {
            "kind": "openai",
            "name": self._name,
            "temperature": 0,
            "jpeg": {"quality": QUALITY, "longest_side": LONGEST_SIDE},
            "endpoint": self._client.endpoint.base_url,
        }

    def check(
        self,
        questions: Sequence[Question],  # noqa: ARG002 - takes any
        every: Iterable[Question],  # noqa: ARG002
    ) -> dict[str, dict[str, Any]]:
        """Contact the endpoint.

        Raises:
            UserError: none is set, it does not answer, or it does not know the model.
        """
        self._client.check()
        return {}

    def estimate(self, prompts: Iterable[str], *, frames: int, params: SamplingParams) -> Estimate:
        """Estimate what the answers will cost, from the length of the prompts."""
        empty = [""] * frames
        return self._client.estimate(
            (
                [{"role": "user", "content": with_pictures(prompt, empty)}]
                for prompt in prompts
                for _ in range(params.n)
            ),
            max_tokens=params.max_new_tokens,
        )

    def generate(self, requests: Sequence[Request], params: SamplingParams) -> Iterator[Answer]:
        """Ask for all answers, several at a time; yield each request's as they are complete.

        A call that fails, or whose reply is no answer (cut off, withheld, refused, empty), leaves
        its request without answers; what such a reply held is in `reasoning` and `partial`.

        Raises:
            UserError: the endpoint cannot be used any more.
        """
        urls: dict[int, list[str]] = {}  # by array: the questions about a clip share its pictures
        for request in requests:
            if request.frames is not None and id(request.frames) not in urls:
                urls[id(request.frames)] = frame_urls(request.frames)

        async def ask(call: tuple[int, int]) -> Reply | CallFailedError:
            position, number = call
            request = requests[position]
            content: Any = with_pictures(request.prompt, urls.get(id(request.frames), []))
            message: Mapping[str, Any] = {"role": "user", "content": content}
            try:
                reply = await self._client.complete(
                    [message], max_tokens=params.max_new_tokens, **_drawn(params, number)
                )
            except CallFailedError as error:
                return error
            return replace(reply, text=reply.text.strip())

        wanted = [
            range(params.n) if request.number is None else (request.number,) for request in requests
        ]
        calls = [(at, number) for at, numbers in enumerate(wanted) for number in numbers]
        replies: dict[int, dict[int, Reply | CallFailedError]] = {}
        for (at, number), reply in in_parallel(
            ask, calls, width=self._client.width, finish=self._client.close
        ):
            replies.setdefault(at, {})[number] = reply
            if len(replies[at]) == len(wanted[at]):
                yield _answer(requests[at], replies.pop(at))


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
    return Answer(
        request,
        () if errors else tuple(reply.text for reply in given if isinstance(reply, Reply)),
        error=errors[0] if errors else None,
        reasoning=tuple(reasoning) if any(reasoning) else (),
        partial=tuple(partial) if any(partial) else (),
    )


def _drawn(params: SamplingParams, number: int) -> dict[str, Any]:
    """Return what is sent of `params`; the answers of one seed get seeds of their own.

    31 bits, which every server takes.
    """
    if params.greedy:
        return {}
    digest = hashlib.blake2b(f"{params.seed}\n{number}".encode(), digest_size=4).digest()
    seed = int.from_bytes(digest, "little") >> 1
    return {"temperature": params.temperature, "top_p": params.top_p, "seed": seed}
