"""From a raw row of the release to a row of the schema, or the reason why that cannot be."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from sharegptvideo._io import kind_of
from sharegptvideo.data.schema import (
    CaptionRow,
    Config,
    ImageCaptionRow,
    Message,
    PreferenceRow,
    QaRow,
    SftRow,
    TaskRow,
    columns,
)

__all__ = ["FORMS", "SETS", "RowError", "check", "convert", "source_of", "without_tags"]

Row = dict[str, Any]

_TAG = re.compile(r"\s*<(?:video|image)>\s*")
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
_DRIVE = re.compile(r"[A-Za-z]:")
# ActivityNet names its clips "v_" and an 11-character id, then the scene where one was cut.
_ACTIVITYNET = re.compile(r"v_[A-Za-z0-9_-]{11}(?:-Scene-\d+)?", re.IGNORECASE)
FORMS = {"WebVid": r"[0-9]+", "VIDAL": r"[A-Za-z0-9_-]{10}[AEIMQUYcgkosw048]"}
"""What the release's other stems look like: WebVid numbers its clips, VIDAL's are YouTube ids.

An id is 64 bits in 11 characters of 6, so its last one can only be one of sixteen.
"""
SETS = {
    "webvid": "WebVid",
    "vidal": "VIDAL",
    "actnet": "ActivityNet",
    "activitynet": "ActivityNet",
    "msrvtt": "MSRVTT",
    "msvd": "MSVD",
    "tgif": "TGIF",
    "ssv2": "SSV2",
}
"""Names of sets as they stand in paths, in small letters, and as `source` says them."""


class RowError(ValueError):
    """Why a row does not fit its schema; the caller knows file and line."""


def convert(config: Config, raw: Mapping[str, Any], default_source: str | None) -> Row:
    """Return a schema row (all columns, in order) from a raw row of the release.

    Extra fields of the raw row are ignored. `default_source` is that of `source_of`.

    Raises:
        RowError: a field is missing or has the wrong type, an unsafe path, an empty text.
    """
    row: Row = {"id": _id(raw), **_BUILDERS[config.row](raw)}
    names = config.columns
    if "source" in names:
        row["source"] = source_of(raw, row["video"], default_source)
    return {name: row[name] for name in names}


def check(config: Config, raw: Mapping[str, Any]) -> Row:
    """Return a schema row from a row that has the schema's columns already (Parquet).

    Raises:
        RowError: a column is missing, null where it must not be, or of another type.
    """
    row: Row = {}
    for name, hint in columns(config.row).items():
        value = raw.get(name)
        if value is None and name not in config.nullable:
            raise RowError(f"no {name!r}")
        if name == "messages":
            value = _messages(_turns(value))
        elif name in {"video", "image"}:
            value = _media(raw, name, required=name not in config.nullable)
        elif hint == float | None:
            value = _score(raw, name)
        elif value is not None:
            value = _text(value, name, empty=name == "rejected")
        row[name] = value
    return _about_one(row)


def source_of(raw: Mapping[str, Any], video: str, default: str | None) -> str | None:
    """Return where a video comes from: what the row says, else what its name looks like.

    In this order: the row's own `source`; the first part of the video's path that names a
    set (`test/webvid/...` is WebVid); ActivityNet's own clip names (`v_` and 11 characters);
    `default`, where the source of the rows knows one. Where it knows none, as for the release,
    the form of the stem decides: digits alone are WebVid, an 11-character YouTube id is VIDAL;
    a stem of another form has no source (None).

    The forms are those of the release's three training sets. They are no proof: other sets
    number their clips too (Something-Something), and others go by YouTube ids. Check before
    relying on it where rows of one's own are among them.
    """
    given = raw.get("source")
    if given is not None:
        return _text(given, "source")
    parts = video.split("/")
    for part in parts:
        if part.lower() in SETS:
            return SETS[part.lower()]
    stem = parts[-1].rsplit(".", 1)[0]
    if _ACTIVITYNET.fullmatch(stem):
        return "ActivityNet"
    if default is not None:
        return default
    return next((name for name, form in FORMS.items() if re.fullmatch(form, stem)), None)


def _caption(raw: Mapping[str, Any]) -> Row:
    prompt, caption = _pair(raw, ("prompt", "caption"))
    return {"video": _required(raw, "video"), "prompt": prompt, "caption": caption}


def _image_caption(raw: Mapping[str, Any]) -> Row:
    prompt, caption = _pair(raw, ("prompt", "caption"))
    return {"image": _required(raw, "image"), "prompt": prompt, "caption": caption}


def _qa(raw: Mapping[str, Any]) -> Row:
    question, answer = _pair(raw, ("question", "answer"))
    return {
        "video": _required(raw, "video"),
        "question": question,
        "answer": answer,
        "caption": _optional(raw, "caption"),
    }


def _task(raw: Mapping[str, Any]) -> Row:
    return {**_qa(raw), "question_type": _optional(raw, "question_type")}


def _sft(raw: Mapping[str, Any]) -> Row:
    row = {
        "video": _media(raw, "video", required=False),
        "image": _media(raw, "image", required=False),
        "messages": _messages(_conversation(raw)),
    }
    return _about_one(row)


def _about_one(row: Row) -> Row:
    if row.get("video") is not None and row.get("image") is not None:
        raise RowError("names a video and an image where one of them belongs")
    return row


def _preference(raw: Mapping[str, Any]) -> Row:
    if "conversations" in raw:
        turns = _messages(_conversation(raw), open_end=True)
        if len(turns) != 1:
            raise RowError(f"'conversations' has {len(turns)} turns where one prompt belongs")
        prompt = turns[0]["content"]
    else:
        prompt = _text(_field(raw, "prompt"), "prompt")
    return {
        "video": _required(raw, "video"),
        "prompt": prompt,
        "chosen": _answer(raw, "chosen"),
        "rejected": _answer(raw, "rejected"),
        "chosen_score": _score(raw, "chosen_score"),
        "rejected_score": _score(raw, "rejected_score"),
        "answer": _optional(raw, "answer"),
        "caption": _optional(raw, "caption"),
    }


_BUILDERS: dict[type, Callable[[Mapping[str, Any]], Row]] = {
    CaptionRow: _caption,
    ImageCaptionRow: _image_caption,
    QaRow: _qa,
    SftRow: _sft,
    PreferenceRow: _preference,
    TaskRow: _task,
}


def _field(raw: Mapping[str, Any], name: str) -> Any:
    if raw.get(name) is None:
        raise RowError(f"no {name!r}")
    return raw[name]


def _id(raw: Mapping[str, Any]) -> str:
    value = _field(raw, "id")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(value, "id")


def _text(value: object, name: str, *, empty: bool = False) -> str:
    """Return a text without the tags that stand for the medium."""
    if not isinstance(value, str):
        raise RowError(f"{name!r} is {kind_of(value)} where a text belongs")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RowError(f"{name!r} holds half a surrogate pair, which is no text") from None
    text = without_tags(value) if "<video>" in value or "<image>" in value else value
    if not empty and not text.strip():
        raise RowError(f"{name!r} is empty")
    return text


def without_tags(text: str) -> str:
    """Return a text without `<video>` and `<image>`, and without the space around them."""

    def gap(match: re.Match[str]) -> str:
        if match.start() == 0 or match.end() == len(text):
            return ""
        return "\n" if "\n" in match.group() else " "

    return _TAG.sub(gap, text).strip()


def _optional(raw: Mapping[str, Any], name: str) -> str | None:
    value = raw.get(name)
    if value is None or value == "":
        return None
    return _text(value, name)


def _score(raw: Mapping[str, Any], name: str) -> float | None:
    value = raw.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RowError(f"{name!r} is {kind_of(value)} where a number belongs")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise RowError(f"{name!r} is {number}")
    return number


def _required(raw: Mapping[str, Any], name: str) -> str:
    value = _media(raw, name, required=True)
    assert value is not None  # required
    return value


def _media(raw: Mapping[str, Any], name: str, *, required: bool) -> str | None:
    """Return a path below the media folder; refuse anything that could lead out of it."""
    value = raw.get(name)
    if value is None and not required:
        return None
    if isinstance(value, list) and len(value) > 1:
        raise RowError(f"{name!r} is a list of {len(value)} names where one belongs")
    path = _text(_field(raw, name), name)
    parts = re.split(r"[/\\]", path)
    if parts[0] == "" or _DRIVE.match(path):
        raise RowError(f"{name!r} is an absolute path ({path!r}); a name below the media belongs")
    if ".." in parts:
        raise RowError(f"{name!r} leads out of its folder ({path!r})")
    if "\0" in path:
        raise RowError(f"{name!r} holds a zero byte")
    if not any(part not in {"", "."} for part in parts):
        raise RowError(f"{name!r} names no file ({path!r})")
    return path


def _conversation(raw: Mapping[str, Any]) -> list[Any]:
    turns = _field(raw, "conversations")
    if not isinstance(turns, list) or not turns:
        raise RowError("'conversations' is not a list of turns")
    return turns


def _turns(messages: object) -> list[Any]:
    """Messages of the schema in the form that the release has turns in."""
    if not isinstance(messages, list):
        raise RowError(f"'messages' is {kind_of(messages)} where a list belongs")
    return [
        {"from": message.get("role"), "value": message.get("content")}
        if isinstance(message, Mapping)
        else message
        for message in messages
    ]


def _messages(turns: list[Any], *, open_end: bool = False) -> list[Message]:
    """Return turns that alternate, user first; the last is the assistant's unless `open_end`."""
    messages: list[Message] = []
    for number, turn in enumerate(turns, start=1):
        if not isinstance(turn, Mapping):
            raise RowError(f"turn {number} is {kind_of(turn)}, not an object")
        role = _ROLES.get(str(turn.get("from")))
        wanted = "user" if number % 2 else "assistant"
        if role != wanted:
            raise RowError(f"turn {number} is from {turn.get('from')!r} where the {wanted} is due")
        content = _text(turn.get("value"), f"value of turn {number}")
        messages.append({"role": role, "content": content})
    if not messages or (messages[-1]["role"] == "user" and not open_end):
        raise RowError("the conversation ends without an answer")
    return messages


def _pair(raw: Mapping[str, Any], flat: tuple[str, str]) -> tuple[str, str]:
    """Return what was asked and what was answered: from `conversations`, else from two columns."""
    if "conversations" not in raw and flat[0] in raw:
        return _text(raw[flat[0]], flat[0]), _text(_field(raw, flat[1]), flat[1])
    turns = _messages(_conversation(raw))
    if len(turns) != 2:
        raise RowError(f"{len(turns)} turns where one question and one answer belong")
    return turns[0]["content"], turns[1]["content"]


def _answer(raw: Mapping[str, Any], name: str) -> str:
    """Return an answer as a text, or as the turn {"from", "value"}; one that lost may be empty."""
    value = _field(raw, name)
    if isinstance(value, Mapping):
        if _ROLES.get(str(value.get("from"))) != "assistant":
            raise RowError(f"{name!r} is from {value.get('from')!r}, not from the assistant")
        value = value.get("value")
    return _text(value, name, empty=name == "rejected")
