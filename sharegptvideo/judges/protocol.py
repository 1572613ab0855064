"""What a language model judge is asked, and how its reply is read: by the letter or not at all."""

from __future__ import annotations

import ast
import json
import re
import unicodedata
import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import Field, model_validator

from sharegptvideo._io import parse_yaml, read_text
from sharegptvideo._strict import StrictModel
from sharegptvideo._text import shortened
from sharegptvideo._wording import Wording, braced, fill, places, wording_of
from sharegptvideo.endpoint.messages import split_reasoning
from sharegptvideo.errors import UserError, unknown_name
from sharegptvideo.judges.base import Claims, JudgeItem

__all__ = [
    "ASPECTS",
    "FORMS",
    "PROTOCOLS",
    "AnyProtocol",
    "ClaimsProtocol",
    "Form",
    "Protocol",
    "ProtocolName",
    "ReplyKeys",
    "ReplyRules",
    "UnreadableError",
    "cut",
    "in_line",
    "load_protocol",
    "named_protocol",
    "quoted",
    "read_object",
]

ProtocolName = Literal[
    "caption-grounded",
    "official",
    "frames",
    "claims",
    "correctness",
    "detail",
    "context",
    "temporal",
    "consistency",
]
PROTOCOLS: tuple[ProtocolName, ...] = get_args(ProtocolName)
"""`frames` is without a reference: the judge sees frames, question and answer alone. `claims`
counts what a description says; the last five are the aspects of Video-ChatGPT's benchmark."""

ASPECTS: tuple[ProtocolName, ...] = PROTOCOLS[4:]
"""Scores from 0 to 5 for one aspect of an answer; `consistency` is of two answers of one clip."""

_WITHOUT_VIDEO = ("official", "claims", *ASPECTS)

Form = Literal["json", "python-dict", "lines"]
"""The forms that a reply can have."""

_TEXTS = ("description", "question", "other_question", "reference", "answer", "other_answer")
_OF_PAIRS = frozenset({"other_question", "other_answer"})
_NOT_GIVEN = "(none given)"
_DECIMAL = re.compile(r"[0-9]{1,4}\.[0-9]{1,4}")


class ReplyKeys(StrictModel):
    """Which keys of a reply hold the verdict; those that are None are not asked for."""

    score: str = "score"
    correct: str | None = None
    explanation: str | None = None

    @property
    def names(self) -> list[str]:
        """The keys, in the order in which a reply has them: reasons before figures."""
        return [name for name in (self.explanation, self.correct, self.score) if name]


class ReplyRules(StrictModel):
    """How a reply is read: its form and keys, the range of scores, what makes an answer right."""

    lowest: int
    highest: int
    correct_from: int | None = None
    reply: Form = "json"
    keys: ReplyKeys = ReplyKeys()

    @model_validator(mode="after")
    def _read_one_verdict(self) -> Self:
        if self.lowest >= self.highest:
            raise ValueError(f"lowest {self.lowest} is not below highest {self.highest}")
        if (self.keys.correct is None) == (self.correct_from is None):
            raise ValueError(
                "what makes an answer right has to be said once: correct_from (a score) or"
                " keys.correct (a key of the reply that says yes or no)"
            )
        if self.correct_from is not None and not self.lowest < self.correct_from <= self.highest:
            raise ValueError(f"correct_from {self.correct_from} splits no scores")
        if len(set(self.keys.names)) != len(self.keys.names):
            raise ValueError("keys names one key twice")
        return self

    def read(self, reply: str, *, whole: bool = True) -> tuple[bool, float, str | None]:
        """Read (correct, score, explanation) from a reply; see `read_object`.

        Args:
            reply: the judge's text.
            whole: refuse scores such as 4.8; False takes them as they stand, for replies of
                judges that were not asked for whole numbers alone.

        Raises:
            UnreadableError: anything else: other text, two scores, a score out of range.
        """
        values = read_object(reply, self.reply, self.keys.names)
        score = self._score(values.get(self.keys.score), whole=whole)
        explanation = values.get(self.keys.explanation) if self.keys.explanation else None
        return (
            self._is_correct(values, score),
            score,
            explanation if isinstance(explanation, str) else None,
        )

    def _score(self, score: Any, *, whole: bool) -> float:
        if not whole and isinstance(score, str) and _DECIMAL.fullmatch(score):
            score = float(score)  # the form `lines` has texts alone
        kinds = (int,) if whole else (int, float)
        if isinstance(score, bool) or not isinstance(score, kinds):
            wanted = "a whole number" if whole else "a number"
            raise UnreadableError(f"its {self.keys.score} is {shown(score)}, not {wanted}")
        if not self.lowest <= score <= self.highest:
            raise UnreadableError(
                f"its {self.keys.score} {shown(score)} is not from {self.lowest} to {self.highest}"
            )
        return score

    def _is_correct(self, values: dict[str, Any], score: float) -> bool:
        if self.correct_from is not None:
            return score >= self.correct_from
        return _yes(values.get(str(self.keys.correct)), f'its "{self.keys.correct}"')


