"""Verdicts that were recorded elsewhere: a judge that repeats what another program was answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sharegptvideo.judges.base import ACCEPTABLE, Judge, JudgeItem, Verdict
from sharegptvideo.judges.protocol import ProtocolName, ReplyKeys, ReplyRules, UnreadableError

__all__ = ["RecordedJudge", "RecordedReply"]

_GRADES = ReplyRules(
    lowest=1,
    highest=5,
    correct_from=ACCEPTABLE,
    reply="lines",
    keys=ReplyKeys(explanation="Explanation", score="Score"),
)
_RULES: Mapping[ProtocolName, ReplyRules] = {
    "official": ReplyRules(
        lowest=0, highest=5, reply="python-dict", keys=ReplyKeys(correct="pred", score="score")
    ),
    "caption-grounded": _GRADES,
    "frames": _GRADES,
}
"""The forms that the paper's judges were asked for; their prompts are not known here."""


@dataclass(frozen=True, slots=True)
class RecordedReply:
    """A judge's reply, word for word, or why there is none."""

    text: str | None = None
    error: str | None = None


class RecordedJudge(Judge):
    """Gives the verdicts of replies that are there already, and asks none.

    Replies are read as strictly as those of any judge, but for scores such as 4.8, which the
    paper's judges were not kept from.
    """

    def __init__(
        self, model: str | None, protocol: ProtocolName, replies: Mapping[str, RecordedReply]
    ) -> None:
        """`model` is the judge that gave the replies, None where unknown; `replies` are by id."""
        self.name = f"recorded:{model or 'unknown'}"
        self._rules = _RULES[protocol]
        self.scale = (self._rules.lowest, self._rules.highest)
        self._replies = replies
        self._about = {"kind": "recorded", "model": model, "protocol": protocol}

    def describe(self) -> dict[str, Any]:
        """Return name, kind, model and protocol; the prompt that was sent is not known."""
        return {"name": self.name, **self._about}

    def check(self) -> None:
        """Do nothing: the replies are there."""

    def judge(self, items: Sequence[JudgeItem]) -> Iterator[Verdict]:
        """Yield the verdict of each item's reply, in order; without one it is unscored."""
        for item in items:
            reply = self._replies.get(item.id, RecordedReply(error="no reply is recorded"))
            if reply.text is None:
                yield Verdict(item.id, "unscored", reason=reply.error, judge=self._about)
                continue
            try:
                correct, score, reason = self._rules.read(reply.text, whole=False)
            except UnreadableError as error:
                reason = f"the reply cannot be read: {error}"
                yield Verdict(
                    item.id, "unscored", reason=reason, reply=reply.text, judge=self._about
                )
                continue
            yield Verdict(
                item.id,
                "scored",
                correct=correct,
                score=float(score),
                reason=reason,
                reply=reply.text,
                judge=self._about,
            )
