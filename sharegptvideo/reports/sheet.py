"""A blind rating sheet: one page on which people rate the answers of runs, and its key."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from markupsafe import Markup

from sharegptvideo._concurrency import Progress
from sharegptvideo._io import (
    dumps,
    os_errors,
    read_json_object,
    replacing_bytes,
    sha256_text,
    write_json,
)
from sharegptvideo._text import plural
from sharegptvideo.errors import UserError
from sharegptvideo.eval.sheet_key import KeyAnswer, KeyItem, KeyRun, SheetKey, key_file
from sharegptvideo.media.folder import is_picture, natural_order
from sharegptvideo.models.base import Question
from sharegptvideo.reports.clips import relative_address
from sharegptvideo.reports.parts import Page, asset
from sharegptvideo.reports.run.record import Key, Run, collect_samples, open_run

__all__ = ["SheetOptions", "write_sheet"]

Row = dict[str, Any]

_FRAMES = 8  # pictures of a clip that is a folder of frames


@dataclass(frozen=True, slots=True)
class SheetOptions:
    """What is asked, and where the questions are.

    Attributes:
        questions: how many, at the most.
        seed: draws them, their order, and the order of two answers.
        copy_clips: whether the clips are copied to NAME.clips beside the page, so that both can
            be given away; else the page shows them from where they are.
        data_dir, media, task_path: where questions, clips and tasks of one's own are; default:
            where the first run had them.

    Raises:
        UserError: fewer than one question.
    """

    questions: int = 50
    seed: int = 0
    copy_clips: bool = False
    data_dir: Path | None = None
    media: Path | None = None
    task_path: Path | None = None

    def __post_init__(self) -> None:
        if self.questions < 1:
            raise UserError(f"questions must be at least 1, got {self.questions}")


@dataclass(frozen=True, slots=True)
class _Asked:
    """One item of a sheet: a question, and the answers in the order of the sheet."""

    question: Question
    text: str
    answers: tuple[KeyAnswer, ...]

    def id(self, seed: int) -> str:
        """Return a hash of all that is asked, so that a key fits no other sheet's ids."""
        texts = [answer.text for answer in self.answers]
        asked = [seed, self.question.task, self.question.id, self.text, texts]
        return sha256_text(dumps(asked))[:12]


