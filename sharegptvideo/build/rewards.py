"""Scores for candidate answers, by a judge that reads texts only: the caption is the video."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from sharegptvideo._concurrency import Progress
from sharegptvideo._io import KeyedLog
from sharegptvideo.build.stage import (
    Row,
    begin,
    latest_rows,
    stage_file,
)
from sharegptvideo.endpoint import EndpointOptions
from sharegptvideo.errors import UserError
from sharegptvideo.judges import Judge, JudgeItem, is_judged, judge_items, verdict_row

__all__ = ["RewardsReport", "score_candidates"]

_OF_VERDICT = ("status", "score", "reason", "reply", "judge", "tokens")
"""What an answer has of its verdict's row."""


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


_VERDICTS = "rewards_verdicts"
_PANEL = "rewards_panel"


def score_candidates(
    candidates: Path,
    judge: Judge,
    out: Path,
    *,
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
    reply, judge, tokens}]; and the judge's description, then the report without `n_judged`, in
    `out/rewards.json`.
    Until all of an item's answers are judged, each verdict stands in `out/rewards_verdicts.jsonl`
    from the moment it comes; of a panel, those of its members in `out/rewards_panel`.

    Args:
        candidates: the file that `sample_candidates` wrote, or its folder.
        judge: gives the scores, 1 to 5 by the paper.
        out: the folder to write.
        endpoint: what the judge was opened with; approves what judging will cost.
        progress: called with answers judged, answers to judge, "rewards".

    Raises:
        UserError: a broken input, a judge that cannot work, or results of another judge in `out`.
    """
    file = stage_file(candidates, "candidates.jsonl")
    items = latest_rows(file)
    if not items:
        raise UserError(f"{file}: no candidates; run `sharegptvideo build candidates` first")
    judge.check()
    with begin(out / "rewards.json", {"judge": judge.describe()}) as run:
        log, verdicts = run.log("rewards"), run.log(_VERDICTS)
        judge.keep_in(out / _PANEL)
        rows = _unjudged(items, log, verdicts)
        asked = [_judge_item(row, index) for row in rows.values() for index in _open(row)]
        if endpoint is not None:
            endpoint.approve(judge.estimate(asked))
        _judge(judge, asked, rows, log, verdicts, progress)
        report = _report([log.rows[item_id] for item_id in items], len(asked))
        # How often this run asked is no part of the results: a killed run leaves the same file.
        run.finish({k: value for k, value in report.as_dict().items() if k != "n_judged"})
    verdicts.path.unlink(missing_ok=True)  # all of them are in the rows
    shutil.rmtree(out / _PANEL, ignore_errors=True)
    return report


def _unjudged(items: dict[str, Row], log: KeyedLog, verdicts: KeyedLog) -> dict[str, Row]:
    """Bring the log up to date as far as verdicts are there; return the rows that lack some."""
    rows: dict[str, Row] = {}
    for item_id, item in items.items():
        old = log.rows.get(item_id)
        row = _row(item, old)
        for index in _open(row):
            asked = _judge_item(row, index)
            kept = verdicts.rows.get(asked.id)
            if kept is not None and kept["item_hash"] == asked.hash and is_judged(kept):
                _take(row, index, kept)
        if _open(row):
            rows[item_id] = row
        elif row != old:
            log.append(row)
    return rows


def _judge(
    judge: Judge,
    asked: list[JudgeItem],
    rows: dict[str, Row],
    log: KeyedLog,
    verdicts: KeyedLog,
    progress: Progress | None,
) -> None:
    """Judge what is asked: each verdict is kept as it comes, each row when it has all of them."""
    left = Counter(_place(item)[0] for item in asked)
    for done, (item, verdict) in enumerate(judge_items(judge, asked), start=1):
        judged = verdict_row(item, verdict)
        verdicts.append(judged)
        item_id, index = _place(item)
        _take(rows[item_id], index, judged)
        left[item_id] -= 1
        if not left[item_id]:
            log.append(rows[item_id])
        if progress:
            progress(done, len(asked), "rewards")


def _place(item: JudgeItem) -> tuple[str, int]:
    """Return the id of the row that an answer is of, and its number there."""
    item_id, _, index = item.id.rpartition("#")
    return item_id, int(index)


def _take(row: Row, index: int, judged: Row) -> None:
    row["answers"][index].update({name: judged[name] for name in _OF_VERDICT})


def _row(item: Row, old: Row | None) -> Row:
    """Return the row of an item, with the verdicts that an earlier row holds on the same texts."""
    texts: Counter[str] = Counter(item["candidates"])
    row = {
        name: item[name] for name in ("id", "video", "source", "question", "answer", "caption")
    } | {"error": item["error"], "answers": []}
    same = old is not None and all(
        old[name] == row[name] for name in ("question", "answer", "caption")
    )
    known = {answer["text"]: answer for answer in old["answers"]} if old and same else {}
    for text, copies in texts.items():
        blank = {"text": text, "copies": copies} | dict.fromkeys(_OF_VERDICT) | {"tokens": 0}
        row["answers"].append(known.get(text, blank) | {"copies": copies})
    return row


def _open(row: Row) -> list[int]:
    """Return the answers to ask about: never judged, or by a call that failed."""
    return [index for index, answer in enumerate(row["answers"]) if not is_judged(answer)]


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


def _report(rows: list[Row], n_judged: int) -> RewardsReport:
    answers = [answer for row in rows for answer in row["answers"]]
    scored = [answer for answer in answers if answer["score"] is not None]
    weight = sum(answer["copies"] for answer in scored)
    total = sum(answer["copies"] * answer["score"] for answer in scored)
    unscored = [answer for answer in answers if answer["score"] is None]
    return RewardsReport(
        n_items=len(rows),
        n_failed=sum(row["error"] is not None for row in rows),
        n_answers=sum(answer["copies"] for answer in answers),
        n_distinct=len(answers),
        n_judged=n_judged,
        n_scored=len(scored),
        n_unscored=len(unscored),
        mean_score=total / weight if weight else None,
        tokens=sum(answer["tokens"] for answer in answers),
        reasons=dict(Counter(str(answer["reason"]) for answer in unscored)),
    )
