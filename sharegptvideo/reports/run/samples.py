"""The samples of a run as files that a page reads piece by piece, from a disk without a server.

samples/index.js     what is filtered by: tasks, and one letter for each sample's outcome
samples/00000.js     texts of the first samples, and so on; loaded when they are shown
frames/*.jpg         the frames of each clip side by side

Pages from `file://` may not fetch, but may load scripts: each file hands one JSON value over.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sharegptvideo._concurrency import Progress, ordered_map
from sharegptvideo._io import dumps, os_error_words, replacing_bytes, write_text
from sharegptvideo.reports.run.record import Run, Sample, outcome

__all__ = [
    "CHUNK",
    "PIECES",
    "Against",
    "Sprite",
    "Wanted",
    "remove_others",
    "write_samples",
    "write_sprites",
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

LONGEST_SIDE = 160
"""Of one frame, in pixels: eight frames then take about 30 kB."""

_QUALITY = 72
_DECODERS = 2
_AHEAD = 8  # so that a slow clip does not stop the other decoder
_FRAMES = "frames"

Key = tuple[str, str]
"""Task and video."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A clip, and how many frames of it; `indices` are those the model saw, where recorded."""

    clip: str
    n: int
    indices: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Sprite:
    """A picture of `n` frames from left to right, each `width`×`height`; or why there is none.

    `file` is its path below the page's folder. `moved` says that the clip now gives other frames
    than those recorded.
    """

    file: str = ""
    n: int = 0
    width: int = 0
    height: int = 0
    indices: tuple[int, ...] = ()
    moved: bool = False
    error: str = ""


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
        of the runs; `absent`, not asked in the second.
        """
        counts = dict.fromkeys(
            ("both", "only_first", "only_second", "neither", "unscored", "absent"), 0
        )
        for sample in samples:
            here, there = sample.outcome, self.outcome(sample)
            if there is None:
                counts["absent"] += 1
            elif "unscored" in (here, there):
                counts["unscored"] += 1
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
    against: Against | None = None,
    progress: Progress | None = None,
) -> None:
    """Write OUT/samples/*.js.

    Args:
        samples: by task, in the order of the page.
        sprites: by (task, video), the pictures of its frames.
        out: the page's folder.
        against: a second run, where there is one.
        progress: called after each file.
    """
    every = [sample for group in samples.values() for sample in group]
    folder = out / _SAMPLES
    pieces = [every[start : start + CHUNK] for start in range(0, len(every), CHUNK)]
    for number, piece in enumerate(pieces):
        held = _piece(piece, sprites, against)
        write_text(folder / f"{number:05}.js", f"report.take({number}, {dumps(held)});\n")
        if progress:
            progress(min((number + 1) * CHUNK, len(every)), len(every), "samples written")
    index: Row = {
        "chunk": CHUNK,
        "tasks": [[task, len(group)] for task, group in samples.items()],
        "outcomes": "".join(sample.outcome[0] for sample in every),
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
    samples: Sequence[Sample], sprites: Mapping[tuple[str, str], Sprite], against: Against | None
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
        rows.append(_row(sample, places[key], against))
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
        "moved": sprite.moved,
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


def write_sprites(
    wanted: Mapping[Key, Wanted], out: Path, *, progress: Progress | None = None
) -> dict[Key, Sprite]:
    """Write OUT/frames/*.jpg, one for each clip, and give their sizes by the keys of `wanted`.

    Pictures of an earlier, perhaps interrupted report that are of the same files are kept.
    A clip that cannot be read gives a sprite with its cause.

    Raises:
        OSError: the disk is full, or `out` may not be written.
    """
    folder = out / _FRAMES
    drawn: dict[tuple[str, int], Sprite] = {}
    # Tasks may share clips.
    clips = dict.fromkeys((each.clip, each.n) for each in wanted.values())

    def write(clip: tuple[str, int]) -> Sprite:
        return _write_sprite(*clip, folder)

    # An error or Ctrl-C does not wait for the other clips.
    with closing(
        ordered_map(write, clips, workers=_DECODERS, ahead=_AHEAD, name="frames")
    ) as sprites:
        for done, (clip, sprite) in enumerate(zip(clips, sprites, strict=True), start=1):
            drawn[clip] = sprite
            if progress:
                progress(done, len(clips), "clips shown")
    return {key: _compared(drawn[each.clip, each.n], each) for key, each in wanted.items()}


def _compared(sprite: Sprite, wanted: Wanted) -> Sprite:
    moved = wanted.indices is not None and wanted.indices != sprite.indices and not sprite.error
    return replace(sprite, moved=moved)


def _write_sprite(clip: str, n: int, folder: Path) -> Sprite:
    from sharegptvideo.media import MediaError

    try:
        file = folder / f"{_file_name(Path(clip), n)}.jpg"
        if not file.is_file():
            _draw(clip, n, file)
    except MediaError as error:
        return Sprite(error=str(error))
    except OSError as error:
        if error.filename is None or not str(error.filename).startswith(clip):
            raise
        return Sprite(error=f"{clip}: cannot be read ({os_error_words(error)})")
    return _read_sprite(file)


def _file_name(clip: Path, n: int) -> str:
    """Return a name that changes with the clip: its path, and size and time of what is in it."""
    parts = sorted(clip.iterdir()) if clip.is_dir() else [clip]
    stamps = [(part.name, stat.st_size, stat.st_mtime_ns) for part in parts
              for stat in [part.stat()]]  # fmt: skip
    return hashlib.sha256(repr((n, str(clip), stamps)).encode()).hexdigest()[:20]


def _draw(clip: str, n: int, file: Path) -> None:
    """Put the frames side by side; the picture's comment says which they are."""
    import numpy as np
    from PIL import Image

    from sharegptvideo.media import sample_frames

    frames, indices = sample_frames(clip, n)
    height, width = frames.shape[1:3]
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    row = [np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS))
           for frame in frames]  # fmt: skip
    picture = io.BytesIO()  # Pillow takes no notice of what a full disk cuts off
    Image.fromarray(np.concatenate(row, axis=1)).save(
        picture, format="JPEG", quality=_QUALITY, optimize=True, comment=json.dumps(indices)
    )
    with replacing_bytes(file) as out:
        out.write(picture.getvalue())


def _read_sprite(file: Path) -> Sprite:
    from PIL import Image

    with Image.open(file) as picture:
        indices = json.loads(picture.info["comment"])
        width, height = picture.size
    n = len(indices)
    return Sprite(f"{_FRAMES}/{file.name}", n, width // n, height, tuple(indices))


def remove_others(out: Path, sprites: Iterable[Sprite]) -> None:
    """Remove pictures of earlier reports, of clips that are not among these."""
    kept = {Path(sprite.file).name for sprite in sprites}
    for path in (out / _FRAMES).glob("?" * 20 + ".*"):
        if path.suffix in (".jpg", ".tmp") and path.name not in kept:
            path.unlink()
