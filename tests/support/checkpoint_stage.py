"""A stage that asks an hf: model twice about each row, and that model where it is not served.

The processors of the models that vLLM knows need torchvision, which the tests do without.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sharegptvideo.build.model_stage import ModelChoice, OpenModelStage
from sharegptvideo.build.stage import Context, OpenStage, Row, Stage
from sharegptvideo.models import Answer, Model, Request, SamplingParams
from sharegptvideo.models.asking import Turn

__all__ = ["OWN", "AskTwice", "Loaded", "second"]

OWN = "an answer of our own engine"


class Loaded(ModelChoice):
    """An hf: model: a stand-in where it is loaded, the real choice where it is served."""

    def open(self, *given: Any, server: Any = None, **options: Any) -> Model:
        return (
            _OnThisMachine(self.spec)
            if server is None
            else super().open(*given, server=server, **options)
        )


class _OnThisMachine(Model):
    def __init__(self, spec: str) -> None:
        self.spec = spec

    def describe(self) -> dict[str, Any]:
        return {"kind": "hf", "weights_hash": "a" * 64, "settings_hash": "b" * 64}

    def generate(self, requests: Sequence[Request], params: SamplingParams) -> Iterator[Answer]:
        return (Answer(request, (OWN,) * params.n) for request in requests)


@dataclass(frozen=True)
class AskTwice(Stage):
    """Asks about each row's `text`, then again."""

    model: ModelChoice
    name = "asked"
    version = 1

    def open(self, context: Context) -> OpenStage:
        return _OpenAskTwice(self, self.model, context, prompt=(1, "0" * 16))


class _OpenAskTwice(OpenModelStage):
    async def __call__(self, rows: Sequence[Row], turn: Turn) -> list[Row]:
        (row,) = rows
        answers: list[Answer] = []
        for prompt in (row["text"], second(row["text"])):
            answers += await turn.ask([Request(prompt)], self.params)
        error = next((each.error for each in answers if each.error is not None), None)
        texts = [each.text for each in answers]
        made = self.made(row, answers)
        return [{"id": row["id"], "answers": texts, "error": error, "made": made}]


def second(text: str) -> str:
    """Return what is asked after a text."""
    return f"{text} And then?"
