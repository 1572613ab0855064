"""Statistics of a folder's captions: read in batches, counted on all cores, aggregated in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from sharegptvideo._concurrency import (
    Progress,
    available_cores,
    no_progress,
    pooled_map,
    worker_pool,
)
from sharegptvideo.data.load import read_rows
from sharegptvideo.data.schema import CONFIGS, Config, QaRow, config_of
from sharegptvideo.data.sources import ReadReport, Row, held_configs, open_source
from sharegptvideo.data.stats import duplicates, lexicon
from sharegptvideo.data.stats.aggregate import Aggregate
from sharegptvideo.data.stats.answerability import (
    AnswerabilityTotals,
    Question,
    answerability_of_batch,
)
from sharegptvideo.data.stats.counts import OPENING, PHRASE, SEGMENT, CaptionBatch, count_batch
from sharegptvideo.errors import UserError

__all__ = ["BATCH", "StatsSettings", "caption_stats"]

BATCH = 1000
"""Captions, or questions, that a process counts at a time."""

_AHEAD = 8
_SHOWN = 2
_VERSION = 1

_In = TypeVar("_In")


@dataclass(frozen=True, slots=True)
class StatsSettings:
    """The captions to read, and how.

    Attributes:
        root: a folder in the release layout, or of Parquet made by this package.
        config: the config whose captions are counted; None for `captions`, or else the first of
            the folder's configs that has any.
        split: one of its splits, or several joined by "+"; None for all. Questions are those of
            the same splits, or all, in configs without these.
        limit: captions, and questions of each config, to read at most; None for all.
        on_error: "raise" or "skip", for rows that break the schema.
        workers: processes; None for one a core.
    """

    root: Path
    config: str | None = None
    split: str | None = None
    limit: int | None = None
    on_error: str = "raise"
    workers: int | None = None


@dataclass(slots=True)
class _Reader:
    """Rows of a folder; those left out are gathered in `report`."""

    settings: StatsSettings
    config: Config
    report: ReadReport = field(default_factory=ReadReport)

    def rows(self, config: Config) -> Iterator[Row]:
        """Yield the rows of the splits asked for; of all, where the config has none of these.

        A test set has only `test`, whichever split of the captions is counted.
        """
        root = self.settings.root
        there = open_source(config, root).splits(config)
        asked = [name.strip() for name in (self.settings.split or "").split("+")]
        kept = asked if config == self.config else [name for name in asked if name in there]
        split = "+".join(kept if self.settings.split and kept else there)
        report = ReadReport()
        try:
            yield from read_rows(
                config.name, root, split, on_error=self.settings.on_error, report=report
            )
        finally:  # a reader that stops at a limit still reports what came before
            self.report.merge(report)

    def captions(self) -> Iterator[tuple[str, str, str, str]]:
        """Yield (id, source, video or image, caption): of questions, a video's caption once."""
        config = self.config
        seen: set[int] = set()
        for row in self.rows(config):
            caption = row.get("caption")
            if caption is None:
                continue
            (medium,) = config.paths
            if "question" in row:
                key = hash((row[medium], caption))
                if key in seen:
                    continue
                seen.add(key)
            yield row["id"], row.get("source") or config.name, row[medium], caption


def caption_stats(settings: StatsSettings, progress: Progress | None = None) -> dict[str, Any]:
    """Count the captions below `settings.root`; return the figures of `stats.json` as JSON values.

    The figures are the same whatever the number of processes. Memory grows with the number of
    captions by about 2.5 KB each at its peak; the texts are not kept.

    Raises:
        UserError: no such folder, config or split, a row that breaks the schema, no caption.
    """
    progress = progress or no_progress
    config = _config(settings)
    reader = _Reader(settings, config)
    with _pool(settings) as pool:
        aggregate, ids = _count(reader, pool, progress)
        if not aggregate.captions:
            raise UserError(
                f"{settings.root}: config {config.name!r} has no captions here; "
                "choose another with --config"
            )
        progress(aggregate.captions, aggregate.captions, "captions")
        figures = aggregate.figures(progress)
        support = _answerability(reader, pool, progress)
    _name_members(figures["groups"], ids, reader)
    return {
        "version": _VERSION,
        "config": config.name,
        "medium": next(iter(config.paths)),
        "split": settings.split,
        "limit": settings.limit,
        "skipped_rows": len(reader.report.skipped),
        **figures,
        "support": support,
        "rules": {
            "lexicon": {"version": lexicon.built_in().version},
            "opening_words": OPENING,
            "phrase_words": PHRASE,
            "segment_words": SEGMENT,
            "near_duplicates": {
                "shingle_words": duplicates.SHINGLE,
                "jaccard": duplicates.THRESHOLD,
                "bands": duplicates.BANDS,
                "rows": duplicates.ROWS,
            },
        },
    }


