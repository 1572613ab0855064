"""What a language model judge is asked, and how its reply is read: by the letter or not at all."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sharegptvideo._io import parse_yaml, read_text, sha256_text
from sharegptvideo._shipped import shipped
from sharegptvideo.errors import UserError, unknown_name
from sharegptvideo.judges.base import JudgeItem
from sharegptvideo.judges.quoting import cut, in_line, quoted
from sharegptvideo.judges.reading import Form, UnreadableError, read_object, shown

__all__ = ["PROTOCOLS", "Protocol", "ReplyKeys", "UnreadableError", "load_protocol"]

PROTOCOLS = ("caption-grounded", "official")

_CONFIG = ConfigDict(extra="forbid", frozen=True)
_TEXTS = ("description", "question", "reference", "answer")
_NOT_GIVEN = "(none given)"
_PLACE = re.compile(r"\{([A-Za-z_]\w*)\}")  # {answer}, and not the braces of JSON


class ReplyKeys(BaseModel):
    """Which keys of a reply hold the verdict; those that are None are not asked for."""

    model_config = _CONFIG

    score: str = "score"
    correct: str | None = None
    explanation: str | None = None

    @property
    def names(self) -> list[str]:
        """The keys, in the order in which a reply has them: reasons before figures."""
        return [name for name in (self.explanation, self.correct, self.score) if name]


class Protocol(BaseModel):
    """One prompt file: its wording, the range of scores, the form of the reply.

    `user` holds `{material}`, the texts as one block that they cannot leave, or each of the texts
    by name, for wordings that are older than the block.
    """

    model_config = _CONFIG

    protocol: Literal["caption-grounded", "official"]
    version: Annotated[int, Field(ge=1)]
    sees: Literal["caption", "frames", "nothing"]
    frames: Annotated[int, Field(ge=1)] | None = None
    max_words: Annotated[int, Field(ge=1)] | None = None
    max_characters: Annotated[int, Field(ge=1)] = 4096
    lowest: int
    highest: int
    correct_from: int | None = None
    reply: Form = "json"
    keys: ReplyKeys = ReplyKeys()
    system: str | None = None
    user: str
    repair: str

    @model_validator(mode="after")
    def _fits_together(self) -> Protocol:
        if self.lowest >= self.highest:
            raise ValueError(f"lowest {self.lowest} is not below highest {self.highest}")
        if (self.keys.correct is None) == (self.correct_from is None):
            raise ValueError(
                "what makes an answer right has to be said once: correct_from (a score) or"
                " keys.correct (a key of the reply that says yes or no)"
            )
        if self.correct_from is not None and not self.lowest < self.correct_from <= self.highest:
            raise ValueError(f"correct_from {self.correct_from} splits no scores")
        if (self.protocol == "official") != (self.sees == "nothing"):
            raise ValueError("a judge sees nothing under official, and else caption or frames")
        if (self.sees == "frames") != (self.frames is not None):
            raise ValueError("frames (how many) belongs to sees: frames, and is needed there")
        if len(set(self.keys.names)) != len(self.keys.names):
            raise ValueError("keys names one key twice")
        self._check_wording()
        return self

    def _check_wording(self) -> None:
        texts = self._shown_texts()
        held = _PLACE.findall(self.user)
        if sorted(held) not in (["material"], sorted(texts)):
            raise ValueError(
                "user has to hold {material} once, or else each of"
                f" {', '.join(f'{{{name}}}' for name in texts)} once; it holds"
                f" {', '.join(f'{{{name}}}' for name in held) or 'none'}"
            )
        if "{problem}" not in self.repair:
            raise ValueError("repair has to hold {problem}")

    def _shown_texts(self) -> tuple[str, ...]:
        return _TEXTS if self.sees == "caption" else _TEXTS[1:]

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of all that shapes a verdict: wording, form, range."""
        told = self.model_dump(mode="json", exclude={"protocol", "version"})
        return sha256_text(json.dumps(told, sort_keys=True))[:16]

    def is_cut(self, item: JudgeItem) -> bool:
        """Whether the judge sees a part of the answer only."""
        shown_part = self._cut(item.prediction)
        return shown_part.split() != item.prediction.split()

    def messages(self, item: JudgeItem) -> list[dict[str, str]]:
        """The conversation that asks for a verdict on `item`, without the frames.

        The texts go in as one JSON object whose values can end neither the object nor the block
        around it, or, where the wording has a place for each, on one line each. A long prediction
        is cut: at `max_words`, as in the paper, and at `max_characters`.
        """
        texts = {
            "description": item.caption or _NOT_GIVEN,
            "question": item.question,
            "reference": item.reference,
            "answer": self._cut(item.prediction),
        }
        material = {name: texts[name] for name in self._shown_texts()}
        values = {name: in_line(text) for name, text in material.items()}
        user = _fill(self.user, values | {"material": quoted(material)})
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": user}]

    def _cut(self, prediction: str) -> str:
        return cut(prediction, words=self.max_words, characters=self.max_characters)

    def ask_again(self, problem: str) -> str:
        """The message that asks once more after an unreadable reply."""
        return self.repair.replace("{problem}", problem)

    def response_format(self) -> dict[str, Any] | None:
        """The `response_format` of the request, the reply's JSON schema; None for other forms."""
        if self.reply != "json":
            return None
        kinds: dict[str | None, dict[str, Any]] = {
            self.keys.explanation: {"type": "string"},
            self.keys.correct: {"type": "string", "enum": ["yes", "no"]},
            self.keys.score: {"type": "integer", "minimum": self.lowest, "maximum": self.highest},
        }
        names = self.keys.names
        schema = {
            "type": "object",
            "additionalProperties": False,
            "required": names,
            "properties": {name: kinds[name] for name in names},
        }
        return {
            "type": "json_schema",
            "json_schema": {"name": "verdict", "strict": True, "schema": schema},
        }

    def read(self, reply: str) -> tuple[bool, int, str | None]:
        """Read (correct, score, explanation) from a reply; see `read_object`.

        Raises:
            UnreadableError: anything else: other text, two scores, "4.8", a score out of range.
        """
        found = read_object(reply, self.reply, self.keys.names)
        score = found.get(self.keys.score)
        if isinstance(score, bool) or not isinstance(score, int):
            raise UnreadableError(f"its {self.keys.score} is {shown(score)}, not a whole number")
        if not self.lowest <= score <= self.highest:
            raise UnreadableError(
                f"its {self.keys.score} {shown(score)} is not from {self.lowest} to {self.highest}"
            )
        explanation = found.get(self.keys.explanation) if self.keys.explanation else None
        return (
            self._is_correct(found, score),
            score,
            explanation if isinstance(explanation, str) else None,
        )

    def _is_correct(self, found: dict[str, Any], score: int) -> bool:
        if self.correct_from is not None:
            return score >= self.correct_from
        correct = found.get(str(self.keys.correct))
        if correct not in ("yes", "no"):
            raise UnreadableError(
                f'its "{self.keys.correct}" is {shown(correct)}, not "yes" or "no"'
            )
        return bool(correct == "yes")