class _Asked(Wording):
    """A prompt about one item: its texts, how much of an answer it shows, the second try.

    `user` holds `{material}`, the texts as one block that they cannot leave, or each of the texts
    by name, for wordings that are older than the block.
    """

    max_words: Annotated[int, Field(ge=1)] | None = None
    max_characters: Annotated[int, Field(ge=1)] = 4096
    system: str | None = None
    user: str
    repair: str

    not_hashed: ClassVar[frozenset[str]] = frozenset({"protocol", "version"})

    def _check_wording(self, name: str) -> None:
        texts = self._shown_texts()
        held = places(self.user)
        if sorted(held) not in (["material"], sorted(texts)):
            raise ValueError(
                f"user has to hold {{material}} once, or else each of {braced(texts)} once, which"
                f" is what the judge sees under {name}; it holds {braced(held) or 'none'}"
            )
        if "{problem}" not in self.repair:
            raise ValueError("repair has to hold {problem}")

    def _shown_texts(self) -> tuple[str, ...]:
        """Return the names of the texts that the judge is shown, in their order."""
        raise NotImplementedError

    def is_cut(self, item: JudgeItem) -> bool:
        """Whether the judge sees a part of an answer only."""
        answers = [item.prediction, *([item.other[1]] if item.other is not None else ())]
        shown = [self._cut(answer).split() for answer in answers]
        return any(
            words != answer.split(maxsplit=len(words))
            for words, answer in zip(shown, answers, strict=True)
        )

    def messages(self, item: JudgeItem) -> list[dict[str, str]]:
        """Return the conversation that asks for a verdict on `item`, without the frames.

        The texts go in as one JSON object whose values can end neither the object nor the block
        around it, or, where the wording has a place for each, on one line each. A long prediction
        is cut: at `max_words`, as in the paper, and at `max_characters`.
        """
        other_question, other_answer = item.other or (_NOT_GIVEN, _NOT_GIVEN)
        texts = {
            "description": item.caption or _NOT_GIVEN,
            "question": item.question,
            "other_question": other_question,
            "reference": item.reference,
            "answer": self._cut(item.prediction),
            "other_answer": self._cut(other_answer),
        }
        material = {name: texts[name] for name in self._shown_texts()}
        values = {name: in_line(text) for name, text in material.items()}
        user = fill(self.user, values | {"material": quoted(material)})
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": user}]

    def _cut(self, prediction: str) -> str:
        return cut(prediction, words=self.max_words, characters=self.max_characters)

    def ask_again(self, problem: str) -> str:
        """Return the message that asks once more after an unreadable reply."""
        return self.repair.replace("{problem}", problem)


