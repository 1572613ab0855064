"""A model that is in memory already, such as one in training."""

from __future__ import annotations

from typing import Any

from sharegptvideo.models import GeneralVideoModel, VideoLanguageModel
from sharegptvideo.models.adapters.hf import HfModel, _General, _VideoLlava

__all__ = ["LiveModel"]


class LiveModel(HfModel):
    """Answers with weights as they are now; nothing is loaded or copied.

    Its answers can be kept, but the weights have no hash that would say whose they are: `name` has
    to tell.
    """

    def __init__(
        self, model: VideoLanguageModel | GeneralVideoModel, name: str, *, rows: int
    ) -> None:
        """Args:
        model: in evaluation mode as long as it is asked.
        name: what it is called in run.json.
        rows: how many questions are decoded at once, if memory has room for them.
        """
        self.spec = f"live:{name}"
        self._name = name
        self._architecture = (
            _LiveVideoLlava(model, rows)
            if isinstance(model, VideoLanguageModel)
            else _LiveGeneral(model, rows)
        )
        self.frames = self._architecture.frames

    def describe(self) -> dict[str, Any]:
        """Kind and name; no hash."""
        return {
            "kind": "live",
            "name": self._name,
            "weights_hash": None,
            "decoding": "greedy",
            **self._architecture.describe(),
        }


class _LiveVideoLlava(_VideoLlava):
    def __init__(self, model: VideoLanguageModel, rows: int) -> None:
        self._model, self._rows = model, rows
        self._tokenizer = model.tokenizer
        self.frames = model.frames


class _LiveGeneral(_General):
    def __init__(self, model: GeneralVideoModel, rows: int) -> None:
        self._model, self._rows = model, rows
        self._processor = model.processor
        self._shares = model.shares
        self._kind = str(model.model.config.model_type)

    def describe(self) -> dict[str, Any]:
        clip = "read once for its questions" if self._shares else "read for each question"
        return {"architecture": self._kind, "clip": clip}
