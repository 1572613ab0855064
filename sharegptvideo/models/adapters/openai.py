"""Answers from a model behind an OpenAI-compatible endpoint that takes images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from sharegptvideo.endpoint import (
    CallFailedError,
    ChatClient,
    EndpointOptions,
    Estimate,
    in_parallel,
)
from sharegptvideo.endpoint.messages import LONGEST_SIDE, QUALITY, frame_urls, with_pictures
from sharegptvideo.models.types import Answer, Question, Request

__all__ = ["OpenAIModel"]


class OpenAIModel:
    """`openai:NAME`: the frames as JPEG pictures in order, then the prompt, at temperature 0."""

    needs_frames = True
    frames: int | None = None

    def __init__(
        self, name: str, *, base_url: str | None = None, options: EndpointOptions | None = None
    ) -> None:
        """Nothing is contacted before `check`."""
        self.spec = f"openai:{name}"
        self._name = name
        self._client = ChatClient(name, base_url=base_url, options=options)

    def describe(self) -> dict[str, Any]:
        """Kind, name, how frames are sent, endpoint.

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
        every: Iterable[Question],  # noqa: ARG002 - takes any
    ) -> dict[str, dict[str, Any]]:
        """Contact the endpoint.

        Raises:
            UserError: none is set, it does not answer, or it does not know the model.
        """
        self._client.check()
        return {}

    def render(self, prompt: str) -> str:
        """The prompt as it is; the server's chat template is not known here."""
        return prompt

    def estimate(self, prompts: Iterable[str], *, frames: int, max_new_tokens: int) -> Estimate:
        """What answers to prompts about clips of so many frames will take; asks nothing."""
        empty = [""] * frames
        return self._client.estimate(
            ([{"role": "user", "content": with_pictures(prompt, empty)}] for prompt in prompts),
            max_tokens=max_new_tokens,
        )

    def answer(
        self, batch: Sequence[Request], *, max_new_tokens: int
    ) -> Iterator[tuple[int, Answer]]:
        """Ask for all answers of the batch, several at a time; yield them as they come.

        Raises:
            UserError: the endpoint cannot be used any more.
        """
        urls: dict[int, list[str]] = {}  # by array: the questions about a clip share its pictures
        for request in batch:
            if request.frames is not None and id(request.frames) not in urls:
                urls[id(request.frames)] = frame_urls(request.frames)

        async def ask(position: int) -> Answer:
            request = batch[position]
            content = with_pictures(request.prompt, urls.get(id(request.frames), []))
            message = cast(Mapping[str, str], {"role": "user", "content": content})
            try:
                reply = await self._client.complete([message], max_tokens=max_new_tokens)
            except CallFailedError as error:
                return Answer(error=str(error))
            if reply.finish_reason == "content_filter":
                return Answer(error="withheld by the endpoint's content filter")
            return Answer(text=reply.text.strip())

        yield from in_parallel(
            ask, range(len(batch)), width=self._client.width, finish=self._client.close
        )