class Protocol(ReplyRules, _Asked):
    """One prompt file: its wording, the range of scores, the form of the reply."""

    protocol: ProtocolName
    sees: Literal["caption", "frames", "nothing"]
    frames: Annotated[int, Field(ge=1)] | None = None

    reply_tokens: ClassVar[int] = 2048

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.protocol == "claims":
            raise ValueError("claims are counted, not scored: the reply of claims has its own form")
        if (self.protocol in _WITHOUT_VIDEO) != (self.sees == "nothing"):
            raise ValueError(
                "a judge sees caption or frames under caption-grounded and frames, else nothing"
            )
        if self.protocol == "frames" and self.sees != "frames":
            raise ValueError("protocol frames needs sees: frames")
        if (self.sees == "frames") != (self.frames is not None):
            raise ValueError("frames (how many) belongs to sees: frames, and is needed there")
        self._check_wording(self.protocol)
        return self

    def _shown_texts(self) -> tuple[str, ...]:
        hidden = {"reference"} if self.protocol == "frames" else set()
        if self.sees != "caption":
            hidden.add("description")
        if self.protocol != "consistency":
            hidden |= _OF_PAIRS
        return tuple(name for name in _TEXTS if name not in hidden)

    def response_format(self) -> dict[str, Any] | None:
        """Return the request's `response_format`, a JSON schema; None for other forms of reply."""
        if self.reply != "json":
            return None
        kinds: dict[str | None, dict[str, Any]] = {
            self.keys.explanation: {"type": "string"},
            self.keys.correct: _YES_NO,
            self.keys.score: {"type": "integer", "minimum": self.lowest, "maximum": self.highest},
        }
        return _schema("verdict", {name: kinds[name] for name in self.keys.names})


class ClaimsProtocol(_Asked):
    """The prompt file of `claims`: the judge splits description and reference into claims.

    A reply is one JSON object: `claims`, those of the description, each with `supported`, and
    `reference_claims`, those of the reference, each with `covered`, "yes" or "no".
    """

    protocol: Literal["claims"]

    sees: ClassVar[str] = "nothing"
    frames: ClassVar[int | None] = None
    lowest: ClassVar[int] = 0
    highest: ClassVar[int] = 1
    reply_tokens: ClassVar[int] = 4096

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        self._check_wording(self.protocol)
        return self

    def _shown_texts(self) -> tuple[str, ...]:
        return ("question", "reference", "answer")

    def response_format(self) -> dict[str, Any]:
        """Return the request's `response_format`, a JSON schema."""
        lists = {
            name: {
                "type": "array",
                "items": _object({"claim": {"type": "string"}, flag: _YES_NO}),
            }
            for name, flag in _CLAIMS.items()
        }
        return _schema("claims", lists)

    def read(self, reply: str) -> Claims:
        """Count the claims of a reply; see `read_object`.

        Raises:
            UnreadableError: anything else: other text, a claim that is listed twice, a reference
                without claims, or one that is covered by a description without claims.
        """
        values = read_object(reply, "json", list(_CLAIMS))
        (claimed, supported), (expected, covered) = (
            _counted(values, name, flag) for name, flag in _CLAIMS.items()
        )
        if not expected:
            raise UnreadableError("its reference_claims is empty")
        if covered and not claimed:
            raise UnreadableError("it covers the reference with no claim at all")
        return Claims(claimed, supported, expected, covered)


AnyProtocol = Protocol | ClaimsProtocol

_CLAIMS = {"claims": "supported", "reference_claims": "covered"}
_YES_NO = {"type": "string", "enum": ["yes", "no"]}


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": dict(properties),
    }


