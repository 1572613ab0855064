"""What a recipe's data will come to: rows, clips, images, lengths; nothing is decoded."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sharegptvideo._text import and_more, rounded
from sharegptvideo.errors import UserError
from sharegptvideo.media import MediaError
from sharegptvideo.models.prompts import Kind
from sharegptvideo.training.examples import messages_of
from sharegptvideo.training.mix import kind_of, mixed_rows, visual_of
from sharegptvideo.training.recipes import DpoRecipe, Recipe

if TYPE_CHECKING:
    from sharegptvideo.training.families import Family

__all__ = [
    "DatasetStats",
    "KindStats",
    "Lengths",
    "PartStats",
    "Positions",
    "dataset_stats",
    "on_visuals",
    "published_stats",
]

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


@dataclass(frozen=True, slots=True)
class Positions:
    """Positions of a clip and of an image in the prompt; both 0 where the model is not known.

    `image` alone is 0 where the model is trained on clips only.
    """

    video: float
    image: float


@dataclass(slots=True)
class PartStats:
    """Rows of one part of the data that will be trained on, and what they are about."""

    part: str
    rows: int = 0
    clips: int = 0
    images: int = 0


@dataclass(frozen=True, slots=True)
class KindStats:
    """Rows about one kind of thing, how many different ones, and positions of each."""

    rows: int
    visuals: int
    tokens: float

    @property
    def rows_a_visual(self) -> float:
        """Mean rows about one."""
        return self.rows / max(self.visuals, 1)


@dataclass(slots=True)
class DatasetStats:
    """What a recipe's data come to.

    Attributes:
        rows: that will be trained on; clips: that they are about. Rows that stop the run are
            counted too, those that it skips are not.
        images: that rows are about; image_rows, text_rows: about an image, about nothing.
        missing, equal: rows without a clip or image, pairs of equal answers; the first names of
            each.
        kept: bytes that a decoded clip and a decoded image take, on average; 0 where not known.
        cut: rows that lose their end to `max_length`; scaled up where a sample was tokenised.
        video_tokens, image_tokens: mean positions of a clip, positions of an image.
        parts: the same counts for each part of the data.
        assumed: what was taken for granted, a line each.
        problems: what would stop the run, a line each.
    """

    rows: int
    clips: int
    lengths: Lengths
    video_tokens: float
    images: int = 0
    image_rows: int = 0
    text_rows: int = 0
    image_tokens: float = 0.0
    kept: Positions = Positions(0.0, 0.0)
    missing: int = 0
    missing_names: list[str] = field(default_factory=list)
    equal: int = 0
    equal_names: list[str] = field(default_factory=list)
    cut: int | None = None
    parts: list[PartStats] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def kinds(self) -> list[KindStats]:
        """Rows about clips, about images and of text alone, those that there are."""
        video = self.rows - self.image_rows - self.text_rows
        every = (
            KindStats(video, self.clips, self.video_tokens),
            KindStats(self.image_rows, self.images, self.image_tokens),
            KindStats(self.text_rows, self.text_rows, 0.0),
        )
        return [kind for kind in every if kind.rows]

    @property
    def rows_a_visual(self) -> float:
        """Mean rows about one clip or image."""
        return (self.rows - self.text_rows) / max(self.clips + self.images, 1)


# Rows, clips and images of the release's training files as its card and paper count them, and
# mean tokens of prompt and answers as in the miniature of the release (of files about images, from
# their size); for planning before a download. The files about images have fewer rows than their
# round names say: the steps of the paper's stages hold, in all, from 48 to 175 fewer for 650k, 32
# to 88 for 600k and 56 to 184 for 100k, if those about clips are as named.
_PUBLISHED: dict[tuple[str, str | None], tuple[int, int, int, Lengths]] = {
    ("captions", None): (900_000, 900_000, 0, Lengths(30, (200,))),
    ("image_captions", None): (649_900, 0, 649_900, Lengths(30, (260,))),
    ("qa", None): (900_000, 300_000, 0, Lengths(30, (35,))),
    ("sft", "video_caption_300k.jsonl"): (300_000, 300_000, 0, Lengths(30, (200,))),
    ("sft", "video_240k_caption_15k.jsonl"): (255_000, 95_000, 0, Lengths(30, (45,))),
    ("sft", "image_instruction_600k.jsonl"): (599_950, 0, 599_950, Lengths(60, (190,))),
    ("sft", "image_instruction_100k.jsonl"): (99_900, 0, 99_900, Lengths(60, (190,))),
    ("preferences", None): (17_000, 17_000, 0, Lengths(40, (30, 30))),
}


def published_stats(recipe: Recipe, positions: Positions) -> DatasetStats | None:
    """Return the release's own counts, where a recipe's data are the release's and are not here."""
    parts, lengths = [], []
    for part in recipe.data.parts:
        known = _PUBLISHED.get((part.name, part.files))
        if known is None:
            return None
        *counts, length = known
        rows, clips, images = (min(count, recipe.data.limit or count) for count in counts)
        share = min(part.weight, 1.0)
        parts.append(
            PartStats(
                str(part), int(rows * part.weight), round(clips * share), round(images * share)
            )
        )
        lengths.append(length)
    rows = sum(part.rows for part in parts)
    clips, images = sum(part.clips for part in parts), sum(part.images for part in parts)
    return DatasetStats(
        rows=rows,
        clips=clips,
        lengths=_mean(lengths, [part.rows for part in parts]),
        video_tokens=positions.video,
        images=images,
        image_rows=sum(part.rows for part in parts if part.images),
        image_tokens=positions.image,
        parts=parts,
        assumed=[
            f"the data are not here: {rows:,} rows{on_visuals(clips, images)}, {_counted(images)}"
        ],
    )


