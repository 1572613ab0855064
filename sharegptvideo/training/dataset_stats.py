"""What a recipe's data will come to: rows, clips, lengths; nothing is decoded."""

from __future__ import annotations

import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from sharegptvideo._text import and_more
from sharegptvideo.errors import UserError
from sharegptvideo.media import MediaError
from sharegptvideo.training.examples import messages_of
from sharegptvideo.training.recipes import DpoRecipe, Recipe

if TYPE_CHECKING:
    from sharegptvideo.training.families import Family

__all__ = ["DatasetStats", "Lengths", "dataset_stats", "published_stats"]

_SAMPLE = 2_000
_LETTERS_A_TOKEN = 4.0  # of English prose in Llama's vocabulary
_TEMPLATE = 12  # tokens of roles and marks around a question and its answer
_REPORT_EVERY = 2_000

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Lengths:
    """Mean tokens of a row: its prompt, and each answer to it (one, or chosen and rejected)."""

    prompt: float
    answers: tuple[float, ...]

    @property
    def text(self) -> float:
        """Prompt and answers together."""
        return self.prompt + sum(self.answers)


@dataclass(slots=True)
class DatasetStats:
    """What a recipe's data come to.

    Attributes:
        rows: that will be trained on; clips: that they are about. Rows that stop the run are
            counted too, those that it skips are not.
        missing, equal: rows without a clip, pairs of equal answers; the first names of each.
        cut: rows that lose their end to `max_length`; scaled up where a sample was tokenised.
        video_tokens: mean positions of a clip.
        assumed: what was taken for granted, a line each.
        problems: what would stop the run, a line each.
    """

    rows: int
    clips: int
    lengths: Lengths
    video_tokens: float
    missing: int = 0
    missing_names: list[str] = field(default_factory=list)
    equal: int = 0
    equal_names: list[str] = field(default_factory=list)
    cut: int | None = None
    assumed: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def rows_a_clip(self) -> float:
        """Mean rows about one clip."""
        return self.rows / max(self.clips, 1)


# Rows and clips of the release's training files as its card and paper count them, and mean
# tokens of prompt and answers as in the miniature of the release; for planning before a download.
_PUBLISHED: dict[tuple[str, str | None], tuple[int, int, Lengths]] = {
    ("captions", None): (900_000, 900_000, Lengths(30, (200,))),
    ("qa", None): (900_000, 300_000, Lengths(30, (35,))),
    ("sft", "video_caption_300k.jsonl"): (300_000, 300_000, Lengths(30, (200,))),
    ("sft", "video_240k_caption_15k.jsonl"): (255_000, 95_000, Lengths(30, (45,))),
    ("preferences", None): (17_000, 17_000, Lengths(40, (30, 30))),
}


def published_stats(recipe: Recipe, video_tokens: float) -> DatasetStats | None:
    """Return the release's own counts, where a recipe's data are the release's and are not here."""
    known = _PUBLISHED.get((recipe.data.name, recipe.data.files))
    if known is None:
        return None
    rows, clips, lengths = known
    return DatasetStats(
        rows=min(rows, recipe.data.limit or rows),
        clips=min(clips, recipe.data.limit or clips),
        lengths=lengths,
        video_tokens=video_tokens,
        assumed=[f"the data are not here: {rows:,} rows on {clips:,} clips, as published_stats"],
    )


def dataset_stats(
    recipe: Recipe,
    family: Family | None,
    video_tokens: float,
    progress: Callable[[int, int, str], None] | None = None,
) -> DatasetStats:
    """Read all rows, find their clips, tokenise a sample.

    Args:
        family: opened without weights; None estimates tokens from letters.
        video_tokens: positions of a clip where the family does not give them.
        progress: `progress(done, 0, what)`.

    Raises:
        UserError: the rows cannot be read.
    """
    stats = DatasetStats(0, 0, Lengths(0, ()), video_tokens)
    clips: Counter[str] = Counter()
    sample: list[Row] = []
    draw = random.Random(0)
    for row in _rows(recipe, stats, progress):
        clips[str(row.get("video"))] += 1
        stats.rows += 1
        if len(sample) < _SAMPLE:
            sample.append(row)
        elif (place := draw.randrange(stats.rows)) < _SAMPLE:
            sample[place] = row
    stats.clips = len(clips)
    if not stats.rows:
        stats.problems.append(f"data {recipe.data.name} ({recipe.data.split}): no rows to train on")
    else:
        _measure(recipe, family, sample, stats)
    data = recipe.data
    if stats.missing and data.missing_media == "error":
        names = and_more(stats.missing_names, total=stats.missing)
        stats.problems.append(
            f"{stats.missing} rows have no clip under media {data.media} ({names}); add the clips "
            "or set data.missing_media=skip"
        )
    if stats.equal and isinstance(recipe, DpoRecipe) and recipe.dpo.equal_pairs == "error":
        names = and_more(stats.equal_names, total=stats.equal)
        stats.problems.append(
            f"{stats.equal} pairs of equal answers ({names}); fix them or set dpo.equal_pairs=skip"
        )
    return stats


