"""What a task file may say; anything else is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from sharegptvideo._io import dumps
from sharegptvideo.data.schema import CONFIGS
from sharegptvideo.errors import unknown_name
from sharegptvideo.models.base import short_hash

__all__ = ["AnnotationFiles", "JudgeWording", "Task"]


class AnnotationFiles(BaseModel):
    """Files of questions that a task also accepts, found by name in the data folder.

    Those of a task of one's own may lie beside it: the loader makes their names absolute. The
    reader `plain` takes JSONL, CSV or TSV with the columns of a task row.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    reader: Literal["msvd", "msrvtt", "tgif", "activitynet", "plain"]
    questions: Annotated[tuple[str, ...], Field(min_length=1)]
    mapping: tuple[str, ...] = ()


class JudgeWording(BaseModel):
    """What a language model judge is told, where that is not the protocol's own wording."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt_file: Path
    """Beside the task's file; the form is that of the files in eval/prompts."""


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
    judge: JudgeWording | None = None

    @field_validator("config")
    @classmethod
    def _is_a_test_set(cls, config: str) -> str:
        known = [name for name, each in CONFIGS.items() if each.is_task]
        if config not in known:
            raise ValueError(str(unknown_name("config of a test set", config, known)))
        return config

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

    @property
    def task_hash(self) -> str:
        """Hash of all that the file and its parts say but for prose, and where its files lie.

        A judge's wording is left out: what a judge is told, its own description has.
        """
        told = self.model_dump(mode="json", exclude={"title", "source", "citation", "judge"})
        if self.annotations is not None:
            for key in ("questions", "mapping"):
                told["annotations"][key] = [Path(name).name for name in told["annotations"][key]]
        return short_hash(dumps(told))