def write_sheet(
    runs: Sequence[Path],
    out: Path,
    options: SheetOptions | None = None,
    *,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a sheet for people, and its key beside it.

    One run: is each answer right? Several: which of two answers is better; of more than two runs
    each question compares two, all pairs in turn. Questions are drawn from those that all runs
    answered; of two runs, from those with two different answers. The page says nothing of the
    runs, loads nothing but the clips, and saves what `eval agreement` reads.

    Args:
        runs: finished run folders, of the same questions.
        out: the page, `NAME.html`; the key is `NAME.key.json`.
        options: what is asked.
        progress: called as `progress(done, total, what)`.

    Returns:
        `sheet` and `key` (paths), `kind`, `n` questions, `n_shared`, `n_same` (see `SheetKey`) and
        `missing_clips`, names.

    Raises:
        UserError: no finished run, no question in common, no two answers that differ; the data
            are not there; `out` has the key of another sheet.
    """
    options = options or SheetOptions()
    if out.suffix != ".html":
        raise UserError(f"{out}: a sheet is a page; give --out a name that ends in .html")
    opened = [open_run(run) for run in runs]
    twice = next((run.path for n, run in enumerate(opened) if run.path in runs[:n]), None)
    if twice is not None:
        raise UserError(f"{twice}: is given twice; a sheet compares different runs")
    shared = _shared(opened, options, progress)
    asked, same = _drawn(shared, len(opened), options)
    key = _key(opened, asked, same, len(shared), options.seed)
    file = key_file(out)
    if file.exists() and read_json_object(file).get("sheet") != key.sheet:
        raise UserError(
            f"{file}: is the key of another sheet, whose ratings need it; give another --out"
        )
    with os_errors(out, "free some space or give another --out"):
        page, missing = _page(key, asked, out, copy_clips=options.copy_clips)
        write_json(file, key.model_dump())  # first: ratings without a key would be lost
        page.write(out)
    return {
        "sheet": str(out),
        "key": str(file),
        "kind": key.kind,
        "n": len(asked),
        "n_shared": key.n_shared,
        "n_same": key.n_same,
        "missing_clips": missing,
    }


_Shared = list[tuple[Question, str, list[str]]]


def _shared(runs: Sequence[Run], options: SheetOptions, progress: Progress | None) -> _Shared:
    """List the questions that all runs answered: as asked, with the answers in the runs' order."""
    samples = collect_samples(
        runs[0],
        data_dir=options.data_dir,
        media=options.media,
        task_path=options.task_path,
        without="",
        progress=progress,
    )
    shared: _Shared = []
    for sample in (each for group in samples.values() for each in group):
        text = sample.prediction["question"]
        answers = [_answer(run, sample.key, text) for run in runs]
        given = [answer for answer in answers if answer is not None]
        if sample.question is not None and len(given) == len(runs):
            shared.append((sample.question, text, given))
    if not shared:
        raise UserError(
            f"{', '.join(str(run.path) for run in runs)}: no question that "
            + ("all of them" if len(runs) > 1 else "it")
            + " answered and the data still has; a sheet needs runs of the same tasks"
        )
    return shared


def _answer(run: Run, key: Key, question: str) -> str | None:
    row = run.predictions.get(key)
    if row is None or row["status"] != "ok" or row["question"] != question:
        return None
    return str(row["prediction"])


def _drawn(
    shared: _Shared, n_runs: int, options: SheetOptions
) -> tuple[list[_Asked], dict[str, int]]:
    """Draw what is asked; and count, for each two runs, how often they say the same."""
    generator = random.Random(options.seed)
    pairs = list(combinations(range(n_runs), 2))
    same = {
        f"{one} {other}": sum(answers[one] == answers[other] for _, _, answers in shared)
        for one, other in pairs
    }
    order = sorted(shared, key=lambda each: (each[0].task, each[0].id))  # not the file's order
    generator.shuffle(order)
    asked: list[_Asked] = []
    for question, text, answers in order:
        sides = list(pairs[len(asked) % len(pairs)]) if pairs else [0]
        if len(sides) == 2 and answers[sides[0]] == answers[sides[1]]:
            continue
        generator.shuffle(sides)
        given = tuple(KeyAnswer(run=side, text=answers[side]) for side in sides)
        asked.append(_Asked(question, text, given))
        if len(asked) == options.questions:
            break
    if not asked:
        raise UserError(
            f"the runs give the same answer to all {plural(len(shared), 'question')}; there is"
            " nothing to compare"
        )
    return asked, same


def _key(
    runs: Sequence[Run], asked: Sequence[_Asked], same: dict[str, int], n_shared: int, seed: int
) -> SheetKey:
    items = {
        each.id(seed): KeyItem(
            task=each.question.task,
            id=each.question.id,
            video=each.question.video,
            question=each.text,
            reference=each.question.answer,
            caption=each.question.caption,
            answers=each.answers,
        )
        for each in asked
    }
    return SheetKey(
        sheet=sha256_text(dumps(list(items)))[:12],
        kind="preferences" if len(runs) > 1 else "ratings",
        seed=seed,
        runs=tuple(KeyRun(name=run.name, model=run.model) for run in runs),
        n_shared=n_shared,
        n_same=same,
        items=items,
    )


def _page(
    key: SheetKey, asked: Sequence[_Asked], out: Path, *, copy_clips: bool
) -> tuple[Page, list[str]]:
    """Return the page, and the names of the clips that are not there."""
    copies = out.with_suffix(".clips") if copy_clips else None
    items = [
        {
            "id": name,
            "video": item.video,
            "question": item.question,
            "answers": [answer.text for answer in item.answers],
            **_clip(each.question.video_path, out, copies),
        }
        for (name, item), each in zip(key.items.items(), asked, strict=True)
    ]
    missing = [str(item["video"]) for item in items if not item.keys() & {"file", "frames"}]
    sheet = {"sheet": key.sheet, "kind": key.kind, "items": items}
    # A text may hold the end of a script; nothing else can end one.
    held = dumps(sheet).replace("<", "\\u003c")
    preferences = key.kind == "preferences"
    page = Page(
        title="Which answer is better?" if preferences else "Is the answer right?",
        lead="Watch the clip, read the question, then "
        + ("choose the answer that fits the clip better." if preferences else "judge the answer."),
        sections=[],
        kicker=f"{plural(len(items), 'question')} about clips",
        intro=[Markup(asset("sheet.html"))],
        script=f"const SHEET = {held};\n{asset('sheet.js')}",
        clips=True,
    )
    return page, list(dict.fromkeys(missing))


def _clip(path: str | None, page: Path, copies: Path | None) -> Row:
    """Return how the page names a clip: by `file`, or by `frames` where it is a folder of them."""
    if path is None:
        return {}
    clip = Path(path)
    if not clip.is_dir():
        return {"file": _address(clip, page, copies)}
    names = sorted((each.name for each in clip.iterdir() if is_picture(each.name)),
                   key=natural_order)  # fmt: skip
    count = min(_FRAMES, len(names))
    shown = [names[n * (len(names) - 1) // max(count - 1, 1)] for n in range(count)]
    return {"frames": [_address(clip / name, page, copies) for name in shown]} if shown else {}


def _address(file: Path, page: Path, copies: Path | None) -> str:
    """Return a path, or that of a copy, as the page names it: both can be moved together."""
    if copies is not None:
        copy = copies / (sha256_text(str(file.absolute()))[:12] + file.suffix)
        if not copy.exists():
            with replacing_bytes(copy) as out, file.open("rb") as source:
                shutil.copyfileobj(source, out)
        file = copy
    return relative_address(file, page.parent)
