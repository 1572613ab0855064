"""What all checkpoints that run on this machine share: loading, device, memory."""

from __future__ import annotations

import abc
import copy
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch

from sharegptvideo._concurrency import limit_torch_threads
from sharegptvideo.errors import UserError
from sharegptvideo.models.base import Answer, Model, Request, SamplingParams
from sharegptvideo.models.checkpoints import checkpoint_folder, load_model, weights_hash
from sharegptvideo.models.decoding import Decoder, Limits, Prompt, ReadClips
from sharegptvideo.models.memory import is_out_of_memory
from sharegptvideo.models.prompts import option_ids
from sharegptvideo.models.settings import AnswerSettings

__all__ = ["LocalModel"]

_ROWS = 96
_GPU_ROWS = 256
_GPU_REQUESTS = 512  # of a batch: more than there are rows, so that few idle at its end


class LocalModel(Model):
    """`hf:PATH_OR_ID` on one device, or a model of that checkpoint that is in memory already.

    A clip is read once for all its requests in a batch, and for all their answers. What does not
    fit into memory at once is answered in parts.

    Attributes:
        tokenizer: of the checkpoint.
        batch_size: how many answers are decoded at once, if memory has room for them; None: 256
            on CUDA devices, elsewhere 96.
        memory_limit: bytes that the caches of what is decoded at once may take; None: what is
            free on the device.
        in_slots: whether answers are decoded in slots of fixed shapes (see `decoding`); None:
            on CUDA devices.
        settings: what was asked for otherwise than the model has it.
    """

    obeys = Model.obeys | {"dtype", "system", "top_k"}

    tokenizer: Any
    scores_options = True

    def __init__(
        self,
        path: str,
        *,
        model: Any = None,
        device: str | None = None,
        dtype: str | torch.dtype | None = None,
        batch_size: int | None = None,
        settings: AnswerSettings | None = None,
    ) -> None:
        """Find the files; a Hub id is downloaded. Weights are loaded when they are first used.

        Args:
            path: a folder or a Hub id.
            model: a transformers model in evaluation mode: asked as it is, nothing is loaded.
            device: as torch names it; default: a CUDA device where there is one, else the CPU.
            dtype: default: that of `settings`, else float32 on the CPU, else as saved.
            batch_size: see the attribute.
            settings: what is asked for otherwise than the model has it: `dtype`, `system` and,
                where the model obeys it, `max_pixels` are of use here.

        Raises:
            UserError: no checkpoint there, or settings that it cannot obey.
        """
        self.spec = f"hf:{path}" if model is None else f"live:{path}"
        self.memory_limit: int | None = None
        self.in_slots: bool | None = None
        self._name = self._path = str(path)
        self._folder = checkpoint_folder(path)
        self._in_memory = model is not None
        self._model = model
        self.settings = settings or AnswerSettings()
        self._device, self._dtype = device, dtype or self.settings.dtype
        self.batch_size = batch_size
        self._decoder: Decoder | None = None

    @property
    def model(self) -> Any:
        """The transformers model, in evaluation mode.

        Raises:
            UserError: the weights cannot be loaded.
        """
        self.load()
        return self._model

    def load(self) -> None:
        """Load the weights, unless they are in memory.

        Raises:
            UserError: they cannot be loaded.
        """
        if self._model is None:
            device = self._place()
            on_cpu = device.type == "cpu"
            dtype = self._dtype or ("float32" if on_cpu else "auto")
            model = load_model(self._path, dtype=dtype, device=device)
            limit_torch_threads(model.num_parameters() if on_cpu else None)
            self._model = model.eval()

    def _place(self) -> torch.device:
        if self._model is not None:
            device: torch.device = self._model.device
            return device
        return torch.device(self._device or ("cuda" if torch.cuda.is_available() else "cpu"))

    @property
    def width(self) -> int:  # type: ignore[override]  # a class attribute of the others
        """How many requests a batch should hold at least."""
        return _GPU_REQUESTS if self.batch_size is None and self._on_gpu() else 1

    @property
    def _by_slots(self) -> bool:
        return self._on_gpu() if self.in_slots is None else self.in_slots

    def _on_gpu(self) -> bool:
        return self._place().type == "cuda"

    @property
    def decoder(self) -> Decoder:
        """What decodes its answers.

        Raises:
            UserError: the weights cannot be loaded.
        """
        if self._decoder is None or self._decoder.in_slots != self._by_slots:
            place = self.model.device, self.model.dtype
            self._decoder = Decoder(
                self._logits, self._language(), self._stop, place, in_slots=self._by_slots
            )
        return self._decoder

    def limits(self) -> Limits:
        """Return how much is decoded at once."""
        rows = _GPU_ROWS if self._on_gpu() else _ROWS
        return Limits(self.batch_size or rows, self.memory_limit)

    @functools.cached_property
    def _stop(self) -> list[int]:
        """The tokens that end an answer."""
        stop = self.model.generation_config.eos_token_id
        stop = self.tokenizer.eos_token_id if stop is None else stop
        if stop is None:
            raise UserError(
                f"model {self._path}: nothing ends its answers; name eos_token_id in its "
                "generation_config.json"
            )
        return stop if isinstance(stop, list) else [stop]

    def in_training(self, name: str, *, batch_size: int) -> Self:
        """Return the same model as one in memory called `name`, decoding `batch_size` at once."""
        other = copy.copy(self)
        other.spec, other._name, other._in_memory = f"live:{name}", name, True
        other.batch_size = batch_size
        # Memory is a training's own, and its weights may move: nothing of fixed addresses.
        other.in_slots, other._decoder = False, None
        return other

    def describe(self) -> dict[str, Any]:
        """Return kind, name of the folder or repository, hash of the weights, how it is decoded.

        Weights in memory have no hash: their name has to identify them. Settings that were asked
        for are added.
        """
        folder = Path(self._name)
        on_disk = not self._in_memory
        described = {
            "kind": "hf" if on_disk else "live",
            "name": folder.resolve().name if on_disk and folder.is_dir() else self._name,
            "weights_hash": weights_hash(self._folder) if on_disk else None,
            "decoding": "greedy",
        }
        if self.settings.dtype is not None:
            described["dtype"] = self.settings.dtype
        if self.settings.system is not None:
            described["system"] = self.settings.system
        return described

    def render(self, prompt: str) -> str:
        """Return the prompt in the model's chat template, one placeholder for the clip."""
        try:
            return self._render(prompt)
        except UserError:
            return prompt  # `generate` gives the cause

    def generate(self, requests: Sequence[Request], params: SamplingParams) -> Iterator[Answer]:
        """Answer in the order of the requests; a prompt that does not fit fails alone.

        What is drawn depends on `params`, the frames and the prompt, not on the other requests.

        Raises:
            UserError: the weights cannot be loaded, or the device's memory is too small for a
                single request.
        """
        # As a decorator: it is not on while the caller has an answer.
        answering = torch.inference_mode()(self._answers)
        early: dict[int, Answer] = {}
        place = 0
        try:
            self.load()
            for position, answer in answering(requests, params):
                early[position] = answer
                while place in early:
                    yield early.pop(place)
                    place += 1
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(
                f"model {self.spec}: the device has no memory for it and one question;"
                " free some, or take a larger device or a smaller model, and run again to go on",
                exit_code=1,
            ) from error

    @abc.abstractmethod
    def _render(self, prompt: str) -> str: ...

    @abc.abstractmethod
    def _answers(
        self, requests: Sequence[Request], params: SamplingParams
    ) -> Iterator[tuple[int, Answer]]:
        """Answer all requests, in any order, each with its number."""

    def _scored(
        self,
        prompts: Sequence[Prompt],
        read: ReadClips,
        requests: Mapping[int, Request],
        text_of: Callable[[Request], str],
    ) -> Iterator[tuple[int, Answer]]:
        """Answer requests by the likeliest of their options; `text_of` renders a prompt."""
        options: dict[int, list[list[int]]] = {}
        fitting: list[Prompt] = []
        limit = getattr(self._language(), "max_position_embeddings", None)
        for prompt in prompts:
            request = requests[prompt.number]
            try:
                text = text_of(request)
                ids = [option_ids(self.tokenizer, text, option) for option in request.options]
                room = max(map(len, ids))
                if limit is not None and prompt.prefix + len(prompt.ids) + room > limit:
                    raise UserError(f"an option of {room} tokens leaves no room in {limit}")
            except UserError as error:
                yield prompt.number, Answer(request, error=str(error))
                continue
            options[prompt.number] = ids
            fitting.append(replace(prompt, room=room))
        for prompt, scores in self.decoder.scores(fitting, options, read, self.limits()):
            request = requests[prompt.number]
            best = request.options[scores.index(max(scores))]
            yield prompt.number, Answer(request, (best,), option_scores=tuple(scores))

    @abc.abstractmethod
    def _logits(self, keep: int | None = None, **inputs: Any) -> torch.Tensor:
        """Run the language model; see `Decoder`."""

    @abc.abstractmethod
    def _language(self) -> Any:
        """Return the language model's config."""
