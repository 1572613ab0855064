"""What the runner, the models and the readers of run folders hand to each other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Answer", "Question", "Request", "short_hash"]


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a task; `video` is its cluster, `video_path` None where no clip is found."""

    id: str
    task: str
    video: str
    question: str
    answer: str
    caption: str | None = None
    question_type: str | None = None
    video_path: str | None = None

    @property
    def key(self) -> str:
        """What the logs of a run folder call this question: ids are unique within a task only."""
        return f"{self.task}/{self.id}"


@dataclass(frozen=True, slots=True)
class Request:
    """One question as a model gets it.

    `frames` is uint8, n×H×W×3, RGB, and the same object for all questions about a clip; None for
    a model that looks at no video. `prompt` is the task's template filled in. `indices` are the
    frames' numbers in the clip.
    """

    question: Question
    prompt: str
    frames: NDArray[np.uint8] | None
    indices: Sequence[int] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model returned for one request: a text, or the cause of its failure."""

    text: str | None = None
    error: str | None = None


def short_hash(text: str) -> str:
    """The first 16 hex digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
