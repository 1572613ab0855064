"""What all checkpoints that run on this machine share: loading, device, memory."""

from __future__ import annotations

import abc
import copy
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import torch

from sharegptvideo._concurrency import limit_torch_threads
from sharegptvideo.errors import UserError
from sharegptvideo.models.base import Answer, Model, Request, SamplingParams
from sharegptvideo.models.checkpoints import checkpoint_folder, load_model, weights_hash
from sharegptvideo.models.memory import is_out_of_memory

__all__ = ["LocalModel"]


class LocalModel(Model):
    """`hf:PATH_OR_ID` on one device, or a model of that checkpoint that is in memory already.

    A clip is read once for all its requests in a batch, and for all their answers. What does not
    fit into memory at once is answered in parts.

    Attributes:
        tokenizer: of the checkpoint.
        batch_size: how many answers are decoded at once, if memory has room for them.
        memory_limit: bytes that the caches of what is decoded at once may take; None: what is
            free on the device.
    """

    tokenizer: Any

    def __init__(
        self,
        path: str,
        *,
        model: Any = None,
        device: str | None = None,
        dtype: str | torch.dtype | None = None,
        batch_size: int = 16,
    ) -> None:
        """Find the files; a Hub id is downloaded. Weights are loaded when they are first used.

        Args:
            path: a folder or a Hub id.
            model: a transformers model in evaluation mode: asked as it is, nothing is loaded.
            device: as torch names it; default: a CUDA device where there is one, else the CPU.
            dtype: default: float32 on the CPU, else as saved.
            batch_size: how many answers are decoded at once, if memory has room for them.

        Raises:
            UserError: no checkpoint there.
        """
        self.spec = f"hf:{path}" if model is None else f"live:{path}"
        self.memory_limit: int | None = None
        self._name = self._path = str(path)
        self._folder = checkpoint_folder(path)
        self._in_memory = model is not None
        self._model = model
        self._device, self._dtype = device, dtype
        self.batch_size = batch_size

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
            device = torch.device(self._device or ("cuda" if torch.cuda.is_available() else "cpu"))
            on_cpu = device.type == "cpu"
            model = load_model(self._path, dtype=self._dtype or ("float32" if on_cpu else "auto"))
            limit_torch_threads(model.num_parameters() if on_cpu else None)
            self._model = model.to(device).eval()

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
        return other

    def describe(self) -> dict[str, Any]:
        """Return kind, name of the folder or repository, hash of the weights, how it is decoded.

        Weights in memory have no hash: their name has to identify them.
        """
        folder = Path(self._name)
        on_disk = not self._in_memory
        return {
            "kind": "hf" if on_disk else "live",
            "name": folder.resolve().name if on_disk and folder.is_dir() else self._name,
            "weights_hash": weights_hash(self._folder) if on_disk else None,
            "decoding": "greedy",
        }

    def render(self, prompt: str) -> str:
        """Return the prompt in the model's chat template, one placeholder for the clip."""
        try:
            return self._render(prompt)
        except UserError:
            return prompt  # `generate` gives the cause

    def generate(self, requests: Sequence[Request], params: SamplingParams) -> Iterator[Answer]:
        """Answer clip by clip; a prompt that does not fit fails alone.

        What is drawn depends on `params`, the frames and the prompt, not on the other requests.

        Raises:
            UserError: the weights cannot be loaded, or the device's memory is too small for a
                single request.
        """
        try:
            self.load()
            with torch.inference_mode():
                answers = self._answers(requests, params)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(
                f"model {self.spec}: the device has no memory for it and one question;"
                " free some, or take a larger device or a smaller model, and run again to go on",
                exit_code=1,
            ) from error
        yield from answers

    @abc.abstractmethod
    def _render(self, prompt: str) -> str: ...

    @abc.abstractmethod
    def _answers(self, requests: Sequence[Request], params: SamplingParams) -> list[Answer]:
        """Answer all requests, in their order."""
