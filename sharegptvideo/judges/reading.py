"""A judge's reply, read by the letter or not at all: the forms that a reply can have."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

from sharegptvideo._text import shortened

__all__ = ["FORMS", "Form", "UnreadableError", "read_object", "shown"]

Form = Literal["json", "python-dict", "lines"]

_FENCED = re.compile(r"```(?:json|python)?\s*\n(.*?)\n?\s*```", re.DOTALL | re.IGNORECASE)
_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL)
# "Score: 4", and as lists and bold print have it: "2. Score: 4", "**Score:** 4".
_LINE = re.compile(r"(?:[-*]\s+|\d+[.)]\s*)?\**(\w[\w ]*?)\**\s*:\**\s*(.*)")
_LONGEST = 50_000  # characters of a reply that is looked at; a verdict is a few hundred


class UnreadableError(ValueError):
    """A reply that states no verdict, or more than one; says why."""


def read_object(reply: str, form: Form, keys: Collection[str]) -> dict[str, Any]:
    """What a reply says, by key: one object in `form` and nothing beside it.

    A Markdown fence around the object and a model's `<think>` part before it are let pass.
    `keys` are those that count; the form `lines` needs them to tell keys from text.

    Raises:
        UnreadableError: anything else: no text, other text around it, a key that comes twice.
    """
    text = _THOUGHT.sub("", reply, count=1).strip()
    fenced = _FENCED.fullmatch(text)
    if fenced:
        text = fenced[1].strip()
    if not text:
        raise UnreadableError("it is empty")
    if len(text) > _LONGEST:
        raise UnreadableError(f"it has {len(text)} characters")
    return FORMS[form](text, keys)


def shown(value: object) -> str:
    """A value of a reply on one line, short enough for a message."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    text = json.dumps(value) if isinstance(value, str | int | float | None) else repr(value)
    return shortened(text, 60)


def _json(text: str, keys: Collection[str]) -> dict[str, Any]:  # noqa: ARG001 - one form's need
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
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise UnreadableError(f"it gives {shown(name)} twice")
        found[name] = value
    return found


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
    found = _unique([(name, "\n".join(parts).strip()) for name, parts in pairs])
    return {name: _number(value) for name, value in found.items()}


def _number(text: str) -> int | str:
    return int(text) if re.fullmatch(r"-?[0-9]{1,4}", text) else text


FORMS: Mapping[Form, Callable[[str, Collection[str]], dict[str, Any]]] = {
    "json": _json,
    "python-dict": _python,
    "lines": _lines,
}
