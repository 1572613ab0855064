"""The samples of a run as files that a page reads piece by piece, from a disk without a server.

samples/index.js     what is filtered by: tasks, and one letter for each sample's outcome
samples/00000.js     texts of the first samples, and so on; loaded when they are looked at

Pages from `file://` may not fetch, but may load scripts: each file hands one JSON value over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharegptvideo._io import dumps, write_text
from sharegptvideo.reports.run.collecting import Run, Sample, outcome
from sharegptvideo.reports.run.sprites import Strip

__all__ = ["CHUNK", "Against", "write_samples"]

CHUNK = 400
"""Samples in one file: about 200 kB."""

_FOLDER = "samples"
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
        """What its answer to the same question counts as; None where it was not asked it."""
        row = self._row(sample)
        return None if row is None else outcome(row, self.run.judgements.get(sample.key))

    def counts(self, samples: Iterable[Sample]) -> dict[str, int]:
        """How many answers are right in both runs, in one, in neither; and what is left out.

        Keys: `both`, `only_first`, `only_second`, `neither`; `unscored`, without a verdict in one
        of the runs; `absent`, not asked in the second.
        """
        found = dict.fromkeys(
            ("both", "only_first", "only_second", "neither", "unscored", "absent"), 0
        )
        for sample in samples:
            here, there = sample.outcome, self.outcome(sample)
            if there is None:
                found["absent"] += 1
            elif "unscored" in (here, there):
                found["unscored"] += 1
            else:
                found[_RIGHT_IN[here == "right", there == "right"]] += 1
        return found

    def _row(self, sample: Sample) -> Row | None:
        row = self.run.predictions.get(sample.key)
        # Ids of another version of the data may stand for other questions.
        if row is None or row.get("question") != sample.prediction.get("question"):
            return None
        return row

    def describe(self, sample: Sample) -> Row | None:
        """What the page shows of it."""
        row = self._row(sample)
        if row is None:
            return None
        told = _told(row, self.run.judgements.get(sample.key))
        same = row.get("prediction") == sample.prediction.get("prediction")
        told["same_answer"] = same and row["status"] == sample.prediction["status"]
        told["other_judge"] = sample.key[0] in self.other_judge
        return told


def write_samples(
    samples: Mapping[str, Sequence[Sample]],
    strips: Mapping[tuple[str, str], Strip],
    out: Path,
    *,
    against: Against | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> None:
    """Write OUT/samples/*.js; files of an earlier, longer report are removed.

    Args:
        samples: by task, in the order of the page.
        strips: by (task, video), the pictures of its frames.
        out: the page's folder.
        against: a second run, where there is one.
        progress: called as `progress(done, total, what)`.
    """
    every = [sample for group in samples.values() for sample in group]
    folder = out / _FOLDER
    pieces = [every[start : start + CHUNK] for start in range(0, len(every), CHUNK)]
    for number, piece in enumerate(pieces):
        held = _piece(piece, strips, against)
        write_text(folder / f"{number:05}.js", f"report.take({number}, {dumps(held)});\n")
        if progress:
            progress(min((number + 1) * CHUNK, len(every)), len(every), "samples written")
    for path in folder.glob("[0-9]" * 5 + ".js"):
        if int(path.stem) >= len(pieces):
            path.unlink()
    index: Row = {
        "chunk": CHUNK,
        "tasks": [[task, len(group)] for task, group in samples.items()],
        "outcomes": "".join(sample.outcome[0] for sample in every),
    }
    if against is not None:
        index["others"] = "".join((against.outcome(sample) or _ABSENT)[0] for sample in every)
        index["other_run"] = against.run.name
    write_text(folder / "index.js", f"report.begin({dumps(index)});\n")


def _piece(
    samples: Sequence[Sample], strips: Mapping[tuple[str, str], Strip], against: Against | None
) -> Row:
    """Samples, and once for each clip what belongs to all its questions."""
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
            clips[key] = _clip(video, question.caption if question else None, strips.get(key[:2]))
        rows.append(_row(sample, places[key], against))
    return {"clips": list(clips.values()), "samples": rows}


def _clip(video: str, caption: str | None, strip: Strip | None) -> Row:
    row: Row = {"video": video, "caption": caption}
    if strip is None:
        return row
    if strip.error:
        return row | {"error": strip.error}
    return row | {
        "file": strip.file,
        "size": [strip.n, strip.width, strip.height],
        "indices": list(strip.indices),
        "moved": strip.moved,
    }


def _row(sample: Sample, clip: int, against: Against | None) -> Row:
    question = sample.question
    row: Row = {
        "id": sample.key[1],
        "clip": clip,
        "question": sample.prediction["question"],
        "reference": question.answer if question else None,
        "type": question.question_type if question else None,
        "gone": question is None,
        "stale": sample.is_of_other_texts,
        **_told(sample.prediction, sample.judgement),
    }
    if against is not None:
        row["other"] = against.describe(sample)
    # What is not there, or not so, takes no room.
    return {key: value for key, value in row.items() if value is not None and value is not False}


def _told(prediction: Mapping[str, Any], judgement: Mapping[str, Any] | None) -> Row:
    """An answer, and what its judge said. A verdict on a failed answer is not shown: it is void."""
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
