"""The prompts of a run: what its model was sent, and what its judge was asked.

Neither is in the run's files as a whole. They are made again as the run made them, and hashes that
it recorded say whether they are the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sharegptvideo._wording import places
from sharegptvideo.eval.tasks import Task
from sharegptvideo.judges.protocol import PROTOCOLS, AnyProtocol, load_protocol
from sharegptvideo.models.base import short_hash
from sharegptvideo.reports.run.record import Run, Sample
from sharegptvideo.reports.run.tables import judge_text

__all__ = ["TaskPrompts"]

Row = dict[str, Any]

_PLACE, _QUESTION = "{prompt}", "{question}"
_SOURCES = {"description": "caption", "question": "question", "reference": "reference",
            "answer": "prediction"}  # fmt: skip
"""Texts of a judge's prompt, each with what the page calls it."""


_RECORDED = ("predictions", "recorded")
_FROM_A_FILE = "The task's own. The answers are from a file, which does not say what was sent."
_IN_TEMPLATE = "As it was sent, with the marks of turns of the model's chat template."
_NOTES = {
    "hf": _IN_TEMPLATE,
    "live": _IN_TEMPLATE,
    "openai": "As it was sent; the server puts marks of turns around it.",
    **dict.fromkeys(_RECORDED, _FROM_A_FILE),
}


@dataclass(frozen=True, slots=True)
class TaskPrompts:
    """What a run asked about one task.

    `sent_as` is a prompt with the marks of turns around it, `{prompt}` in its place; None where
    none were recorded. `judge` is None where the judge has no prompt, or one that is not ours.
    """

    task: Task
    note: str
    recorded: bool
    sent_as: str | None
    system: str | None
    judge: AnyProtocol | None
    judge_note: str

    @classmethod
    def of_run(cls, run: Run, task: Task) -> TaskPrompts:
        """Read what the run recorded of them."""
        about, model = run.about["tasks"][task.name], run.about["model"]
        kind = str(model.get("kind"))
        note = _NOTES.get(kind, "As it was sent.")
        judge, judge_note = _judge(run, task.name)
        system = model.get("system") if kind == "openai" else None
        return cls(task, note, kind in _RECORDED, about.get("sent_as"), system, judge, judge_note)

    def describe(self) -> Row:
        """Return what all samples of the task share."""
        row: Row = {"prompt": self.task.prompt, "note": self.note, "system": self.system}
        row |= {"sent_as": self.sent_as, "judge_note": self.judge_note}
        if self.system is not None:
            del row["sent_as"]  # which has the system text too: here it is a turn of its own
        if self.judge is not None:
            before, after = _around(self.judge.user)
            row |= {"judge_system": self.judge.system, "before": before, "after": after}
        return {key: value for key, value in row.items() if value}

    def of_sample(self, sample: Sample) -> Row:
        """Return what one sample has besides, so that the page can write both prompts.

        Keys: `asked`, the prompt, where it is not the task's with the question in it; `unsure`,
        where its hash is not the one recorded; `judged`, the texts of the judge's prompt: a list
        of names where their JSON is that of the page's own texts, else all of it as one text.
        """
        row: Row = {}
        question = sample.question
        if question is not None:
            options = tuple(sample.prediction.get("options") or question.shown_options)
            prompt = self.task.render(question.question, options)
            if prompt != self.task.prompt.replace(_QUESTION, sample.prediction["question"] or ""):
                row["asked"] = prompt
            sent = self.sent_as.replace(_PLACE, prompt) if self.sent_as is not None else prompt
            known = sample.prediction.get("prompt_hash")
            if not self.recorded and short_hash(sent) != known:
                row["unsure"] = True
        item = sample.item
        if self.judge is None or item is None or sample.is_of_other_texts:
            return row
        asked = self.judge.messages(item)[-1]["content"]
        before, after = _around(self.judge.user)
        middle = asked[len(before) : len(asked) - len(after)]
        shown = {"caption": item.caption, "question": sample.prediction["question"],
                 "reference": item.reference, "prediction": item.prediction}  # fmt: skip
        names = _plain_names(middle, shown)
        return row | {"judged": middle if names is None else names}


def _judge(run: Run, task: str) -> tuple[AnyProtocol | None, str]:
    """Return the wording by which a task was judged, and what there is to say of it."""
    judge = run.judge(task)
    members = [judge, *judge.get("members", ())]
    asked = next((each for each in members if each.get("prompt_hash")), None)
    if asked is None:
        return None, ""
    for name in PROTOCOLS:
        for sees in ("frames", None) if name == "caption-grounded" else (None,):
            protocol = load_protocol(name, sees="frames" if sees else None)
            if protocol.hash == asked["prompt_hash"]:
                pictures = f", with {protocol.frames} frames of the clip" if protocol.frames else ""
                return protocol, f"{judge_text(run, task)}{pictures}."
    wording = "Asked by a wording that is not one of this package's"
    return None, f"{wording}: {judge_text(run, task)}."


def _around(user: str) -> tuple[str, str]:
    """Return what stands before the first place of a wording and after the last one."""
    first, *_, last = [*places(user), *places(user)]
    return user.partition(f"{{{first}}}")[0], user.rpartition(f"{{{last}}}")[2]


def _plain_names(middle: str, shown: Mapping[str, str | None]) -> list[str] | None:
    """Return the names in a JSON object of texts, if each is one that the page shows as it is."""
    try:
        texts = json.loads(middle)
    except ValueError:
        return None
    if not isinstance(texts, dict) or not texts.keys() <= _SOURCES.keys():
        return None
    same = all(text == shown[_SOURCES[name]] for name, text in texts.items())
    # As a browser writes it: what the judge was shown escaped is kept as it was.
    plain = json.dumps(texts, indent=2, ensure_ascii=False) == middle
    return list(texts) if same and plain else None