def _schema(name: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    schema = _object(properties)
    return {
        "type": "json_schema",
        "json_schema": {"name": name, "strict": True, "schema": schema},
    }


def _counted(values: Mapping[str, Any], name: str, flag: str) -> tuple[int, int]:
    """Return how many claims a list holds, and of how many the flag says yes."""
    entries = values.get(name)
    if not isinstance(entries, list):
        raise UnreadableError(f'its "{name}" is {shown(entries)}, not a list')
    seen: set[str] = set()
    agreed = 0
    for number, entry in enumerate(entries, start=1):
        where = f'entry {number} of "{name}"'
        if not isinstance(entry, dict):
            raise UnreadableError(f"{where} is {shown(entry)}, not an object")
        claim = entry.get("claim")
        if not isinstance(claim, str) or not claim.strip():
            raise UnreadableError(f'{where} has no "claim"')
        key = " ".join(claim.casefold().split())
        if key in seen:
            raise UnreadableError(f"{where} is there twice: {shown(claim)}")
        seen.add(key)
        agreed += _yes(entry.get(flag), f'the "{flag}" of {where}')
    return len(seen), agreed


def _yes(value: Any, what: str) -> bool:
    if isinstance(value, bool):
        return value
    if value not in ("yes", "no"):
        raise UnreadableError(f'{what} is {shown(value)}, not "yes" or "no"')
    return bool(value == "yes")


def load_protocol(
    name: str, file: Path | None = None, *, sees: Literal["frames"] | None = None
) -> AnyProtocol:
    """Load the wording of a protocol, one of `PROTOCOLS`.

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
        if sees == "frames" and name in _WITHOUT_VIDEO:
            raise UserError(
                f"the {name} protocol shows the judge nothing of the video, so there is no caption"
                " that frames could replace; take a task that is caption-grounded, or frames as"
                " the prompt"
            )
        replaced = sees == "frames" and name == "caption-grounded"
        stem = name.replace("-", "_") + ("_frames" if replaced else "")
        return _wording(name, f"eval/prompts/{stem}.yaml")
    protocol = _wording(_protocol_of(file), file)
    if protocol.protocol != name:
        raise UserError(
            f"{file}: words the protocol {protocol.protocol}, and the task's is {name}; give the"
            " file that belongs to it"
        )
    if sees == "frames" and protocol.sees != "frames":
        raise UserError(f"{file}: shows no frames (sees: {protocol.sees}); say sees: frames in it")
    return protocol


def named_protocol(prompt: str) -> tuple[ProtocolName, Path | None]:
    """Return what `--prompt` names: a protocol in our wording, or a prompt file and its protocol.

    Raises:
        UserError: neither a protocol nor a file, or a file that cannot be used.
    """
    for name in PROTOCOLS:
        if prompt == name:
            return name, None
    file = Path(prompt)
    if file.suffix in (".yaml", ".yml") or file.is_file():
        return _wording(_protocol_of(file), file).protocol, file
    raise unknown_name("prompt", prompt, PROTOCOLS)


def _protocol_of(file: Path) -> object:
    """Return which protocol a prompt file says that it words; whatever it holds."""
    values = parse_yaml(str(file), read_text(file, "name another prompt file"))
    return values.get("protocol") if isinstance(values, dict) else None


def _wording(name: object, file: str | Path) -> AnyProtocol:
    if name == "claims":
        return wording_of(ClaimsProtocol, file)
    return wording_of(Protocol, file)


# Texts of others in a prompt: they stay data, whatever they hold.

# Escaped besides what no reader sees: "`" could end the block of the prompt, "<" and "[" begin the
# marks of turns that tokenizers know ("<|im_end|>", "</s>", "[INST]").
_MARKS = frozenset("`<[")
# All but the printable ASCII characters that are no marks: these alone are checked one by one.
_ODD = re.compile(r"[^ -;=-Z\\-_a-~]")
# Not control or format characters by their category, and yet without a shape of their own.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_UNSEEN = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})


def quoted(material: Mapping[str, str]) -> str:
    r"""Return the texts as one JSON object of several lines that none of them can end or leave.

    Nothing is lost: `json.loads` gives the texts back. Controls, marks of writing direction, what
    has no width, halves of surrogate pairs and the characters that fences and a chat template's
    marks are made of are written as \uXXXX.
    """
    pairs = (f"  {_string(name)}: {_string(text)}" for name, text in material.items())
    return "{\n" + ",\n".join(pairs) + "\n}"


def in_line(text: str) -> str:
    r"""Return a text on one line, for wordings that name no block: plain text stays as it is.

    Line ends and tabs become spaces; the rest of what `quoted` escapes is written as \uXXXX.
    """
    return _ODD.sub(_escaped, " ".join(text.split()))


def cut(text: str, *, words: int | None, characters: int) -> str:
    """Cut a text after a number of words (as in the paper: joined by single spaces) or characters.

    The second bound holds where the first does not: a hundred thousand letters are one word.
    """
    if words is not None and len(text.split(maxsplit=words)) > words:
        text = " ".join(text.split(maxsplit=words)[:words])
    return text[:characters]


def _string(text: str) -> str:
    return _ODD.sub(_escaped, json.dumps(text, ensure_ascii=False))


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    unseen = unicodedata.category(character) in _UNSEEN or 0xE0100 <= code <= 0xE01EF
    if not (unseen or character in _MARKS or character in _BLANK):
        return character
    if code <= 0xFFFF:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"


# Replies.

# A fence's beginning, its language before a line end or an object, and its end: each may be alone.
_FENCE = re.compile(r"(?:`+|~~~+)[ \t]*(?:[A-Za-z][\w+-]*(?=[ \t]*(?:\n|\r|[{(])))?")
_FENCE_END = re.compile(r"(?:`+|~~~+)\Z")
# "Score: 4", and as lists and bold print have it: "2. Score: 4", "**Score:** 4".
_LINE = re.compile(r"(?:[-*]\s+|\d+[.)]\s*)?\**(\w[\w ]*?)\**\s*:\**\s*(.*)")
_LONGEST = 50_000  # characters of a reply that is read; a verdict is a few hundred


class UnreadableError(ValueError):
    """A reply that states no verdict, or more than one; says why."""


def read_object(reply: str, form: Form, keys: Collection[str]) -> dict[str, Any]:
    """Return what a reply says, by key: one object in `form` and nothing beside it.

    A Markdown fence around the object (on lines of its own or not, open or closed), and a model's
    reasoning before it (see `split_reasoning`) are let pass.
    `keys` are those that count; the form `lines` needs them to distinguish keys from text.

    Raises:
        UnreadableError: anything else: no text, other text around it, a key that comes twice.
    """
    text = split_reasoning(reply)[0].strip()
    fence = _FENCE.match(text)
    if fence:
        text = text[fence.end() :]
    text = _FENCE_END.sub("", text).strip()
    if not text:
        raise UnreadableError("it is empty")
    if len(text) > _LONGEST:
        raise UnreadableError(f"it has {len(text)} characters")
    return FORMS[form](text, keys)


def shown(value: object) -> str:
    """Return a value of a reply on one line, short enough for a message."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    text = json.dumps(value) if isinstance(value, str | int | float | None) else repr(value)
    return shortened(text, 60)


def _json(text: str, keys: Collection[str]) -> dict[str, Any]:  # noqa: ARG001 - one form's need
    try:
        values = json.loads(text, object_pairs_hook=_unique)
    except RecursionError as error:
        raise UnreadableError("it is nested too deeply") from error
    except UnreadableError:
        raise
    except ValueError as error:  # no JSON, or a number of more digits than Python takes
        raise UnreadableError("it is not one JSON object") from error
    if not isinstance(values, dict):
        raise UnreadableError("it is not one JSON object")
    return values


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise UnreadableError(f"it gives {shown(name)} twice")
        values[name] = value
    return values


def _python(text: str, keys: Collection[str]) -> dict[str, Any]:  # noqa: ARG001 - one form's need
    """`{'pred': 'yes', 'score': 4}`, of literals only; nothing is evaluated."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in the reply's strings
            body = ast.parse(text, mode="eval").body
            if not isinstance(body, ast.Dict):
                raise UnreadableError("it is not one Python dictionary")
            names = [ast.literal_eval(name) if name else None for name in body.keys]
            values = [ast.literal_eval(value) for value in body.values]
    except UnreadableError:
        raise
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise UnreadableError("it is not one Python dictionary") from error
    strings = [name for name in names if isinstance(name, str)]
    if len(strings) < len(names):
        raise UnreadableError("its keys are not all strings")
    return _unique(list(zip(strings, values, strict=True)))


def _lines(text: str, keys: Collection[str]) -> dict[str, Any]:
    """`Explanation: ...` and `Score: 4` on lines of their own; a text may go on below its key."""
    named = {key.lower(): key for key in keys}
    pairs: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        match = _LINE.fullmatch(line.strip())
        if match and match[1].lower() in named:
            pairs.append((named[match[1].lower()], [match[2]]))
        elif not pairs:
            raise UnreadableError(f"it does not begin with one of {', '.join(keys)}")
        else:
            pairs[-1][1].append(line)
    values = _unique([(name, "\n".join(parts).strip()) for name, parts in pairs])
    return {name: _number(value) for name, value in values.items()}


def _number(text: str) -> int | str:
    return int(text) if re.fullmatch(r"-?[0-9]{1,4}", text) else text


FORMS: Mapping[Form, Callable[[str, Collection[str]], dict[str, Any]]] = {
    "json": _json,
    "python-dict": _python,
    "lines": _lines,
}
