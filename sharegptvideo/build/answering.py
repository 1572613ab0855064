"""Who draws candidates: a checkpoint on this machine, or a model behind an endpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sharegptvideo.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sharegptvideo.endpoint import CallFailedError, EndpointOptions
    from sharegptvideo.models import VideoLanguageModel

    Frames = NDArray[np.uint8]

__all__ = ["Answerer", "Drawing", "LocalModel", "ServedModel"]

DEFAULT_FRAMES = 8
_SERVED = "openai:"


@dataclass(frozen=True, slots=True)
class Drawing:
    """How answers are drawn; kept beside them."""

    k: int
    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int


class Answerer(Protocol):
    """Draws several answers to each question."""

    frames: int
    """How many frames of a clip it is given."""

    at_once: int
    """How many answers to ask for together, at least."""

    def settings(self) -> dict[str, Any]:
        """What tells it from others, for the notes beside the candidates."""
        ...

    def begin(self, questions: Sequence[str], drawing: Drawing) -> None:
        """Make ready for these questions, the first thing that may take long or cost money."""
        ...

    def draw(
        self, requests: Sequence[tuple[Frames, str]], drawing: Drawing
    ) -> Iterator[tuple[int, list[str] | str]]:
        """Each question's position and its answers, or why there are none.

        Raises:
            UserError: nothing more can be asked; what was answered has been yielded.
        """
        ...

    def refused(self) -> list[str]:
        """Settings of the draw that did not count, since the endpoint does not take them."""
        ...


class LocalModel:
    """A Video-LLaVA; what is drawn depends on seed, frames and question alone."""

    at_once = 1

    def __init__(self, model: str | Path) -> None:
        """Load it.

        Raises:
            UserError: no such model, or another architecture.
        """
        from sharegptvideo.models import VideoLanguageModel, weights_hash

        path = str(model).removeprefix("hf:")
        self._model: VideoLanguageModel = VideoLanguageModel.from_pretrained(path)
        self._hash = weights_hash(path)
        self.frames = self._model.frames

    def settings(self) -> dict[str, Any]:
        """Hash of the weights, number of frames."""
        return {"weights_sha256": self._hash, "frames": self.frames}

    def begin(self, questions: Sequence[str], drawing: Drawing) -> None:
        """Nothing: it is loaded."""

    def draw(
        self, requests: Sequence[tuple[Frames, str]], drawing: Drawing
    ) -> Iterator[tuple[int, list[str] | str]]:
        """Together; a question that does not fit (too long a prompt) fails alone."""
        yield from enumerate(self._draw(requests, drawing))

    def _draw(
        self, requests: Sequence[tuple[Frames, str]], drawing: Drawing
    ) -> list[list[str] | str]:
        try:
            answers = self._model.generate(
                requests,
                max_new_tokens=drawing.max_new_tokens,
                do_sample=True,
                temperature=drawing.temperature,
                top_p=drawing.top_p,
                num_return_sequences=drawing.k,
                seed=drawing.seed,
                batch_size=len(requests) * drawing.k,
            )
            return list(answers)
        except UserError as error:
            if len(requests) == 1:
                return [str(error)]
        return [answer for request in requests for answer in self._draw([request], drawing)]

    def refused(self) -> list[str]:
        """None."""
        return []


class ServedModel:
    """`openai:NAME`: frames as pictures in order, then the question; a request for each answer.

    The answers to a question differ in the seed that is sent. By it they are kept in the cache of
    replies, so that a run that is taken up again pays for none twice.
    """

    def __init__(
        self,
        spec: str,
        *,
        base_url: str | None = None,
        frames: int | None = None,
        options: EndpointOptions | None = None,
    ) -> None:
        """Nothing is contacted before `begin`.

        Raises:
            UserError: no name, or the Batch API is asked for.
        """
        from sharegptvideo.endpoint import ChatClient, EndpointOptions

        self._name = spec.removeprefix(_SERVED)
        if not self._name:
            raise UserError(f"model {spec!r}: name the served model, as openai:NAME")
        options = options or EndpointOptions()
        if options.batch_api:
            raise UserError("--batch-api is for verdicts; candidates are asked for one by one")
        self.frames = DEFAULT_FRAMES if frames is None else frames
        self._client = ChatClient(self._name, base_url=base_url, options=options)
        self.at_once = 4 * self._client.width  # so that the last answers of a batch hold up few

    @staticmethod
    def is_meant(model: str | Path) -> bool:
        """Whether `model` names one of these."""
        return str(model).startswith(_SERVED)

    def settings(self) -> dict[str, Any]:
        """Name, endpoint, number of frames and how they are sent.

        Raises:
            UserError: no endpoint is set.
        """
        from sharegptvideo.endpoint.messages import LONGEST_SIDE, QUALITY

        return {
            "model": f"{_SERVED}{self._name}",
            "endpoint": self._client.endpoint.base_url,
            "frames": self.frames,
            "jpeg": {"quality": QUALITY, "longest_side": LONGEST_SIDE},
        }

    def begin(self, questions: Sequence[str], drawing: Drawing) -> None:
        """Tell what is ahead, and find out whether the endpoint answers and knows the model.

        Raises:
            UserError: it does not; it may cost more than is allowed.
        """
        from sharegptvideo.endpoint.messages import with_pictures

        if not questions:
            return
        empty = [""] * self.frames
        asked = (
            [{"role": "user", "content": with_pictures(question, empty)}]
            for question in questions
            for _ in range(drawing.k)
        )
        self._client.options.approve(
            self._client.estimate(asked, max_tokens=drawing.max_new_tokens)
        )
        self._client.check()

    def draw(
        self, requests: Sequence[tuple[Frames, str]], drawing: Drawing
    ) -> Iterator[tuple[int, list[str] | str]]:
        """Several at a time, in order; one call that fails leaves its question without answers.

        Raises:
            UserError: the endpoint cannot be used any more.
        """
        from sharegptvideo.endpoint import CallFailedError, in_parallel
        from sharegptvideo.endpoint.messages import frame_urls, with_pictures

        urls: dict[int, list[str]] = {}  # by array: the questions about a clip share its pictures
        for frames, _ in requests:
            if id(frames) not in urls:
                urls[id(frames)] = frame_urls(frames)

        async def ask(asked: tuple[int, int]) -> str | CallFailedError:
            position, number = asked
            frames, question = requests[position]
            content: Any = with_pictures(question, urls[id(frames)])
            message: Mapping[str, Any] = {"role": "user", "content": content}
            try:
                reply = await self._client.complete(
                    [message],
                    temperature=drawing.temperature,
                    top_p=drawing.top_p,
                    max_tokens=drawing.max_new_tokens,
                    seed=_seed(drawing.seed, number),
                )
            except CallFailedError as error:
                return error
            if reply.finish_reason == "content_filter":
                return CallFailedError("withheld by the endpoint's content filter")
            return reply.text.strip()

        every = [(at, number) for at in range(len(requests)) for number in range(drawing.k)]
        answers: dict[int, dict[int, str | CallFailedError]] = {
            at: {} for at in range(len(requests))
        }
        try:
            calls = in_parallel(ask, every, width=self._client.width, finish=self._client.close)
            for (at, number), answer in calls:
                answers[at][number] = answer
                while answers and len(answers[first := next(iter(answers))]) == drawing.k:
                    yield first, _all_or_cause(answers.pop(first))
        except UserError:
            # Paid for: those behind the first one that lacks an answer.
            for at, found in answers.items():
                if len(found) == drawing.k:
                    yield at, _all_or_cause(found)
            raise

    def refused(self) -> list[str]:
        """Parameters that the endpoint refused, and that were left out."""
        return sorted(self._client.refused)


def _all_or_cause(found: Mapping[int, str | CallFailedError]) -> list[str] | str:
    failed = [str(answer) for answer in found.values() if not isinstance(answer, str)]
    return failed[0] if failed else [str(found[number]) for number in sorted(found)]


def _seed(seed: int, number: int) -> int:
    """31 bits, which every server takes, for the answer of this number."""
    digest = hashlib.blake2b(f"{seed}\n{number}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") >> 1