def load_protocol(
    name: str, file: Path | None = None, *, sees: Literal["frames"] | None = None
) -> Protocol:
    """Load the wording of `caption-grounded` or `official`.

    Args:
        name: the protocol.
        file: a prompt file to use in place of our own wording; it has to be made for `name`.
        sees: "frames": a wording for a judge that sees the clip instead of its caption.

    Raises:
        UserError: there is no protocol of that name, it has no wording for frames, or the file
            cannot be used: every fault in one line.
    """
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    if file is None:
        if sees == "frames" and name == "official":
            raise UserError(
                "the official protocol shows the judge nothing of the video, so there is no caption"
                " that frames could replace; take a task that is caption-grounded"
            )
        stem = name.replace("-", "_") + ("_frames" if sees == "frames" else "")
        return _own(stem)
    found = _parse(str(file), read_text(file, "name another prompt_file"))
    if found.protocol != name:
        raise UserError(
            f"{file}: words the protocol {found.protocol}, and the task's is {name}; give the file"
            " that belongs to it"
        )
    if sees == "frames" and found.sees != "frames":
        raise UserError(f"{file}: shows no frames (sees: {found.sees}); say sees: frames in it")
    return found


@cache
def _own(stem: str) -> Protocol:
    file = shipped("eval/prompts") / f"{stem}.yaml"
    return _parse(f"prompts/{stem}.yaml", file.read_text(encoding="utf-8"))


def _parse(where: str, text: str) -> Protocol:
    values = parse_yaml(where, text)
    if not isinstance(values, dict):
        raise UserError(f"{where}: needs one key: value a line")
    try:
        return Protocol.model_validate(values)
    except ValidationError as error:
        faults = []
        for fault in error.errors():
            key = ".".join(map(str, fault["loc"]))
            said = fault["msg"].removeprefix("Value error, ")
            faults.append(f"{key}: {said}" if key else said)
        raise UserError(f"{where}: {'; '.join(faults)}") from error


def _fill(template: str, values: dict[str, str]) -> str:
    """Put the values in their places in one pass, so that no value is taken for a place."""
    return _PLACE.sub(lambda place: values[place[1]], template)