def _config(settings: StatsSettings) -> Config:
    if settings.config is not None:
        config = config_of(settings.config)
        if "caption" not in config.columns:
            able = ", ".join(one.name for one in CONFIGS.values() if "caption" in one.columns)
            raise UserError(f"config {config.name!r} has no captions to study (these do: {able})")
        return config
    held = held_configs(settings.root)
    first = next((config for config in held if "caption" in config.columns), None)
    if first is None:
        names = ", ".join(config.name for config in held)
        raise UserError(f"{settings.root}: only {names} here, none of which has captions")
    return first


def _count(
    reader: _Reader, pool: Executor | None, progress: Progress
) -> tuple[Aggregate, list[str]]:
    aggregate = Aggregate()
    ids: list[str] = []

    def batches() -> Iterator[CaptionBatch]:
        rows = islice(reader.captions(), reader.settings.limit)
        for part in _batches(rows):
            ids.extend(row[0] for row in part)
            yield CaptionBatch(
                [row[1] for row in part], [row[2] for row in part], [row[3] for row in part]
            )

    for counts in pooled_map(count_batch, batches(), pool=pool, ahead=_AHEAD):
        aggregate.add(counts)
        progress(aggregate.captions, 0, "captions")
    return aggregate, ids


def _batches(items: Iterator[_In]) -> Iterator[list[_In]]:
    while part := list(islice(items, BATCH)):
        yield part


def _answerability(reader: _Reader, pool: Executor | None, progress: Progress) -> dict[str, Any]:
    """Return the answerability of the questions of every config in the folder that has any."""
    asking = [
        config
        for config in held_configs(reader.settings.root)
        if config.is_task or config.row is QaRow
    ]
    known = _captions_by_video(reader, asking)
    figures: dict[str, Any] = {}
    for config in asking:
        totals = AnswerabilityTotals()
        questions = _questions(reader, config, known, totals)
        done = 0
        for scores in pooled_map(
            answerability_of_batch, _batches(questions), pool=pool, ahead=_AHEAD
        ):
            totals.add(scores)
            done += len(scores)
            progress(done, 0, f"{config.name} questions")
        progress(done, done, f"{config.name} questions")
        figures[config.name] = totals.figures()
    return figures


def _captions_by_video(reader: _Reader, asking: Sequence[Config]) -> dict[str, str]:
    """Return the first caption of each video that a question without one of its own is about."""
    wanted = {
        row["video"]
        for config in asking
        for row in islice(reader.rows(config), reader.settings.limit)
        if row["caption"] is None
    }
    known: dict[str, str] = {}
    if wanted:
        for _, _, video, caption in reader.captions():
            if video in wanted:
                known.setdefault(video, caption)
            if len(known) == len(wanted):
                break
    return known


def _questions(
    reader: _Reader, config: Config, known: dict[str, str], totals: AnswerabilityTotals
) -> Iterator[Question]:
    for row in islice(reader.rows(config), reader.settings.limit):
        caption = row["caption"] or known.get(row["video"])
        if caption is None:
            totals.without_caption += 1
            continue
        source = row.get("source") or config.name
        yield Question(source, row["video"], row["question"], row["answer"], caption)


def _name_members(groups: list[dict[str, Any]], ids: list[str], reader: _Reader) -> None:
    """Put ids for places, and the texts of the first members, which are read again for it."""
    texts: dict[int, str] = {place: "" for group in groups for place in group["members"][:_SHOWN]}
    last = max(texts, default=-1)
    for place, row in enumerate(islice(reader.captions(), last + 1)):
        if place in texts:
            texts[place] = row[3]
    for group in groups:
        places = group.pop("members")
        group["ids"] = [ids[place] for place in places]
        group["texts"] = [texts[place] for place in places[:_SHOWN]]


@contextmanager
def _pool(settings: StatsSettings) -> Iterator[Executor | None]:
    workers = settings.workers or available_cores()
    if workers == 1:
        yield None
        return
    with worker_pool(workers) as pool:
        yield pool
