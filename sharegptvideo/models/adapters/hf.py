"""Answers from a checkpoint of transformers: Video-LLaVA, or any model with a video processor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sharegptvideo.errors import UserError
from sharegptvideo.models.types import Answer, Question, Request

if TYPE_CHECKING:
    from sharegptvideo.models import ClipTimes, GeneralVideoModel, VideoLanguageModel

__all__ = ["HfModel"]

DEFAULT_ROWS = 16


class _Architecture(Protocol):
    """What differs between Video-LLaVA, which has a path of its own here, and all others."""

    frames: int | None

    def describe(self) -> dict[str, Any]: ...

    def render(self, prompt: str) -> str: ...

    def load(self) -> None: ...

    def answer(self, batch: Sequence[Request], max_new_tokens: int) -> list[str]: ...


class HfModel:
    """`hf:PATH_OR_ID`, decoded greedily, on one device.

    A clip is seen once for all its questions in a batch. What does not fit into memory at once is
    answered in parts.
    """

    needs_frames = True

    def __init__(self, name: str, *, device: str | None = None, rows: int = DEFAULT_ROWS) -> None:
        """Read configuration and tokenizer, and hash the weights; a Hub id is downloaded.

        Args:
            device: as torch names it; default: a CUDA device where there is one, else the CPU.
            rows: how many questions are decoded at once, if memory has room for them.

        Raises:
            UserError: no checkpoint there, an architecture that answers no questions about
                videos, a part of it or torchvision missing.
        """
        from sharegptvideo.models import checkpoint_folder, model_type, weights_hash

        self.spec = f"hf:{name}"
        self._name = name
        kind = _VideoLlava if model_type(name) == "video_llava" else _General
        folder = str(checkpoint_folder(name))
        self._architecture: _Architecture = kind(folder, device, rows)
        self.frames = self._architecture.frames
        self._hash = weights_hash(folder)

    def describe(self) -> dict[str, Any]:
        """Kind, the folder's or repository's name, hash of the weights, how it is decoded."""
        folder = Path(self._name)
        name = folder.resolve().name if folder.is_dir() else self._name
        return {
            "kind": "hf",
            "name": name,
            "weights_hash": self._hash,
            "decoding": "greedy",
            **self._architecture.describe(),
        }

    def check(
        self,
        questions: Sequence[Question],  # noqa: ARG002 - takes any
        every: Iterable[Question],  # noqa: ARG002 - takes any
    ) -> dict[str, dict[str, Any]]:
        """Nothing to compare."""
        return {}

    def render(self, prompt: str) -> str:
        """The prompt in the model's chat template, one placeholder for the clip."""
        try:
            return self._architecture.render(prompt)
        except UserError:
            return prompt  # it cannot be asked; `answer` says why

    def answer(
        self, batch: Sequence[Request], *, max_new_tokens: int
    ) -> Iterator[tuple[int, Answer]]:
        """Answer clip by clip; a prompt that does not fit fails alone.

        Raises:
            UserError: the weights cannot be loaded, or the device's memory is too small for a
                single question.
        """
        from sharegptvideo.models.memory import is_out_of_memory

        try:
            self._architecture.load()
            yield from enumerate(self._answers(batch, max_new_tokens))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(
                f"model {self.spec}: the device has no memory for it and one question;"
                " free some, or take a larger device or a smaller model, and run again to go on",
                exit_code=1,
            ) from error

    def _answers(self, batch: Sequence[Request], max_new_tokens: int) -> list[Answer]:
        try:
            texts = self._architecture.answer(batch, max_new_tokens)
        except UserError as error:
            if len(batch) == 1:
                return [Answer(error=str(error))]
            return [one for request in batch for one in self._answers([request], max_new_tokens)]
        return [Answer(text=text) for text in texts]


class _VideoLlava:
    """Through the same code that trains and samples; needs no torchvision."""

    _model: VideoLanguageModel | None = None

    def __init__(self, folder: str, device: str | None, rows: int) -> None:
        from transformers import AutoConfig

        from sharegptvideo.models import load_tokenizer, video_token_count

        self._folder, self._device, self._rows = folder, device, rows
        config = AutoConfig.from_pretrained(folder)
        self.frames: int | None = config.video_seq_length // video_token_count(config, 1)
        self._tokenizer = load_tokenizer(folder)

    def describe(self) -> dict[str, Any]:
        return {}

    def render(self, prompt: str) -> str:
        from sharegptvideo.models import conversation, encode

        ids, _ = encode(self._tokenizer, conversation(prompt))
        return str(self._tokenizer.decode(ids))

    def load(self) -> None:
        if self._model is None:
            from sharegptvideo.models import VideoLanguageModel

            self._model = VideoLanguageModel.from_pretrained(self._folder, self._device)

    def answer(self, batch: Sequence[Request], max_new_tokens: int) -> list[str]:
        assert self._model is not None, "load() comes first"
        items = [(request.frames, request.prompt) for request in batch]
        texts = self._model.generate(
            items,  # type: ignore[arg-type]  # the runner gives frames to models that need them
            max_new_tokens=max_new_tokens,
            batch_size=self._rows,
        )
        return [answers[0] for answers in texts]


class _General:
    """Through the checkpoint's own processor."""

    frames: int | None = None
    _model: GeneralVideoModel | None = None

    def __init__(self, folder: str, device: str | None, rows: int) -> None:
        from transformers import AutoConfig, GenerationConfig

        from sharegptvideo.models import load_processor, settings_hash, shares_prefix

        self._folder, self._device, self._rows = folder, device, rows
        self._processor = load_processor(folder)
        self._settings = settings_hash(folder)
        config = AutoConfig.from_pretrained(folder)
        rules = None
        if (Path(folder) / "generation_config.json").is_file():
            rules = GenerationConfig.from_pretrained(folder)
        self._architecture = str(config.model_type)
        self._shares = shares_prefix(config, rules)

    def describe(self) -> dict[str, Any]:
        return {
            "architecture": self._architecture,
            "settings_hash": self._settings,
            "clip": "read once for its questions" if self._shares else "read for each question",
        }

    def render(self, prompt: str) -> str:
        from sharegptvideo.models import render_question

        return render_question(self._processor, prompt)

    def load(self) -> None:
        if self._model is None:
            from sharegptvideo.models import GeneralVideoModel

            self._model = GeneralVideoModel.from_pretrained(self._folder, self._device)

    def answer(self, batch: Sequence[Request], max_new_tokens: int) -> list[str]:
        assert self._model is not None, "load() comes first"
        clips: dict[int, list[int]] = {}
        for position, request in enumerate(batch):
            clips.setdefault(id(request.frames), []).append(position)
        texts: dict[int, str] = {}
        for positions in clips.values():
            first = batch[positions[0]]
            assert first.frames is not None, "the runner gives frames to models that need them"
            found = self._model.generate(
                first.frames,
                [batch[position].prompt for position in positions],
                times=_times(first),
                max_new_tokens=max_new_tokens,
                batch_size=self._rows,
            )
            texts |= dict(zip(positions, found, strict=True))
        return [texts[position] for position in range(len(batch))]


def _times(request: Request) -> ClipTimes | None:
    """Where the frames stand in the clip; models that write times into the prompt need it."""
    from sharegptvideo.media.facts import read_facts
    from sharegptvideo.models import ClipTimes

    if request.indices is None:
        return None
    path = request.question.video_path
    return ClipTimes(request.indices, read_facts(Path(path)).fps if path else None)