def _counted(images: int) -> str:
    if not images:
        return "as published"
    return "as published; images so that the steps are the paper's"


def on_visuals(clips: int, images: int) -> str:
    """Return " on 3 clips and 2 images", for lines that begin with a number of rows."""
    counts = [f"{n:,} {what}" for n, what in ((clips, "clips"), (images, "images")) if n]
    return f" on {' and '.join(counts)}" if counts else ""


def _mean(lengths: list[Lengths], rows: list[int]) -> Lengths:
    total = max(sum(rows), 1)

    def mean(values: Iterable[float]) -> float:
        return sum(value * count for value, count in zip(values, rows, strict=True)) / total

    sides = range(len(lengths[0].answers))
    return Lengths(
        mean(one.prompt for one in lengths),
        tuple(mean(one.answers[side] for one in lengths) for side in sides),
    )


def dataset_stats(
    recipe: Recipe,
    family: Family | None,
    positions: Positions,
    progress: Callable[[int, int, str], None] | None = None,
) -> DatasetStats:
    """Read all rows, find their clips and images, tokenise a sample.

    Args:
        family: opened without weights; None estimates tokens from letters.
        positions: of a clip where the family does not give them, and of an image.
        progress: `progress(done, 0, what)`.

    Raises:
        UserError: the rows cannot be read.
    """
    data = recipe.data
    stats = DatasetStats(0, 0, Lengths(0, ()), positions.video, image_tokens=positions.image)
    stats.parts = [PartStats(str(part)) for part in data.parts]
    seen: list[dict[Kind, set[str]]] = [{"video": set(), "image": set()} for _ in data.parts]
    sample: list[Row] = []
    draw = random.Random(0)
    for number, row in _rows(recipe, stats, progress):
        kind = kind_of(row)
        if kind != "text":
            seen[number][kind].add(row[kind])
        stats.image_rows += kind == "image"
        stats.text_rows += kind == "text"
        stats.rows += 1
        stats.parts[number].rows += 1
        if len(sample) < _SAMPLE:
            sample.append(row)
        elif (place := draw.randrange(stats.rows)) < _SAMPLE:
            sample[place] = row
    for count, names in zip(stats.parts, seen, strict=True):
        count.clips, count.images = len(names["video"]), len(names["image"])
    stats.clips = len(set().union(*(names["video"] for names in seen)))
    stats.images = len(set().union(*(names["image"] for names in seen)))
    if not stats.rows:
        stats.problems.append(f"data {data} ({data.split}): no rows to train on")
    else:
        _measure(recipe, family, sample, stats)
    if stats.missing and data.missing_media == "error":
        few = and_more(stats.missing_names, total=stats.missing)
        stats.problems.append(
            f"{stats.missing} rows have no clip or image under media {data.media} ({few}); add "
            "what is missing or set data.missing_media=skip"
        )
    if stats.equal and isinstance(recipe, DpoRecipe) and recipe.dpo.equal_pairs == "error":
        few = and_more(stats.equal_names, total=stats.equal)
        stats.problems.append(
            f"{stats.equal} pairs of equal answers ({few}); fix them or set dpo.equal_pairs=skip"
        )
    return stats


