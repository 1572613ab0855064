"""Open a judge by the name that users type."""

from __future__ import annotations

from pathlib import Path

from sharegptvideo.errors import UserError, unknown_name
from sharegptvideo.judging.answer_match import AnswerMatch
from sharegptvideo.judging.base import Judge
from sharegptvideo.judging.exact import Exact

__all__ = ["JUDGES", "open_judge"]

JUDGES = ("answer-match", "exact", "openai:NAME")


def open_judge(
    spec: str,
    *,
    base_url: str | None = None,
    protocol: str = "caption-grounded",
    prompt_file: Path | None = None,
    concurrency: int = 8,
) -> Judge:
    """Open `exact`, `answer-match` or `openai:NAME`.

    `protocol` ("caption-grounded" or "official") chooses the prompt of an `openai:` judge,
    `prompt_file` replaces its wording (the form is that of the files in `prompts`);
    `base_url` is its endpoint (default: OPENAI_BASE_URL). Nothing is contacted until `check` or
    `judge` is called.

    Raises:
        UserError: no judge of that name; names the nearest.
    """
    if spec == Exact.name:
        return Exact()
    if spec == AnswerMatch.name:
        return AnswerMatch()
    kind, _, name = spec.partition(":")
    if kind == "openai":
        if not name:
            raise UserError(f"judge {spec!r} names no model; write openai:NAME")
        from sharegptvideo.judging.openai_judge import OpenAIJudge

        return OpenAIJudge(
            name,
            base_url=base_url,
            protocol=protocol,
            prompt_file=prompt_file,
            concurrency=concurrency,
        )
    raise unknown_name("judge", spec, JUDGES)
