"""A stage that asks a served model about each row's text, for tests of engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sharegptvideo.build.stage import Context, OpenStage, Row, Stage, provenance
from sharegptvideo.models import Request, SamplingParams, open_model
from sharegptvideo.models.asking import Turn, open_asker

__all__ = ["AskEach"]


@dataclass(frozen=True)
class AskEach(Stage):
    """Asks `model` about each row's `text`."""

    base_url: str | None = None
    model: str = "openai:vlm"
    name = "asked"
    version = 1

    def open(self, context: Context) -> OpenStage:
        return _OpenAskEach(self, context)


class _OpenAskEach(OpenStage):
    def __init__(self, settings: AskEach, context: Context) -> None:
        self.settings, self.context = settings, context
        served = settings.model.startswith("openai:")
        self.asked = open_model(
            settings.model,
            base_url=settings.base_url if served else None,
            options=context.endpoint if served else None,
        )
        self.asker = open_asker(self.asked)
        self.step, self.width = self.asker.step, self.asker.width
        self.params = SamplingParams(temperature=0.0, max_new_tokens=64)

    async def __call__(self, rows: Sequence[Row], turn: Turn) -> list[Row]:
        (row,) = rows
        (answer,) = await turn.ask([Request(row["text"])], self.params)
        made = provenance(
            self.settings,
            row,
            model=self.asked.spec,
            prompt=(1, "0" * 16),
            params=self.params,
            answers=[answer],
            context=self.context,
        )
        return [{"id": row["id"], "answer": answer.texts, "error": answer.error, "made": made}]

    def turns(self, count: int) -> Sequence[Turn]:
        return self.asker.turns(count)

    def describe(self) -> Row:
        return {"model": self.asked.spec}

    async def close(self) -> None:
        await self.asker.close()
