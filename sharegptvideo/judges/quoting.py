"""Texts of others, made fit to be quoted in a prompt: they stay data, whatever they hold."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping

__all__ = ["cut", "in_line", "quoted"]

# Escaped besides what no reader sees: "`" could end the block of the prompt, "<" and "[" begin the
# marks of turns that tokenizers know ("<|im_end|>", "</s>", "[INST]").
_MARKS = frozenset("`<[")
# All but the printable ASCII characters that are no marks: these alone are looked at one by one.
_ODD = re.compile(r"[^ -;=-Z\\-_a-~]")
# Not control or format characters by their category, and yet without a shape of their own.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_UNSEEN = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})


def quoted(material: Mapping[str, str]) -> str:
    r"""The texts as one JSON object of several lines that none of them can end or leave.

    Nothing is lost: `json.loads` gives the texts back. Controls, marks of writing direction, what
    has no width, halves of surrogate pairs and the characters that fences and a chat template's
    marks are made of are written as \uXXXX.
    """
    pairs = (f"  {_string(name)}: {_string(text)}" for name, text in material.items())
    return "{\n" + ",\n".join(pairs) + "\n}"


def in_line(text: str) -> str:
    r"""A text on one line, for wordings that name no block: plain text stays as it is.

    Line ends and tabs become spaces; the rest of what `quoted` escapes is written as \uXXXX.
    """
    return _ODD.sub(_escaped, " ".join(text.split()))


def cut(text: str, *, words: int | None, characters: int) -> str:
    """The text up to a number of words (as in the paper: joined by single spaces) and characters.

    The second bound holds where the first does not: a hundred thousand letters are one word.
    """
    if words is not None and len(text.split(maxsplit=words)) > words:
        text = " ".join(text.split(maxsplit=words)[:words])
    return text[:characters]


def _string(text: str) -> str:
    return _ODD.sub(_escaped, json.dumps(text, ensure_ascii=False))


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    code = ord(character)
    unseen = unicodedata.category(character) in _UNSEEN or 0xE0100 <= code <= 0xE01EF
    if not (unseen or character in _MARKS or character in _BLANK):
        return character
    if code <= 0xFFFF:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
