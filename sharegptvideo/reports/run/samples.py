"""The samples of a run as files that a page reads piece by piece, from a disk without a server.

samples/index.js     what is filtered by: tasks, and one letter for each sample's outcome
samples/00000.js     texts of the first samples, and so on; loaded when they are shown

Pages from `file://` may not fetch, but may load scripts: each file hands one JSON value over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharegptvideo._concurrency import Progress
from sharegptvideo._io import dumps, write_text
from sharegptvideo.judges.rules.choices import lettered
from sharegptvideo.reports.clips import Sprite
from sharegptvideo.reports.run.prompts import TaskPrompts
from sharegptvideo.reports.run.record import Run, Sample, outcome

__all__ = [
    "CHUNK",
    "PIECES",
    "Against",
    "write_samples",
]

CHUNK = 400
"""Samples in one file: about 200 kB."""

_SAMPLES = "samples"
PIECES = f"{_SAMPLES}/{'[0-9]' * 5}.js"
"""What `write_samples` writes besides its index, as a pattern."""

_ABSENT = "-"
_RIGHT_IN = {
    (True, True): "both",
    (True, False): "only_first",
    (False, True): "only_second",
    (False, False): "neither",
}

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Against:
    """A second run to hold the first against. `other_judge` has the tasks that another judged."""

    run: Run
    other_judge: frozenset[str]

    def outcome(self, sample: Sample) -> str | None:
        """Return what its answer to the same question counts as; None where it was not asked it."""
        row = self._row(sample)
        return None if row is None else outcome(row, self.run.judgements.get(sample.key))

    def counts(self, samples: Iterable[Sample]) -> dict[str, int]:
        """Count answers that are right in both runs, in one, in neither; and what is left out.

        Keys: `both`, `only_first`, `only_second`, `neither`; `unscored`, without a verdict in one
        of the runs; `absent`, not asked in the second; `counted`, descriptions, which are neither.
        """
        counts = dict.fromkeys(
            ("both", "only_first", "only_second", "neither", "unscored", "absent", "counted"), 0
        )
        for sample in samples:
            here, there = sample.outcome, self.outcome(sample)
            if there is None:
                counts["absent"] += 1
            elif "unscored" in (here, there):
                counts["unscored"] += 1
            elif "counted" in (here, there):
                counts["counted"] += 1
            else:
                counts[_RIGHT_IN[here == "right", there == "right"]] += 1
        return counts

    def _row(self, sample: Sample) -> Row | None:
        row = self.run.predictions.get(sample.key)
        # Ids of another version of the data may stand for other questions.
        if row is None or row.get("question") != sample.prediction.get("question"):
            return None
        return row

    def describe(self, sample: Sample) -> Row | None:
        """Return what the page shows of its answer to a sample's question."""
        row = self._row(sample)
        if row is None:
            return None
        shown = _answer(row, self.run.judgements.get(sample.key))
        same = row.get("prediction") == sample.prediction.get("prediction")
        shown["same_answer"] = same and row["status"] == sample.prediction["status"]
        shown["other_judge"] = sample.key[0] in self.other_judge
        return shown