def _rows(
    recipe: Recipe, stats: DatasetStats, progress: Callable[[int, int, str], None] | None
) -> Iterator[tuple[int, Row]]:
    """Rows that the run trains on, or will once what stops it is fixed, and their parts' numbers.

    What stops it is counted.
    """
    from sharegptvideo.data.media_paths import MediaPaths

    data, placed = recipe.data, recipe.data.media is not None
    try:
        if data.media is not None:
            MediaPaths(data.media)
        else:
            stats.problems.append("clips: data.media names no folder with the clips")
    except UserError as error:
        stats.problems.append(f"clips: {error}")
        placed = False
    rows = mixed_rows(data, recipe.seed, media=placed)
    for count, (number, row) in enumerate(rows, 1):
        if progress and count % _REPORT_EVERY == 0:
            progress(count, 0, "reading rows")
        kind = kind_of(row)
        taken = kind == "video" or stats.image_tokens > 0 or not stats.video_tokens
        if not taken or (placed and kind != "text" and not row.get(f"{kind}_path")):
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
            yield number, row


def _note(names: list[str], row: Row) -> None:
    if len(names) < 5:
        names.append(str(row["id"]))


def _measure(recipe: Recipe, family: Family | None, sample: list[Row], stats: DatasetStats) -> None:
    """Mean lengths of the sample, and how many rows of all are cut."""
    measured = [_lengths(recipe, family, row) for row in sample]
    visuals = [_visual_tokens(family, row, stats) for row in sample]
    count = len(sample)
    stats.lengths = _mean(measured, [1] * count)
    videos = [
        tokens for row, tokens in zip(sample, visuals, strict=True) if kind_of(row) == "video"
    ]
    if videos:
        stats.video_tokens = sum(videos) / len(videos)
    if family and recipe.data.keep_clips != "none":
        named = [one for one in map(visual_of, sample) if one]
        of = {kind: [one for one in named if one.kind == kind] for kind in ("video", "image")}
        stats.kept = Positions(*(family.reader.mean_kept(of[kind]) for kind in ("video", "image")))
    limit = recipe.optimisation.length_limit
    cut = sum(
        one.prompt + max(one.answers) + visual > limit.positions(round(visual))
        for one, visual in zip(measured, visuals, strict=True)
    )
    stats.cut = round(cut * stats.rows / count)
    if count < stats.rows:
        stats.assumed.append(f"lengths and cut rows from a sample of {count:,} rows")
    if family is None:
        stats.assumed.append(
            f"no tokenizer here: a token for {_LETTERS_A_TOKEN:g} letters, {_TEMPLATE} a row"
        )
    full = sum(
        one.prompt + visual >= limit.positions(round(visual))
        for one, visual in zip(measured, visuals, strict=True)
    )
    if full:
        stats.problems.append(
            f"optimisation.max_length {limit.tokens}: no room for an answer after the clip's "
            f"{rounded(stats.video_tokens, 0)} positions and the prompt in {full} of {count} rows"
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
            about = kind_of(row)
            ids, assistant_mask = family.encode(talk, about)
            # The one token of a clip or image is not text.
            text = len(ids) - (about != "text") - sum(assistant_mask)
            prompts.append(float(text))
            answers.append(float(sum(assistant_mask)))
    return Lengths(max(prompts), tuple(answers))


def _visual_tokens(family: Family | None, row: Row, stats: DatasetStats) -> float:
    kind = kind_of(row)
    if kind != "video":
        return stats.image_tokens if kind == "image" else 0.0
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
