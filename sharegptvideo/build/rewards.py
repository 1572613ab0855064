"""Scores for candidate answers, by a judge that reads texts only: the caption is the video."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from sharegptvideo._concurrency import Progress
from sharegptvideo._io import LatestRows
from sharegptvideo.build.engines import run_stage
from sharegptvideo.build.stage import (
    Context,
    EngineOptions,
    OpenStage,
    Row,
    Stage,
    input_hash,
    provenance,
    stage_file,
)
from sharegptvideo.endpoint import EndpointOptions, Estimate, Reply
from sharegptvideo.errors import UserError
from sharegptvideo.judges import (
    Judge,
    JudgeChoice,
    JudgeItem,
    Verdict,
    is_judged,
    verdict_row,
)
from sharegptvideo.models import Answer, Request
from sharegptvideo.models.asking import Turn

__all__ = ["Rewards", "RewardsReport", "score_candidates"]

_COLUMNS = ("id", "video", "source", "question", "answer", "caption")
_OF_VERDICT = ("status", "score", "reason", "reply", "judge", "tokens")
"""What an answer has of its verdict's row."""

# Of versions without a store of replies: verdicts on items that lacked some, of a panel's members.
_EARLIER_VERDICTS, _EARLIER_PANEL = "rewards_verdicts.jsonl", "rewards_panel"


@dataclass(slots=True)
class RewardsReport:
    """What `score_candidates` holds when it ends.

    `n_failed` items have no candidates (see the first step); `n_judged` are the judgements asked
    for in this run; `reasons` counts the unscored answers by reason; `tokens` is what the
    judgements in the file cost.
    """

    n_items: int = 0
    n_failed: int = 0
    n_answers: int = 0
    n_distinct: int = 0
    n_judged: int = 0
    n_scored: int = 0
    n_unscored: int = 0
    mean_score: float | None = None
    tokens: int = 0
    reasons: dict[str, int] | None = None

    def as_dict(self) -> Row:
        """Return the report as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Rewards(Stage):
    """Scores of candidates. Its rows are those of its log, with the verdicts that are there.

    Attributes:
        judge: that gives them; one that is open already for the local engine alone.
    """

    judge: JudgeChoice | Judge

    name: ClassVar[str] = "rewards"
    version: ClassVar[int] = 1

    def open(self, context: Context) -> OpenStage:
        """Open the judge, which other processes can only do by its name.

        Raises:
            UserError: it is open already, and the engine has other processes.
        """
        if isinstance(self.judge, Judge) and context.engine.name != "local":
            raise UserError(
                f"judge {self.judge.name}: is open in this process alone; give"
                f" JudgeChoice({self.judge.name!r}), or take the engine local"
            )
        return _OpenRewards(self, context)

    def hash_of(self, row: Row) -> str:
        """Return what stands for an item's texts, of how many draws each is, and its failure."""
        texts = [[answer["text"], answer["copies"]] for answer in row["answers"]]
        columns = {name: row[name] for name in (*_COLUMNS, "error")}
        return input_hash(columns | {"answers": texts})

    def input_of(self, row: Row) -> str | None:
        """Return the same of a row of the log; None where no reply came to a question."""
        return None if _open(row) else self.hash_of(row)


