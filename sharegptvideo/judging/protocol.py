"""What a language model judge is asked, and how its reply is read: by the letter or not at all."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from sharegptvideo.errors import unknown_name
from sharegptvideo.judging.base import JudgeItem
from sharegptvideo.storage import sha256_text

__all__ = ["PROTOCOLS", "Protocol", "UnreadableError", "load_protocol"]

PROTOCOLS = ("caption-grounded", "official")

_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)\n?\s*```", re.DOTALL | re.IGNORECASE)
_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL)


class UnreadableError(ValueError):
    """A reply that states no verdict, or more than one; says why."""


class Protocol(BaseModel):
    """One prompt file: its wording, the range of scores, the schema of the reply."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: int
    max_words: int | None
    lowest: int
    highest: int
    system: str
    user: str
    repair: str
    schema_: dict[str, Any]

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of all that the judge is told, schema included."""
        told = [self.system, self.user, self.repair, json.dumps(self.schema_, sort_keys=True)]
        return sha256_text("\0".join([*told, str(self.max_words)]))[:16]

    def messages(self, item: JudgeItem) -> list[dict[str, str]]:
        """The conversation that asks for a verdict on `item`.

        The texts go in as one JSON object whose values can end neither the object nor the block
        around it. A long prediction is cut at `max_words`, as in the paper.
        """
        answer = item.prediction
        if self.max_words is not None and len(answer.split()) > self.max_words:
            answer = " ".join(answer.split()[: self.max_words])
        material = {"question": item.question, "reference": item.reference, "answer": answer}
        if self.name == "caption-grounded":
            material = {"description": item.caption or "(none given)"} | material
        text = json.dumps(material, ensure_ascii=False, indent=2).replace("`", "\\u0060")
        user = self.user.replace("{material}", text)
        return [{"role": "system", "content": self.system}, {"role": "user", "content": user}]

    def ask_again(self, problem: str) -> str:
        """The message that asks once more after an unreadable reply."""
        return self.repair.replace("{problem}", problem)

    def response_format(self) -> dict[str, Any]:
        """The `response_format` of the request: the reply's JSON schema."""
        schema = {"name": "verdict", "strict": True, "schema": self.schema_}
        return {"type": "json_schema", "json_schema": schema}

    def read(self, reply: str) -> tuple[bool, int, str | None]:
        """Read (correct, score, explanation) from a reply: one JSON object and nothing beside it.

        A Markdown fence around the object and a model's `<think>` part before it are let pass.

        Raises:
            UnreadableError: anything else: other text, two scores, "4.8", a score out of range.
        """
        found = _one_object(reply)
        score = found.get("score")
        if isinstance(score, bool) or not isinstance(score, int):
            raise UnreadableError(f"its score is {json.dumps(score)}, not a whole number")
        if not self.lowest <= score <= self.highest:
            raise UnreadableError(f"its score {score} is not from {self.lowest} to {self.highest}")
        if "correct" in self.schema_["required"]:
            correct = found.get("correct")
            if correct not in ("yes", "no"):
                raise UnreadableError(f'its "correct" is {json.dumps(correct)}, not "yes" or "no"')
            return correct == "yes", score, None
        explanation = found.get("explanation")
        return score >= 3, score, explanation if isinstance(explanation, str) else None


@cache
def load_protocol(name: str) -> Protocol:
    """Load `caption-grounded` or `official`.

    Raises:
        UserError: there is no protocol of that name.
    """
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    file = resources.files(__package__) / "prompts" / f"{name.replace('-', '_')}.yaml"
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    return Protocol(**{("schema_" if k == "schema" else k): v for k, v in values.items()})


def _one_object(reply: str) -> dict[str, Any]:
    text = _THOUGHT.sub("", reply, count=1).strip()
    fenced = _FENCED.fullmatch(text)
    if fenced:
        text = fenced[1].strip()
    if not text:
        raise UnreadableError("it is empty")
    try:
        found = json.loads(text, object_pairs_hook=_unique)
    except RecursionError as error:
        raise UnreadableError("it is nested too deeply") from error
    except UnreadableError:
        raise
    except ValueError as error:  # no JSON, or a number of more digits than Python takes
        raise UnreadableError("it is not one JSON object") from error
    if not isinstance(found, dict):
        raise UnreadableError("it is not one JSON object")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UnreadableError(f'it gives "{twice}" twice')
    return dict(pairs)
