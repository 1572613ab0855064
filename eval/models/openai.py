"""Answers from a model behind an OpenAI-compatible endpoint that takes images."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from sharegptvideo.eval.types import Answer, Question, Request
from sharegptvideo.llm import CallFailedError, ChatClient, in_parallel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["OpenAIModel", "frame_urls"]

_QUALITY = 90
_LONGEST_SIDE = 768
_WIDTH = 8


class OpenAIModel:
    """`openai:NAME`: the frames as JPEG pictures in order, then the prompt, at temperature 0."""

    needs_frames = True
    frames: int | None = None

    def __init__(self, name: str, *, base_url: str | None = None) -> None:
        """Nothing is contacted before `check`."""
        self.spec = f"openai:{name}"
        self._name = name
        self._client = ChatClient(name, base_url=base_url)

    def describe(self) -> dict[str, Any]:
        """Kind, name, how frames are sent, endpoint.

        Raises:
            UserError: no endpoint is set.
        """
        return {
            "kind": "openai",
            "name": self._name,
            "temperature": 0,
            "jpeg": {"quality": _QUALITY, "longest_side": _LONGEST_SIDE},
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
            content: list[dict[str, Any]] = [
                {"type": "image_url", "image_url": {"url": url}}
                for url in urls.get(id(request.frames), [])
            ]
            content.append({"type": "text", "text": request.prompt})
            message = cast(Mapping[str, str], {"role": "user", "content": content})
            try:
                reply = await self._client.complete([message], max_tokens=max_new_tokens)
            except CallFailedError as error:
                return Answer(error=str(error))
            if reply.finish_reason == "content_filter":
                return Answer(error="withheld by the endpoint's content filter")
            return Answer(text=reply.text.strip())

        yield from in_parallel(ask, range(len(batch)), width=_WIDTH, finish=self._client.close)


def frame_urls(frames: NDArray[np.uint8]) -> list[str]:
    """JPEG data URLs of frames (n×H×W×3, RGB), their longest side at most 768 pixels."""
    from PIL import Image

    urls = []
    for frame in frames:
        picture = Image.fromarray(frame)
        picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
        buffer = io.BytesIO()
        picture.save(buffer, format="JPEG", quality=_QUALITY)
        urls.append(f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}")
    return urls