class _OpenRewards(OpenStage):
    def __init__(self, settings: Rewards, context: Context) -> None:
        self.settings, self._context = settings, context
        if isinstance(settings.judge, Judge):
            self._judge = settings.judge
            if context.endpoint.store is not None:
                self._judge.keep_replies(context.endpoint.store)
        else:
            self._judge = settings.judge.open(context.endpoint)
        self.width = self._judge.width

    async def __call__(self, rows: Sequence[Row], turn: Turn) -> list[Row]:  # noqa: ARG002
        (row,) = rows
        made = {name: row[name] for name in (*_COLUMNS, "error")}
        made["answers"] = [dict(answer) for answer in row["answers"]]
        asked = [_judge_item(made, index) for index in _open(made)]
        verdicts = await self._judge.verdicts(asked) if asked else []
        for index, item, verdict in zip(_open(made), asked, verdicts, strict=True):
            _take(made, index, verdict_row(item, verdict))
        return [made | {"made": _and_before(self._made(row, verdicts), row.get("made"))}]

    def _made(self, row: Row, verdicts: Sequence[Verdict]) -> Row:
        judge = self._judge.describe()
        version, digest = judge.get("prompt_version", 0), judge.get("prompt_hash")
        return provenance(
            self.settings,
            row,
            model=self._judge.name,
            prompt=None if digest is None else (version, digest),
            params=None,
            answers=[_answer(reply) for verdict in verdicts for reply in verdict.replies],
            context=self._context,
        )

    def describe(self) -> Row:
        """Return the judge."""
        return {"judge": self._judge.describe()}

    def check(self, rows: Iterable[Row]) -> None:  # noqa: ARG002 - a judge takes any
        """Contact a server; see `Judge.check`."""
        self._judge.check()

    def estimate(self, rows: Iterable[Row]) -> Estimate:
        return self._judge.estimate(_asked(rows))

    def prepare(self, rows: Iterable[Row]) -> None:
        """Ask by the Batch API, where the options say so."""
        self._judge.prefetch(_asked(rows))

    def figures(self, rows: Iterable[Row]) -> Row:
        """Return what `RewardsReport` has, but for the judgements of this run."""
        report, reasons = RewardsReport(), Counter[str]()
        weight, total = 0, 0.0
        for row in rows:
            report.n_items += 1
            report.n_failed += row["error"] is not None
            for answer in row["answers"]:
                report.n_distinct += 1
                report.n_answers += answer["copies"]
                report.tokens += answer["tokens"]
                if answer["score"] is None:
                    reasons[str(answer["reason"])] += 1
                else:
                    report.n_scored += 1
                    weight += answer["copies"]
                    total += answer["copies"] * answer["score"]
        report.n_unscored, report.reasons = reasons.total(), dict(reasons)
        report.mean_score = total / weight if weight else None
        # How often a run asked is no part of the results: a killed run leaves the same file.
        return {name: value for name, value in report.as_dict().items() if name != "n_judged"}

    async def close(self) -> None:
        await self._judge.close()


def score_candidates(
    candidates: Path,
    judge: JudgeChoice | Judge,
    out: Path,
    *,
    engine: str | EngineOptions = "local",
    endpoint: EndpointOptions | None = None,
    progress: Progress | None = None,
) -> RewardsReport:
    """Score every candidate answer; resumable.

    The judge is given caption, question, reference and answer. Answers of one question that are
    equal to the letter are judged once. An answer that the judge cannot score stays, with its
    reason and without a score. The next run asks again only where no reply came (an endpoint that
    was down), never where one came that could not be read.

    Writes `out/rewards.jsonl`, one row an item: id, video, source, question, answer, caption,
    error (why there are no candidates, or null), answers [{text, copies, status, score, reason,
    reply, judge, tokens}], made (see `provenance`); and the judge's description, then the report
    without `n_judged`, in `out/rewards.json`. Each reply of a served judge stands in `out/replies`
    from the moment it comes.

    Args:
        candidates: the file that `sample_candidates` wrote, or its folder.
        judge: gives the scores, 1 to 5 by the paper.
        out: the folder to write.
        engine: what runs it, see `run_stage`.
        endpoint: speed, money and cache of the judge's calls; a judge that is open already has its
            own.
        progress: called with items done, items, "rewards".

    Raises:
        UserError: a broken input, a judge that cannot work, or results of another judge in `out`.
    """
    file = stage_file(candidates, "candidates.jsonl")
    items = LatestRows(file)
    if not len(items):
        raise UserError(f"{file}: no candidates; run `sharegptvideo build candidates` first")
    stage = Rewards(judge)
    endpoint = endpoint or EndpointOptions()
    rows = _Items(items, *_earlier(items, stage, out, endpoint))
    n_judged = sum(len(_open(row)) for row in rows)
    report = run_stage(stage, rows, out, engine=engine, endpoint=endpoint, progress=progress)
    (out / _EARLIER_VERDICTS).unlink(missing_ok=True)  # all of them are in the rows
    return RewardsReport(**report.figures, n_judged=n_judged)


