"""Model adapters: `open_model("KIND:NAME")` gives what the runner asks.

| spec | answers come from |
| --- | --- |
| `hf:PATH_OR_ID` | a Video-LLaVA checkpoint, local or on the Hub |
| `predictions:FILE` | a JSONL file with id and prediction, a run's predictions.jsonl included |
| `python:module:function` | a function of a list of frames and a question |
| `openai:NAME` | a model behind an OpenAI-compatible endpoint |
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sharegptvideo.errors import UserError, unknown_name
from sharegptvideo.eval.models.base import Model

__all__ = ["Model", "open_model"]


def _hf(name: str, _base_url: str | None) -> Model:
    from sharegptvideo.eval.models.hf import HfModel

    return HfModel(name)


def _predictions(name: str, _base_url: str | None) -> Model:
    from sharegptvideo.eval.models.predictions import PredictionsModel

    return PredictionsModel(name)


def _python(name: str, _base_url: str | None) -> Model:
    from sharegptvideo.eval.models.python import PythonModel

    return PythonModel(name)


def _openai(name: str, base_url: str | None) -> Model:
    from sharegptvideo.eval.models.openai import OpenAIModel

    return OpenAIModel(name, base_url=base_url)


_KINDS: dict[str, Callable[[str, str | None], Model]] = {
    "hf": _hf,
    "openai": _openai,
    "predictions": _predictions,
    "python": _python,
}


def open_model(spec: str, *, base_url: str | None = None) -> Model:
    """Open the model that `spec` (`KIND:NAME`) names; no weights are loaded yet.

    Args:
        spec: see this package's table.
        base_url: endpoint of an `openai:` model; default `OPENAI_BASE_URL`.

    Raises:
        UserError: unknown kind (with the nearest ones), or the kind's own cause.
    """
    kind, colon, name = spec.partition(":")
    if not colon and Path(spec).exists():
        kind = "hf" if Path(spec).is_dir() else "predictions"
        raise UserError(f"model {spec!r}: no kind before it; write {kind}:{spec}")
    if kind not in _KINDS:
        raise unknown_name("kind of model", kind, _KINDS)
    if not colon or not name:
        raise UserError(f"model {spec!r}: nothing after the kind; write {kind}:NAME")
    return _KINDS[kind](name, base_url)
