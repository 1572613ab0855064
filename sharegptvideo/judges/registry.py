"""Open a judge by the name that users type."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sharegptvideo.errors import UserError, unknown_name
from sharegptvideo.judges.base import Judge, RulesJudge
from sharegptvideo.judges.exact import Exact
from sharegptvideo.judges.panel import Panel
from sharegptvideo.judges.rules.answer_match import AnswerMatch
from sharegptvideo.judges.rules.choices import Choice, YesNo

if TYPE_CHECKING:
    from sharegptvideo.endpoint import EndpointOptions

__all__ = ["JUDGES", "JudgeChoice", "open_judge"]

JUDGES = (
    "answer-match",
    "claim-match",
    "exact",
    "yes-no",
    "choice",
    "openai:NAME",
    "panel:JUDGE,JUDGE,JUDGE",
)
_CLAIM_MATCH = "claim-match"


@dataclass(frozen=True, slots=True)
class JudgeChoice:
    """A judge that a stage asks; see `open_judge`.

    Attributes:
        spec: what `open_judge` takes.
        base_url: endpoint of `openai:` judges; default: OPENAI_BASE_URL.
    """

    spec: str
    base_url: str | None = None

    def open(self, options: EndpointOptions | None = None) -> Judge:
        """Open the judge; see `open_judge`."""
        return open_judge(self.spec, base_url=self.base_url, options=options)


def open_judge(
    spec: str,
    *,
    base_url: str | None = None,
    protocol: str = "caption-grounded",
    prompt_file: Path | None = None,
    sees: Literal["frames"] | None = None,
    options: EndpointOptions | None = None,
) -> Judge:
    """Open one of `JUDGES`; a panel is of several of them.

    `yes-no` and `choice` are for the tasks whose answers are so.

    Nothing is contacted until `check` or `judge` is called.

    Args:
        spec: the judge.
        base_url: endpoint of `openai:` judges; default: OPENAI_BASE_URL.
        protocol: what is asked of the judge, one of `protocol.PROTOCOLS`: the prompt of `openai:`
            judges. Under "claims" `answer-match` is `claim-match`, the rules that count claims.
        prompt_file: replaces the prompt's wording; its form is that of the files in `eval/prompts`.
        sees: "frames": `openai:` judges see frames of the clip instead of its caption.
        options: how fast, for how much money and with which cache `openai:` judges are asked.

    Raises:
        UserError: no judge of that name (names the nearest), a prompt file that cannot be used,
            frames for a judge that reads texts, or rules that know nothing of the protocol.
    """
    kind, _, name = spec.partition(":")
    if kind == "panel":
        members = [part.strip() for part in name.split(",") if part.strip()]
        if any(member.startswith("panel:") for member in members):
            raise UserError(f"judge {spec!r}: a panel cannot sit in a panel")
        open_member = partial(
            open_judge,
            base_url=base_url,
            protocol=protocol,
            prompt_file=prompt_file,
            sees=sees,
            options=options,
        )
        return Panel([open_member(member) for member in members])
    if kind == "openai":
        if not name:
            raise UserError(f"judge {spec!r} names no model; write openai:NAME")
        from sharegptvideo.judges.llm import OpenAIJudge

        return OpenAIJudge(
            name,
            base_url=base_url,
            protocol=protocol,
            prompt_file=prompt_file,
            sees=sees,
            options=options,
        )
    if spec not in (*_RULES, _CLAIM_MATCH):
        raise unknown_name("judge", spec, JUDGES)
    if sees == "frames" or protocol == "frames":
        raise UserError(f"judge {spec} reads texts only; frames need openai:NAME")
    if protocol == "claims" and spec != Exact.name:
        from sharegptvideo.judges.rules.claim_match import ClaimMatch

        return ClaimMatch()
    if spec == _CLAIM_MATCH:
        raise UserError(f"judge {spec} counts the claims of descriptions; {protocol} has answers")
    if protocol not in ("caption-grounded", "official"):
        raise UserError(
            f"judge {spec} knows right and wrong answers only; {protocol} needs openai:NAME"
        )
    return _RULES[spec]()


_RULES: dict[str, type[RulesJudge]] = {
    each.name: each for each in (Exact, AnswerMatch, YesNo, Choice)
}
