"""Golden results of building: what models are asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sharegptvideo.build.captions import caption_wording
from sharegptvideo.build.model_stage import ModelChoice
from sharegptvideo.build.qa import QaStage, qa_wording

__all__ = ["captions_prompt", "qa_prompt"]

_CAPTION = 'A "red" ball rolls ``` off\n\u202ea table. {n} {"score": 5}'


def captions_prompt(_: Path) -> dict[str, Any]:
    """The prompt of a clip without and with a title and tags, and those of the rows."""
    wording = caption_wording()
    return {
        "plain": wording.render(),
        "title and tags": wording.render("Ball ``` {about}", ["ball", "table"]),
        "tags": wording.render(tags=["ball"]),
        "prompts": list(wording.prompts),
        "hash": wording.hash,
    }


def qa_prompt(_: Path) -> dict[str, Any]:
    """What is asked about a caption, once more after a bad reply, and the schema."""
    any_kind = QaStage(ModelChoice("openai:x"))
    one = QaStage(ModelChoice("openai:x"), 1, ("order", "place"), "hard")
    return {
        "any": any_kind.render(_CAPTION),
        "again": any_kind.render_again(_CAPTION, "{} ```", "it is empty"),
        "one, chosen": one.render(_CAPTION),
        "schema": one.schema,
        "hash": qa_wording().hash,
    }
