"""Answers from a Video-LLaVA checkpoint, through the same code that trains and samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharegptvideo.errors import UserError
from sharegptvideo.eval.types import Answer, Question, Request

if TYPE_CHECKING:
    from sharegptvideo.modeling import VideoLanguageModel

__all__ = ["HfModel"]


class HfModel:
    """`hf:PATH_OR_ID`, decoded greedily, on a CUDA device where there is one."""

    needs_frames = True

    def __init__(self, name: str) -> None:
        """Read configuration and tokenizer, and hash the weights; a Hub id is downloaded.

        Raises:
            UserError: no checkpoint there, another architecture than Video-LLaVA, no tokenizer.
        """
        from transformers import AutoConfig

        from sharegptvideo.modeling import (
            check_architecture,
            checkpoint_folder,
            load_tokenizer,
            video_token_count,
            weights_hash,
        )

        self.spec = f"hf:{name}"
        self._name = name
        check_architecture(name)
        folder = str(checkpoint_folder(name))
        config = AutoConfig.from_pretrained(folder)
        self.frames: int | None = config.video_seq_length // video_token_count(config, 1)
        self._tokenizer = load_tokenizer(folder)
        self._hash = weights_hash(folder)
        self._folder = folder
        self._model: VideoLanguageModel | None = None

    def describe(self) -> dict[str, Any]:
        """Kind, the folder's or repository's name, and the hash of the weights."""
        folder = Path(self._name)
        name = folder.resolve().name if folder.is_dir() else self._name
        return {"kind": "hf", "name": name, "weights_hash": self._hash, "decoding": "greedy"}

    def check(
        self,
        questions: Sequence[Question],  # noqa: ARG002 - takes any
        every: Iterable[Question],  # noqa: ARG002 - takes any
    ) -> dict[str, dict[str, Any]]:
        """Nothing to compare."""
        return {}

    def render(self, prompt: str) -> str:
        """The prompt in the model's chat template, one `<video>` for the clip."""
        from sharegptvideo.modeling import conversation, encode

        try:
            ids, _ = encode(self._tokenizer, conversation(prompt))
        except UserError:
            return prompt  # it cannot be asked; `answer` says why
        return str(self._tokenizer.decode(ids))

    def answer(
        self, batch: Sequence[Request], *, max_new_tokens: int
    ) -> Iterator[tuple[int, Answer]]:
        """Decode the batch at once; a prompt that does not fit fails alone.

        Raises:
            UserError: the device's memory is too small for the batch.
        """
        import torch

        try:
            yield from enumerate(self._generate(batch, max_new_tokens))
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"model {self.spec}: the device has no memory for {len(batch)} questions at once;"
                " lower --batch-size and run again to go on",
                exit_code=1,
            ) from error

    def _generate(self, batch: Sequence[Request], max_new_tokens: int) -> list[Answer]:
        if self._model is None:
            from sharegptvideo.modeling import VideoLanguageModel

            self._model = VideoLanguageModel.from_pretrained(self._folder)
        items = [(request.frames, request.prompt) for request in batch]
        try:
            texts = self._model.generate(items, max_new_tokens=max_new_tokens)  # type: ignore[arg-type]  # the runner gives frames to models that need them
        except UserError as error:
            if len(batch) == 1:
                return [Answer(error=str(error))]
            return [one for request in batch for one in self._generate([request], max_new_tokens)]
        return [Answer(text=answers[0]) for answers in texts]
