"""The study of a folder's captions: read in blocks, counted on all cores, put together in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

from sharegptvideo._concurrency import Progress, available_cores, ordered_map, worker_pool
from sharegptvideo.data.load import read_rows
from sharegptvideo.data.schema import CONFIGS, Config, QaRow, config_of
from sharegptvideo.data.sources import ReadReport, Row, held_configs, open_source
from sharegptvideo.data.stats import duplicates, lexicon, repetition
from sharegptvideo.data.stats.aggregate import Totals
from sharegptvideo.data.stats.answerability import Asked, SupportTotals, support_block
from sharegptvideo.data.stats.counts import SEGMENT, BlockTexts, count_block
from sharegptvideo.errors import UserError

__all__ = ["Settings", "study"]

BLOCK = 1000
_SHOWN = 2
_VERSION = 1

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True, slots=True)
class Settings:
    """What is read, and how.

    Attributes:
        root: a folder in the release layout, or of Parquet made by this package.
        config: the config whose captions are studied; None for `captions`, or else the first of
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
    """Rows of a folder; what was left out is gathered in `report`."""

    settings: Settings
    studied: Config
    report: ReadReport = field(default_factory=ReadReport)

    def rows(self, config: Config) -> Iterator[Row]:
        """The rows of the splits asked for; of all, where the config has none of these.

        A test set has only `test`, whichever split of the captions is studied.
        """
        root = self.settings.root
        there = open_source(config, root).splits(config)
        asked = [name.strip() for name in (self.settings.split or "").split("+")]
        kept = asked if config == self.studied else [name for name in asked if name in there]
        split = "+".join(kept if self.settings.split and kept else there)
        report = ReadReport()
        try:
            yield from read_rows(
                config.name, root, split, on_error=self.settings.on_error, report=report
            )
        finally:  # a reader that stops at a limit still tells what it met before
            self.report.merge(report)

    def captions(self) -> Iterator[tuple[str, str, str, str]]:
        """(id, source, video, caption): of questions, each caption of a video once."""
        config = self.studied
        seen: set[int] = set()
        for row in self.rows(config):
            caption = row.get("caption")
            if caption is None:
                continue
            if config.name != "captions":
                key = hash((row["video"], caption))
                if key in seen:
                    continue
                seen.add(key)
            yield row["id"], row.get("source") or config.name, row["video"], caption


def study(settings: Settings, progress: Progress | None = None) -> dict[str, Any]:
    """Study the captions below `settings.root`; the figures of `stats.json` as JSON values.

    The figures are the same whatever the number of processes. Memory grows with the number of
    captions by about 2.5 KB each at its peak; the texts are not kept.

    Raises:
        UserError: no such folder, config or split, a row that breaks the schema, no caption.
    """
    progress = progress or _no_progress
    config = _studied(settings)
    reader = _Reader(settings, config)
    with _pool(settings) as pool:
        totals, ids = _count(reader, pool, progress)
        if not totals.captions:
            raise UserError(
                f"{settings.root}: config {config.name!r} has no captions here; "
                "choose another with --config"
            )
        progress(totals.captions, totals.captions, "captions")
        figures = totals.figures(progress)
        support = _support(reader, pool, progress)
    _tell_members(figures["groups"], ids, reader)
    return {
        "version": _VERSION,
        "config": config.name,
        "split": settings.split,
        "limit": settings.limit,
        "skipped_rows": len(reader.report.skipped),
        **figures,
        "support": support,
        "rules": {
            "lexicon": {"version": lexicon.built_in().version},
            "opening_words": repetition.OPENING,
            "phrase_words": repetition.PHRASE,
            "segment_words": SEGMENT,
            "near_duplicates": {
                "shingle_words": duplicates.SHINGLE,
                "jaccard": duplicates.THRESHOLD,
                "bands": duplicates.BANDS,
                "rows": duplicates.ROWS,
            },
        },
    }


def _no_progress(_done: int, _total: int, _what: str) -> None:
    """Nobody looks on."""


def _studied(settings: Settings) -> Config:
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


def _count(reader: _Reader, pool: Executor | None, progress: Progress) -> tuple[Totals, list[str]]:
    totals = Totals()
    ids: list[str] = []

    def blocks() -> Iterator[BlockTexts]:
        rows = islice(reader.captions(), reader.settings.limit)
        for part in _blocks(rows):
            ids.extend(row[0] for row in part)
            yield BlockTexts(
                [row[1] for row in part], [row[2] for row in part], [row[3] for row in part]
            )

    for figures in _map(pool, count_block, blocks()):
        totals.add(figures)
        progress(totals.captions, 0, "captions")
    return totals, ids


def _blocks(items: Iterator[_In]) -> Iterator[list[_In]]:
    while part := list(islice(items, BLOCK)):
        yield part


def _support(reader: _Reader, pool: Executor | None, progress: Progress) -> dict[str, Any]:
    """The support of the questions of every config in the folder that has questions."""
    asking = [
        config
        for config in held_configs(reader.settings.root)
        if config.is_task or config.row is QaRow
    ]
    known = _captions_by_video(reader, asking)
    found: dict[str, Any] = {}
    for config in asking:
        totals = SupportTotals()
        rows = _asked(reader, config, known, totals)
        done = 0
        for block in _map(pool, support_block, _blocks(rows)):
            totals.add(block)
            done += len(block)
            progress(done, 0, f"{config.name} questions")
        progress(done, done, f"{config.name} questions")
        found[config.name] = totals.figures()
    return found


def _captions_by_video(reader: _Reader, asking: Sequence[Config]) -> dict[str, str]:
    """The first caption of each video that a question without one of its own is about."""
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


def _asked(
    reader: _Reader, config: Config, known: dict[str, str], totals: SupportTotals
) -> Iterator[Asked]:
    for row in islice(reader.rows(config), reader.settings.limit):
        caption = row["caption"] or known.get(row["video"])
        if caption is None:
            totals.without_caption += 1
            continue
        source = row.get("source") or config.name
        yield Asked(source, row["video"], row["question"], row["answer"], caption)


def _tell_members(found: list[dict[str, Any]], ids: list[str], reader: _Reader) -> None:
    """Put ids for places, and the texts of the first members, which are read again for it."""
    texts: dict[int, str] = {place: "" for group in found for place in group["members"][:_SHOWN]}
    last = max(texts, default=-1)
    for place, row in enumerate(islice(reader.captions(), last + 1)):
        if place in texts:
            texts[place] = row[3]
    for group in found:
        places = group.pop("members")
        group["ids"] = [ids[place] for place in places]
        group["texts"] = [texts[place] for place in places[:_SHOWN]]


@contextmanager
def _pool(settings: Settings) -> Iterator[Executor | None]:
    workers = settings.workers or available_cores()
    if workers == 1:
        yield None
        return
    with worker_pool(workers) as pool:
        yield pool


def _map(
    pool: Executor | None, count: Callable[[_In], _Out], jobs: Iterable[_In]
) -> Iterator[_Out]:
    """Map in processes, or here where a single block is not worth the start of one."""
    jobs = iter(jobs)
    head = list(islice(jobs, 2))
    jobs = chain(head, jobs)
    if pool is None or len(head) < 2:
        return map(count, jobs)
    return ordered_map(count, jobs, ahead=_AHEAD, pool=pool)


_AHEAD = 8
