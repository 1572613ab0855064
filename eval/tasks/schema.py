"""What a task file may say; anything else is an error."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from sharegptvideo.eval.types import short_hash

__all__ = ["AnnotationFiles", "Task"]


class AnnotationFiles(BaseModel):
    """Original annotation files that a task also accepts, found by name in the data folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reader: Literal["msvd", "msrvtt", "tgif", "activitynet"]
    questions: Annotated[tuple[str, ...], Field(min_length=1)]
    mapping: tuple[str, ...] = ()


class Task(BaseModel):
    """One task: where its questions come from, what the model is told, how answers are judged."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    title: str
    version: Annotated[int, Field(ge=1)]
    config: str
    split: str
    prompt: str
    protocol: Literal["official", "caption-grounded"]
    frames: Annotated[int, Field(ge=1)]
    max_new_tokens: Annotated[int, Field(ge=1)]
    source: str
    citation: str
    annotations: AnnotationFiles | None = None

    @field_validator("prompt")
    @classmethod
    def _has_the_question(cls, prompt: str) -> str:
        if prompt.count("{question}") != 1:
            raise ValueError("needs {question} exactly once")
        return prompt

    def render(self, question: str) -> str:
        """The prompt for one question; braces in the question stay as they are."""
        return self.prompt.replace("{question}", question)

    @property
    def prompt_hash(self) -> str:
        """Hash of the template: it changes with any change of wording."""
        return short_hash(self.prompt)
