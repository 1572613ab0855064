"""What a run will cost, from what it still has to ask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from sharegptvideo._io import KeyedLog
from sharegptvideo.endpoint import Estimate
from sharegptvideo.eval.tasks import Task
from sharegptvideo.eval.verdicts import unjudged
from sharegptvideo.judges import Judge
from sharegptvideo.judges.base import Costly
from sharegptvideo.models.adapters import Model
from sharegptvideo.models.types import Question

__all__ = ["estimate_answers", "estimate_verdicts"]

Row = Mapping[str, Any]

# Stands for an answer that is not given yet: a long sentence, as models mostly answer.
_EXPECTED = "word " * 30


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
    """What the answers that `log` lacks will take; nothing where the model costs nothing."""
    if not isinstance(model, _CostlyModel):
        return Estimate()
    pending = [q for q in questions if log.rows.get(q.key, {}).get("status") != "ok"]
    prompts = [task.render(question.question) for question in pending]
    return model.estimate(prompts, frames=frames, max_new_tokens=max_new_tokens)


def estimate_verdicts(
    questions: Sequence[Question],
    predictions: Mapping[str, Row],
    judge: Judge,
    log: KeyedLog,
) -> Estimate:
    """What the verdicts that `log` lacks will take; an answer not given yet counts as a sentence.

    Nothing where the judge costs nothing.
    """
    if not questions or not isinstance(judge, Costly):
        return Estimate()
    expected = {"status": "ok", "prediction": _EXPECTED}
    rows = {q.key: dict(predictions.get(q.key, expected)) for q in questions}
    items, _ = unjudged(questions, rows, judge, log)
    return judge.estimate(list(items.values()))
