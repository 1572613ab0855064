"""What a run will cost, from what it still has to ask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

from sharegptvideo._io import KeyedLog
from sharegptvideo.endpoint import Estimate
from sharegptvideo.eval.tasks import Task
from sharegptvideo.models.adapters import Model
from sharegptvideo.models.types import Question

__all__ = ["estimate_answers"]


@runtime_checkable
class _CostlyModel(Protocol):
    def estimate(self, prompts: Iterable[str], *, frames: int, max_new_tokens: int) -> Estimate: ...


def estimate_answers(
    task: Task,
    questions: Sequence[Question],
    model: Model,
    log: KeyedLog,
    *,
    frames: int,
    max_new_tokens: int,
) -> Estimate:
    """Return what the answers that `log` lacks will take; nothing where the model costs nothing."""
    if not isinstance(model, _CostlyModel):
        return Estimate()
    pending = [q for q in questions if log.rows.get(q.key, {}).get("status") != "ok"]
    prompts = [task.render(question.question) for question in pending]
    return model.estimate(prompts, frames=frames, max_new_tokens=max_new_tokens)