@dataclass(frozen=True, slots=True)
class _Items:
    """The rows to judge: candidates, with the verdicts on the same texts that are there."""

    candidates: LatestRows
    rows: Mapping[str, Row]
    verdicts: Mapping[str, Row]

    def __iter__(self) -> Iterator[Row]:
        for item in self.candidates:
            row = _row(item, self.rows.get(item["id"]))
            for index in _open(row) if self.verdicts else ():
                asked = _judge_item(row, index)
                kept = self.verdicts.get(asked.id)
                if kept is not None and kept["item_hash"] == asked.hash and is_judged(kept):
                    _take(row, index, kept)
            yield row


def _earlier(
    items: LatestRows, stage: Rewards, out: Path, endpoint: EndpointOptions
) -> tuple[dict[str, Row], dict[str, Row]]:
    """Return the rows in `out` that are to be made again, and verdicts of an earlier version."""
    log, verdicts = out / "rewards.jsonl", out / _EARLIER_VERDICTS
    rows: dict[str, Row] = {}
    if log.is_file():
        hashes = {item["id"]: stage.hash_of(_row(item, None)) for item in items}
        rows = {
            row["id"]: row
            for row in LatestRows(log)
            if row["id"] in hashes and stage.input_of(row) != hashes[row["id"]]
        }
    if (out / _EARLIER_PANEL).is_dir() and endpoint.report is not None:
        endpoint.report(
            f"{out / _EARLIER_PANEL}: verdicts of a panel's members that an earlier version kept;"
            f" this one keeps replies in {out / 'replies'}, and asks for these again"
        )
    kept = LatestRows(verdicts) if verdicts.is_file() else ()
    return rows, {row["id"]: row for row in kept}


def _row(item: Row, old: Row | None) -> Row:
    """Return the row of an item, with the verdicts that an earlier row holds on the same texts."""
    row: Row = {name: item[name] for name in (*_COLUMNS, "error")} | {"answers": []}
    same = old is not None and all(
        old[name] == row[name] for name in ("question", "answer", "caption")
    )
    known: dict[str, Any] = {}
    if old is not None and same:
        known = {answer["text"]: answer for answer in old["answers"]}
        row["made"] = old.get("made")
    texts: Counter[str] = Counter(item["candidates"])
    for text, copies in texts.items():
        blank = {"text": text, "copies": copies} | dict.fromkeys(_OF_VERDICT) | {"tokens": 0}
        row["answers"].append(known.get(text, blank) | {"copies": copies})
    return row


def _open(row: Row) -> list[int]:
    """Return the answers to ask about: never judged, or by a call that failed."""
    return [index for index, answer in enumerate(row["answers"]) if not is_judged(answer)]


def _asked(rows: Iterable[Row]) -> Iterator[JudgeItem]:
    return (_judge_item(row, index) for row in rows for index in _open(row))


def _judge_item(row: Row, index: int) -> JudgeItem:
    return JudgeItem(
        id=f"{row['id']}#{index}",
        task="preferences",
        video=row["video"],
        question=row["question"],
        reference=row["answer"],
        prediction=row["answers"][index]["text"],
        caption=row["caption"],
    )


def _take(row: Row, index: int, judged: Row) -> None:
    row["answers"][index].update({name: judged[name] for name in _OF_VERDICT})


def _answer(reply: Reply) -> Answer:
    """Return a judge's reply as the answer of a model, with what it cost."""
    return Answer(
        Request(""),
        usage={
            "prompt_tokens": reply.tokens - reply.completion_tokens,
            "cached_tokens": reply.cached_tokens,
            "completion_tokens": reply.completion_tokens,
        },
        answered_by=reply.model,
        attempts=reply.attempts,
        dollars=reply.dollars,
    )


def _and_before(made: Row, before: Row | None) -> Row:
    """Add what the verdicts cost that an earlier run has given."""
    if before is None:
        return made
    tokens = {name: _sum(each, before["tokens"][name]) for name, each in made["tokens"].items()}
    counts = {name: _sum(made[name], before[name]) for name in ("dollars", "requests", "attempts")}
    who = sorted({*made["answered_by"], *before["answered_by"]})
    return made | {"answered_by": who, "tokens": tokens} | counts


def _sum(one: float | None, other: float | None) -> float | None:
    return one if other is None else other if one is None else one + other
