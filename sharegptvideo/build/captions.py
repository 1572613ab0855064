"""Captions of clips: the frames of each go to a model, which writes one detailed caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pydantic import field_validator

from sharegptvideo._wording import Wording, braced, fill, places, wording_of
from sharegptvideo.build.model_stage import ModelChoice, OpenModelStage, beside, frames_for
from sharegptvideo.build.stage import Context, OpenStage, Row, Stage, input_hash
from sharegptvideo.judges.protocol import quoted
from sharegptvideo.media.facts import clip_bytes
from sharegptvideo.models import Answer, Question, Request
from sharegptvideo.models.asking import Turn
from sharegptvideo.models.base import short_hash

__all__ = ["FRAMES", "CaptionStage", "CaptionWording", "caption_wording"]

FRAMES = 10
"""Frames of a clip, where neither the model nor the user says how many; as in the paper."""

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
    return wording_of(CaptionWording, file or "datasets_cards/prompts/captions.yaml")


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

    def hash_of(self, row: Row) -> str:
        """Return what stands for a clip: its name, what is known of it, and the bytes it has."""
        path = row["video_path"]
        return input_hash(row | {"bytes": None if path is None else clip_bytes(Path(path))})

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
        )
        self._wording = wording
        self.frames = frames_for(self.model, settings.frames, FRAMES)

    def describe(self) -> Row:
        return super().describe() | {"frames": self.frames}

    async def __call__(self, rows: Sequence[Row], turn: Turn) -> list[Row]:
        (row,), clip = rows, turn.clip
        assert clip is not None
        if clip.missing:
            return [self._made(row, [], "no such clip among the media")]
        if clip.error is not None:
            # Without the path, so that causes can be counted: the row names the clip.
            return [self._made(row, [], clip.error.removeprefix(f"{row['video_path']}: "))]
        prompt = self._wording.render(row.get("title"), row.get("tags") or ())
        about = Question(
            row["id"], "captions", row["video"], prompt, "", video_path=row["video_path"]
        )
        request = Request(prompt, clip.frames, clip.indices, about, sent=clip.sent)
        answers = await turn.ask([request], self.params)
        return [self._made(row, answers, _cause(answers[0]), clip.indices)]

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


def _cause(answer: Answer) -> str | None:
    """Return why an answer is no caption, None where it is one."""
    from sharegptvideo.endpoint.messages import failure_of

    if answer.error is not None:
        return answer.error
    text = answer.text or ""
    if "<video>" in text or "<image>" in text:
        return "the caption holds a mark of clips in prompts (<video> or <image>)"
    return failure_of(text, None)
