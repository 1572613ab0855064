"""Model adapters: `open_model("KIND:NAME")` gives what the runner asks.

| spec | answers come from |
| --- | --- |
| `hf:PATH_OR_ID` | a video model of transformers, local or on the Hub |
| `predictions:FILE` | a JSONL file with id and prediction, a run's predictions.jsonl included |
| `python:module:function` | a function of a list of frames and a question |
| `openai:NAME` | a model behind an OpenAI-compatible endpoint |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from sharegptvideo.endpoint.options import EndpointOptions
from sharegptvideo.errors import UserError, unknown_name
from sharegptvideo.models.adapters.base import Model

__all__ = ["Model", "open_model"]


def _predictions(name: str, _base_url: str | None, _options: EndpointOptions | None) -> Model:
    from sharegptvideo.models.adapters.predictions import PredictionsModel

    return PredictionsModel(name)


def _python(name: str, _base_url: str | None, _options: EndpointOptions | None) -> Model:
    from sharegptvideo.models.adapters.python import PythonModel

    return PythonModel(name)


def _openai(name: str, base_url: str | None, options: EndpointOptions | None) -> Model:
    from sharegptvideo.models.adapters.openai import OpenAIModel

    return OpenAIModel(name, base_url=base_url, options=options)


_KINDS: dict[str, Callable[[str, str | None, EndpointOptions | None], Model]] = {
    "openai": _openai,
    "predictions": _predictions,
    "python": _python,
}


def _hf(name: str, devices: Sequence[str] | None, batch_size: int) -> Model:
    from sharegptvideo.models.adapters.hf import HfModel

    if devices is None:
        return HfModel(name, rows=batch_size)
    from sharegptvideo.models.adapters.parallel import ParallelModel, device_names

    names = device_names(devices)
    if len(names) == 1:
        return HfModel(name, device=names[0], rows=batch_size)
    return ParallelModel(name, devices=names, rows=batch_size)


def open_model(
    spec: str,
    *,
    base_url: str | None = None,
    options: EndpointOptions | None = None,
    devices: Sequence[str] | None = None,
    batch_size: int = 16,
) -> Model:
    """Open the model that `spec` (`KIND:NAME`) names; no weights are loaded yet.

    Args:
        spec: see this package's table.
        base_url: endpoint of an `openai:` model; default `OPENAI_BASE_URL`.
        options: how fast, for how much money and with which cache it is asked.
        devices: for `hf:` models, torch devices to share the work between, as `cuda:0`, or
            `all` for every CUDA device; default: one, CUDA where there is it.
        batch_size: how many questions an `hf:` model decodes at once.

    Raises:
        UserError: unknown kind (with the nearest ones), or the kind's own cause.
    """
    kind, colon, name = spec.partition(":")
    if not colon and Path(spec).exists():
        kind = "hf" if Path(spec).is_dir() else "predictions"
        raise UserError(f"model {spec!r}: no kind before it; write {kind}:{spec}")
    if kind != "hf" and kind not in _KINDS:
        raise unknown_name("kind of model", kind, ["hf", *_KINDS])
    if not colon or not name:
        raise UserError(f"model {spec!r}: nothing after the kind; write {kind}:NAME")
    if kind == "hf":
        return _hf(name, devices, batch_size)
    if devices is not None:
        raise UserError(f"model {spec}: devices are for hf: models; leave --devices out")
    return _KINDS[kind](name, base_url, options)
