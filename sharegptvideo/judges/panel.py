"""Several judges as one: the majority decides, the score is the mean, and each verdict is kept."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sharegptvideo._io import KeyedLog
from sharegptvideo.endpoint import BudgetError, Estimate, ReplyStore
from sharegptvideo.errors import UserError
from sharegptvideo.judges.base import (
    VERDICT_FIELDS,
    Judge,
    JudgeItem,
    Verdict,
    is_judged,
    judge_items,
    known_sum,
    verdict_row,
)

__all__ = ["Panel"]

# What all members have in common is said once; the leaderboard reads it there.
_SHARED = ("protocol", "prompt_version", "prompt_hash", "endpoint")


class Panel(Judge):
    """Asks all members about every item, side by side.

    An answer is right (wrong) where more than half of all members say so: one that gave no verdict
    counts for neither. Without such a majority the item is unscored. The score is the mean over
    the members that gave one. `Verdict.judge["members"]` has what each said.
    """

    def __init__(self, members: Sequence[Judge]) -> None:
        """Members may be of any kind, as long as they score alike.

        Raises:
            UserError: fewer than two, one of them twice, scores on different scales, or members
                that count claims, which are neither right nor wrong.
        """
        names = [member.name for member in members]
        twice = next((name for name in names if names.count(name) > 1), None)
        if len(members) < 2 or twice:
            given = ", ".join(names) or "none"
            raise UserError(f"a panel needs two judges or more, each named once; got {given}")
        if any(member.headline == "f1" for member in members):
            raise UserError(
                "a panel votes on right or wrong, and descriptions are neither; judge them by one"
                " of its members at a time"
            )
        self.members = tuple(members)
        self.name = f"panel:{','.join(names)}"
        self.needs_frames = any(member.needs_frames for member in members)
        self.needs_reference = any(member.needs_reference for member in members)
        self.headline = members[0].headline
        self.compares_pairs = any(member.compares_pairs for member in members)
        self.scale = _common_scale(members)
        self.width = max(member.width for member in members)
        self._folder: Path | None = None

    def keep_in(self, folder: Path) -> None:
        """Write each member's verdicts to FOLDER/NUMBER.jsonl as they come, and use those there.

        So a panel that was killed asks no member twice, however far one was ahead of the others.
        The caller sees to it that the folder is of this panel.
        """
        self._folder = folder

    def describe(self) -> dict[str, Any]:
        """Name, kind, what the members have in common, and the members."""
        members = [dict(member.describe()) for member in self.members]
        shared = {}
        for key in _SHARED:
            values = [about[key] for about in members if key in about]
            if values and all(value == values[0] for value in values):
                shared[key] = values[0]
                for about in members:
                    about.pop(key, None)
        return {"name": self.name, "kind": "panel", **shared, "members": members}

    def check(self) -> None:
        """Check every member."""
        for member in self.members:
            member.check()

    def estimate(self, items: Iterable[JudgeItem]) -> Estimate:
        """Return what asking all members will take."""
        items = list(items)
        return sum((member.estimate(items) for member in self.members), Estimate())

    def judge(self, items: Sequence[JudgeItem]) -> Iterator[Verdict]:
        """Yield the panel's verdict on each item when all members have given theirs.

        Raises:
            UserError: a member cannot go on; the verdicts that are complete are out.
        """
        waiting: dict[str, dict[int, Verdict]] = {item.id: {} for item in items}
        with _Asking(self.members, items, self._folder) as asking:
            for number, verdict in asking:
                given = waiting[verdict.id]
                given[number] = verdict
                if len(given) == len(self.members):
                    del waiting[verdict.id]
                    yield self._decide(verdict.id, [given[n] for n in range(len(given))])

    async def verdicts(self, items: Sequence[JudgeItem]) -> list[Verdict]:
        """Return the panel's verdict on each item; its members are asked at once.

        Raises:
            UserError: a member cannot go on; what the others were at has ended.
        """
        calls = [asyncio.ensure_future(member.verdicts(items)) for member in self.members]
        await asyncio.gather(*calls, return_exceptions=True)
        given = [call.result() for call in calls]
        return [
            self._decide(item.id, verdicts) for item, *verdicts in zip(items, *given, strict=True)
        ]

    def prefetch(self, items: Iterable[JudgeItem]) -> None:
        """Have each member do so."""
        items = list(items)
        for member in self.members:
            member.prefetch(items)

    def keep_replies(self, store: ReplyStore) -> None:
        """Have each member do so."""
        for member in self.members:
            member.keep_replies(store)

    async def close(self) -> None:
        """Close all members."""
        for member in self.members:
            await member.close()

    def _decide(self, key: str, verdicts: Sequence[Verdict]) -> Verdict:
        right = sum(verdict.correct is True for verdict in verdicts)
        wrong = sum(verdict.correct is False for verdict in verdicts)
        scores = [verdict.score for verdict in verdicts if verdict.score is not None]
        decided = max(right, wrong) * 2 > len(verdicts)
        named = list(zip((member.name for member in self.members), verdicts, strict=True))
        replies = [f"{name}: {v.reply}" for name, v in named if v.reply is not None]
        # A member that could not be asked may answer another time: then no reply is the sign.
        unasked = any(v.status == "unscored" and v.reply is None for v in verdicts)
        return Verdict(
            id=key,
            status="scored" if decided else "unscored",
            correct=right > wrong if decided else None,
            score=sum(scores) / len(scores) if decided and scores else None,
            reason=_reason(right, wrong, verdicts, decided=decided),
            reply="\n".join(replies) if replies and (decided or not unasked) else None,
            judge={
                "answered_by": ", ".join(str(_who(name, v)) for name, v in named),
                "members": [_row(name, verdict) for name, verdict in named],
            },
            tokens=sum(verdict.tokens for verdict in verdicts),
            repaired=any(verdict.repaired for verdict in verdicts),
            dollars=known_sum(verdict.dollars for verdict in verdicts),
            replies=tuple(reply for verdict in verdicts for reply in verdict.replies),
        )


def _common_scale(members: Sequence[Judge]) -> tuple[int, int]:
    """Return the scale of all members: the mean over different ones would be of nothing."""
    scales = {member.name: member.scale for member in members}
    if len(set(scales.values())) > 1:
        given = ", ".join(f"{name} gives {low} to {high}" for name, (low, high) in scales.items())
        raise UserError(
            f"a panel's score is a mean, so its members need one scale: {given}; judge by them one"
            " at a time, or give the official protocol openai: judges alone"
        )
    return next(iter(scales.values()))


def _reason(right: int, wrong: int, verdicts: Sequence[Verdict], *, decided: bool) -> str:
    if decided:
        return f"{max(right, wrong)} of {len(verdicts)} say {'right' if right > wrong else 'wrong'}"
    causes = sorted({v.reason or "no cause given" for v in verdicts if v.status == "unscored"})
    without = len(verdicts) - right - wrong
    more = f", {without} unscored ({'; '.join(causes)})" if without else ""
    return f"no majority: {right} right, {wrong} wrong{more}"


def _who(name: str, verdict: Verdict) -> str:
    return str(verdict.judge.get("answered_by") or name)


def _row(name: str, verdict: Verdict) -> dict[str, Any]:
    return {"name": name, **{key: v for key, v in verdict.as_row().items() if key != "id"}}


class _Asking:
    """A thread for each member; iterating gives (number of the member, its verdict)."""

    def __init__(
        self, members: Sequence[Judge], items: Sequence[JudgeItem], folder: Path | None
    ) -> None:
        self._items = items
        self._done: queue.SimpleQueue[tuple[int, Verdict | BaseException | None]] = (
            queue.SimpleQueue()
        )
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._run,
                args=(number, member, folder),
                name=f"panel {member.name}",
                daemon=True,
            )
            for number, member in enumerate(members)
        ]

    def __enter__(self) -> _Asking:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # An error or Ctrl-C: members stop after the verdict they are at, which is kept. One that
        # waits for a server is not waited for.
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=2)

    def __iter__(self) -> Iterator[tuple[int, Verdict]]:
        left = len(self._threads)
        failed: BaseException | None = None
        while left:
            number, message = self._done.get()
            if isinstance(message, Verdict):
                yield number, message
                continue
            left -= 1
            if message is not None:
                failed = failed or message
                # At the limit of money, what the others are at is paid for: they run into it too.
                if not isinstance(message, BudgetError):
                    self._stop.set()
        if failed is not None:
            raise failed

    def _run(self, number: int, member: Judge, folder: Path | None) -> None:
        try:
            if folder is None:
                self._ask(number, member, self._items, None)
            else:
                with KeyedLog(folder / f"{number + 1}.jsonl", key=("task", "id")) as log:
                    self._ask(number, member, self._recall(number, log), log)
        except BaseException as error:  # noqa: BLE001 - raised where the verdicts are read
            self._done.put((number, error))
        else:
            self._done.put((number, None))

    def _recall(self, number: int, log: KeyedLog) -> list[JudgeItem]:
        """Hand on what the log has verdicts on; gives the items to ask about."""
        left = []
        for item in self._items:
            row = log.rows.get(f"{item.task}/{item.id}")
            if row is None or row["item_hash"] != item.hash or not is_judged(row):
                left.append(item)
            else:
                kept = {key: row[key] for key in VERDICT_FIELDS if key in row}
                self._done.put((number, Verdict(**kept)))
        return left

    def _ask(
        self, number: int, member: Judge, items: Sequence[JudgeItem], log: KeyedLog | None
    ) -> None:
        for item, verdict in judge_items(member, items):
            if log is not None:
                log.append(verdict_row(item, verdict))
            self._done.put((number, verdict))
            if self._stop.is_set():
                return
