"""Captions of clips: the frames of each go to a model, which writes one detailed caption."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import field_validator

from sharegptvideo._concurrency import available_cores
from sharegptvideo._wording import Wording, braced, fill, places, read_wording, shipped_wording
from sharegptvideo.build.model_stage import ModelChoice, OpenModelStage, beside
from sharegptvideo.build.stage import Context, OpenStage, Row, Stage
from sharegptvideo.errors import MediaError, UserError
from sharegptvideo.judges.protocol import quoted
from sharegptvideo.models import Answer, Question, Request, SamplingParams
from sharegptvideo.models.asking import Turn
from sharegptvideo.models.base import FRAME_BYTES, short_hash

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["FRAMES", "CaptionStage", "CaptionWording", "caption_wording"]

FRAMES = 10
"""Frames of a clip, where neither the model nor the user says how many; as in the paper."""

_STEP = 16  # clips that a model on this machine is asked about together: their frames are held
_ABOUT = ("title", "tags")


class CaptionWording(Wording):
    """A prompt file for captions.

    `user` is what the model is asked beside the frames. It may hold `{about}`, in whose place
    `about` stands for a clip with a title or tags (`{material}` is these, as a JSON object), and
    nothing for others. `prompts` are those of the made rows, which are shared out by id.
    """

    user: str
    about: str | None = None
    prompts: tuple[str, ...]

    @field_validator("user", "about")
    @classmethod
    def _has_its_places(cls, text: str | None, info: Any) -> str | None:
        known = {"user": "about", "about": "material"}[info.field_name]
        held = places(text or "")
        if [name for name in held if name != known]:
            raise ValueError(f"has no place but {{{known}}}; it holds {braced(held)}")
        if text is not None and not text.strip():
            raise ValueError("is empty")
        if info.field_name == "about" and text is not None and not held:
            raise ValueError("has to hold {material}")
        return text

    @field_validator("prompts")
    @classmethod
    def _are_prompts(cls, prompts: tuple[str, ...]) -> tuple[str, ...]:
        if not prompts or not all(prompt.strip() for prompt in prompts):
            raise ValueError("needs at least one prompt, and none that is empty")
        return prompts

    def render(self, title: str | None = None, tags: Sequence[str] = ()) -> str:
        """Return what the model is asked about a clip."""
        material = {"title": title, "tags": ", ".join(tags)}
        shown = {name: text for name, text in material.items() if text}
        about = fill(self.about or "", {"material": quoted(shown)}) if shown else ""
        return fill(self.user, {"about": about}).strip()

    def prompt_of(self, name: str) -> str:
        """Return the prompt of the row of an id."""
        return self.prompts[int(short_hash(name), 16) % len(self.prompts)]


def caption_wording(file: Path | None = None) -> CaptionWording:
    """Return our own wording, or that of a prompt file.

    Raises:
        UserError: the file cannot be used: every fault in one line.
    """
    if file is not None:
        return read_wording(CaptionWording, file)
    return shipped_wording(CaptionWording, "datasets_cards/prompts/captions.yaml")


@dataclass(frozen=True, slots=True)
class CaptionStage(Stage):
    """A caption of each clip.

    Its rows have `id`, `video` and `video_path` (None: no such clip), and may have `source`,
    `title` (text) and `tags` (texts). Those of its log: id, video, source, title and tags where
    there are any, prompt (of the dataset's row), caption (null where there is none), reasoning
    (where the model thought), partial (where a failed reply held something), error, made.

    Attributes:
        model: that writes them.
        frames: of a clip; None: as many as the model was made for, else `FRAMES`.
        wording: what it is asked.
    """

    model: ModelChoice
    frames: int | None = None
    wording: CaptionWording = field(default_factory=caption_wording)
    name: ClassVar[str] = "captions"
    version: ClassVar[int] = 1

    def open(self, context: Context) -> OpenStage:
        """Open the model.

        Raises:
            UserError: there is none, or it was made for another number of frames.
        """
        return _OpenCaptions(self, context)

    def export(self, row: Row) -> Sequence[Row]:
        """Return the row of config `captions`, none for a failed one."""
        if row["error"] is not None:
            return ()
        columns = ("id", "video", "source", "prompt", "caption", "made")
        return ({name: row[name] for name in columns},)


class _OpenCaptions(OpenModelStage):
    def __init__(self, settings: CaptionStage, context: Context) -> None:
        wording = settings.wording
        super().__init__(
            settings,
            settings.model,
            context,
            prompt=(wording.version, wording.hash),
            step=_STEP,
        )
        self._wording = wording
        self._frames = _frames(self.model.spec, self.model.frames, settings.frames)
        self._threads: ThreadPoolExecutor | None = None
        self._room, self._steps = _Room(), itertools.count()

    def describe(self) -> Row:
        return super().describe() | {"frames": self._frames}

    def turns(self, count: int) -> Sequence[Turn]:
        step = next(self._steps)
        return [_CaptionTurn(turn, self._room, step) for turn in super().turns(count)]

    async def __call__(self, rows: Sequence[Row], turn: Turn) -> list[Row]:
        (row,) = rows
        assert isinstance(turn, _CaptionTurn)
        request = await self._request(row, turn)
        if isinstance(request, str):
            return [self._made(row, [], request)]
        answers = await turn.ask([request], self.params)
        return [self._made(row, answers, _cause(answers[0]), request.indices)]

    async def _request(self, row: Row, turn: _CaptionTurn) -> Request | str:
        """Return what to ask about a clip, or why it cannot be shown."""
        path = row["video_path"]
        if path is None:
            return f"no media found for {row['video']}"
        prompt = self._wording.render(row.get("title"), row.get("tags") or ())
        about = Question(row["id"], "captions", row["video"], prompt, "", video_path=path)
        await turn.wait_for_room()
        if self._threads is None:
            self._threads = ThreadPoolExecutor(available_cores(), thread_name_prefix="decode")
        loop = asyncio.get_running_loop()
        try:
            request = await loop.run_in_executor(self._threads, self._shown, path, about)
        except MediaError as error:
            return str(error)
        turn.hold(request.frames)
        return request

    def _shown(self, path: str, about: Question) -> Request:
        """Decode a clip. Of one that is sent, only the pictures are kept: they are far smaller."""
        from sharegptvideo.endpoint.messages import frame_urls
        from sharegptvideo.media import sample_frames

        frames, indices = sample_frames(path, self._frames)
        request = Request(about.question, indices=[int(each) for each in indices], question=about)
        if self.model.sends_pictures:
            return replace(request, pictures=tuple(frame_urls(frames)))
        return replace(request, frames=frames)

    def _made(
        self,
        row: Row,
        answers: Sequence[Answer],
        error: str | None,
        indices: Sequence[int] | None = None,
    ) -> Row:
        made: Row = {"id": row["id"], "video": row["video"], "source": row.get("source")}
        made |= {name: row[name] for name in _ABOUT if row.get(name)}
        made["prompt"] = self._wording.prompt_of(row["id"])
        made["caption"] = None if error is not None else answers[0].text
        made |= beside(answers)
        return made | {"error": error, "made": self.made(row, answers, frame_indices=indices)}

    async def close(self) -> None:
        await super().close()
        if self._threads is not None:
            threads, self._threads = self._threads, None
            await asyncio.to_thread(threads.shutdown, cancel_futures=True)


def _frames(spec: str, made_for: int | None, asked: int | None) -> int:
    if asked is not None and asked < 1:
        raise UserError(f"frames must be at least 1, got {asked}")
    if asked is not None and made_for is not None and asked != made_for:
        raise UserError(
            f"model {spec}: was made for {made_for} frames of a clip; leave --frames out"
        )
    return made_for or asked or FRAMES


def _cause(answer: Answer) -> str | None:
    """Return why an answer is no caption, None where it is one."""
    from sharegptvideo.endpoint.messages import failure_of

    if answer.error is not None:
        return answer.error
    text = answer.text or ""
    if "<video>" in text or "<image>" in text:
        return "the caption holds a mark of clips in prompts (<video> or <image>)"
    return failure_of(text, None)


class _Room:
    """Bounds what the frames of clips that wait for their turn take together.

    The clips of the first step that has not ended are decoded in any case: nothing is freed before
    they all are.
    """

    def __init__(self, limit: int = FRAME_BYTES) -> None:
        self._limit = limit
        self._open = Counter[int]()  # units that have begun and not ended, by step
        self._held = 0
        self._waiting: list[asyncio.Future[None]] = []

    def begin(self, step: int) -> None:
        self._open[step] += 1

    async def wait(self, step: int) -> None:
        while self._held >= self._limit and step > min(self._open):
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting

    def hold(self, size: int) -> None:
        self._held += size

    def end(self, step: int, held: int) -> None:
        self._held -= held
        self._open[step] -= 1
        if not self._open[step]:
            del self._open[step]
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.done():  # cancelled
                each.set_result(None)


class _CaptionTurn(Turn):
    """A turn that knows its step, and what the frames of its clip take."""

    def __init__(self, turn: Turn, room: _Room, step: int) -> None:
        self._turn, self._room, self._step = turn, room, step
        self._held = 0
        self._begun = False

    async def wait_for_room(self) -> None:
        """Begin; returns once there is room for the frames of one more clip."""
        self._room.begin(self._step)
        self._begun = True
        await self._room.wait(self._step)

    def hold(self, frames: NDArray[np.uint8] | None) -> None:
        self._held = 0 if frames is None else frames.nbytes
        self._room.hold(self._held)

    async def ask(self, requests: Sequence[Request], params: SamplingParams) -> list[Answer]:
        return await self._turn.ask(requests, params)

    def done(self) -> None:
        if self._begun:
            self._room.end(self._step, self._held)
        self._turn.done()