def write_samples(
    samples: Mapping[str, Sequence[Sample]],
    sprites: Mapping[tuple[str, str], Sprite],
    out: Path,
    *,
    prompts: Mapping[str, TaskPrompts],
    against: Against | None = None,
    progress: Progress | None = None,
) -> None:
    """Write OUT/samples/*.js.

    Args:
        samples: by task, in the order of the page.
        sprites: by (task, video), the pictures of its frames.
        out: the page's folder.
        prompts: by task, what was asked.
        against: a second run, where there is one.
        progress: called after each file.
    """
    every = [sample for group in samples.values() for sample in group]
    folder = out / _SAMPLES
    pieces = [every[start : start + CHUNK] for start in range(0, len(every), CHUNK)]
    for number, piece in enumerate(pieces):
        held = _piece(piece, sprites, prompts, against)
        write_text(folder / f"{number:05}.js", f"report.take({number}, {dumps(held)});\n")
        if progress:
            progress(min((number + 1) * CHUNK, len(every)), len(every), "samples written")
    index: Row = {
        "chunk": CHUNK,
        "tasks": [[task, len(group)] for task, group in samples.items()],
        "outcomes": "".join(sample.outcome[0] for sample in every),
        "prompts": {task: prompts[task].describe() for task in samples},
    }
    types = [sample.question.question_type if sample.question else None for sample in every]
    known = sorted({kind for kind in types if kind is not None})
    if known:
        index["types"] = known
        index["kinds"] = [-1 if kind is None else known.index(kind) for kind in types]
    if against is not None:
        index["others"] = "".join((against.outcome(sample) or _ABSENT)[0] for sample in every)
        index["other_run"] = against.run.name
    write_text(folder / "index.js", f"report.begin({dumps(index)});\n")


def _piece(
    samples: Sequence[Sample],
    sprites: Mapping[tuple[str, str], Sprite],
    prompts: Mapping[str, TaskPrompts],
    against: Against | None,
) -> Row:
    """List samples, and once for each clip what belongs to all its questions."""
    clips: dict[tuple[str, str, str | None], Row] = {}
    places: dict[tuple[str, str, str | None], int] = {}
    rows = []
    for sample in samples:
        question = sample.question
        video = sample.prediction["video"]
        # Sets exist whose captions belong to the question and not to the clip.
        key = (sample.key[0], video, question.caption if question else None)
        if key not in places:
            places[key] = len(places)
            clips[key] = _clip(video, question.caption if question else None, sprites.get(key[:2]))
        asked = prompts[sample.key[0]].of_sample(sample)
        rows.append(_row(sample, places[key], against) | asked)
    return {"clips": list(clips.values()), "samples": rows}


def _clip(video: str, caption: str | None, sprite: Sprite | None) -> Row:
    row: Row = {"video": video, "caption": caption}
    if sprite is None:
        return row
    if sprite.error:
        return row | {"error": sprite.error}
    return row | {
        "file": sprite.file,
        "size": [sprite.n, sprite.width, sprite.height],
        "indices": list(sprite.indices),
        "times": list(sprite.times),
        "seconds": sprite.seconds,
        "plays": sprite.video,
        "moved": sprite.moved,
    }


def _row(sample: Sample, clip: int, against: Against | None) -> Row:
    question = sample.question
    row: Row = {
        "id": sample.key[1],
        "clip": clip,
        "question": sample.prediction["question"],
        "options": lettered(sample.prediction.get("options", ())) or None,
        "reference": question.answer if question else None,
        "type": question.question_type if question else None,
        "gone": question is None,
        "stale": sample.is_of_other_texts,
        **_answer(sample.prediction, sample.judgement),
    }
    if against is not None:
        row["other"] = against.describe(sample)
    # What is not there, or not so, takes no room.
    return {key: value for key, value in row.items() if value is not None and value is not False}


def _answer(prediction: Mapping[str, Any], judgement: Mapping[str, Any] | None) -> Row:
    """Return an answer and its verdict. That on a failed answer is void, and not shown."""
    row: Row = {"prediction": prediction.get("prediction"), "error": prediction.get("error")}
    if judgement is not None and prediction["status"] == "ok":
        row |= _verdict(judgement)
    row["outcome"] = outcome(prediction, judgement)
    return {key: value for key, value in row.items() if value is not None and value is not False}


def _verdict(judgement: Mapping[str, Any]) -> Row:
    about = judgement.get("judge") or {}
    members = [
        {"name": member["name"], "correct": member["correct"], **_verdict(member)}
        for member in about.get("members", ())
    ]
    return {
        "score": judgement["score"],
        "reason": judgement["reason"],
        # A panel's reply repeats its members'.
        "reply": None if members else judgement["reply"],
        "by": about.get("answered_by"),
        "repaired": judgement.get("repaired") or None,
        "members": members or None,
    }