def _rows(
    recipe: Recipe, stats: DatasetStats, progress: Callable[[int, int, str], None] | None
) -> Iterator[Row]:
    """Rows that the run trains on, or will once what stops it is fixed; those are counted."""
    from sharegptvideo.data.load import read_rows
    from sharegptvideo.data.sources.report import DataWarning

    data = recipe.data
    try:
        rows = read_rows(data.name, data.source, data.split, media=data.media, files=data.files)
        placed = data.media is not None
    except UserError as error:
        if data.media is None:
            raise
        rows = read_rows(data.name, data.source, data.split, files=data.files)
        placed = False
        stats.problems.append(f"clips: {error}")
    if data.media is None:
        stats.problems.append("clips: data.media names no folder with the clips")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # clips that are missing are counted here
        for number, row in enumerate(islice(rows, data.limit), 1):
            if progress and number % _REPORT_EVERY == 0:
                progress(number, 0, "reading rows")
            if not row.get("video") or (placed and not row.get("video_path")):
                stats.missing += 1
                _note(stats.missing_names, row)
                skipped = data.missing_media == "skip"
            elif isinstance(recipe, DpoRecipe) and row["chosen"].strip() == row["rejected"].strip():
                stats.equal += 1
                _note(stats.equal_names, row)
                skipped = recipe.dpo.equal_pairs == "skip"
            else:
                skipped = False
            if not skipped:
                yield row
        del rows  # a reader that is left at a limit warns too, when it goes


def _note(names: list[str], row: Row) -> None:
    if len(names) < 5:
        names.append(str(row["id"]))


def _measure(recipe: Recipe, family: Family | None, sample: list[Row], stats: DatasetStats) -> None:
    """Mean lengths of the sample, and how many rows of all are cut."""
    measured, videos = [], []
    for row in sample:
        measured.append(_lengths(recipe, family, row))
        videos.append(_video_tokens(family, row, stats))
    count, sides = len(sample), range(len(measured[0].answers))
    stats.lengths = Lengths(
        sum(one.prompt for one in measured) / count,
        tuple(sum(one.answers[side] for one in measured) / count for side in sides),
    )
    stats.video_tokens = sum(videos) / count
    limit = recipe.optimisation.length_limit
    cut = sum(
        one.prompt + max(one.answers) + video > limit.positions(round(video))
        for one, video in zip(measured, videos, strict=True)
    )
    stats.cut = round(cut * stats.rows / count)
    if count < stats.rows:
        stats.assumed.append(f"lengths and cut rows from a sample of {count:,} rows")
    if family is None:
        stats.assumed.append(
            f"no tokenizer here: a token for {_LETTERS_A_TOKEN:g} letters, {_TEMPLATE} a row"
        )
    full = sum(
        one.prompt + video >= limit.positions(round(video))
        for one, video in zip(measured, videos, strict=True)
    )
    if full:
        stats.problems.append(
            f"optimisation.max_length {limit.tokens}: no room for an answer after the clip's "
            f"{stats.video_tokens:.0f} positions and the prompt in {full} of {count} rows"
        )


def _lengths(recipe: Recipe, family: Family | None, row: Row) -> Lengths:
    from sharegptvideo.models import conversation

    if isinstance(recipe, DpoRecipe):
        talks = [conversation(row["prompt"], row[side]) for side in ("chosen", "rejected")]
    else:
        talks = [messages_of(row)]
    prompts, answers = [], []
    for talk in talks:
        if family is None:
            said = sum(len(turn["content"]) for turn in talk if turn["role"] == "assistant")
            asked = sum(len(turn["content"]) for turn in talk if turn["role"] != "assistant")
            prompts.append(asked / _LETTERS_A_TOKEN + _TEMPLATE)
            answers.append(said / _LETTERS_A_TOKEN + 1)
        else:
            ids, assistant_mask = family.encode(talk)
            prompts.append(
                float(len(ids) - 1 - sum(assistant_mask))
            )  # the clip's one token is not text
            answers.append(float(sum(assistant_mask)))
    return Lengths(max(prompts), tuple(answers))


def _video_tokens(family: Family | None, row: Row, stats: DatasetStats) -> float:
    path = row.get("video_path")
    if family is None:
        return stats.video_tokens
    if family.reader.video_tokens:
        return float(family.reader.video_tokens)
    if not path:
        return stats.video_tokens
    try:
        return float(family.reader.count(path))
    except MediaError as error:
        if len(stats.problems) < 5:
            stats.problems.append(f"clip of row {row['id']}: {error}")
        return stats.video_tokens
