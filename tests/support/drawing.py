"""What hypothesis draws for the parsers: rows with faults, and bytes that were good once."""

from __future__ import annotations

import gzip
import json
from typing import Any

from hypothesis import strategies as st

Row = dict[str, Any]

TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [
            *("", " ", "clip", "<video>\nWhy?", "human", "gpt", "user", "half \ud83d", "\u2028"),
            *("../up", "/abs", "C:x", "a\\..\\b", ".", "./", "a\0b", "test/msvd/x.avi"),
            *("v_abcdefghijk", "x/../y", "//x", "./x", "a//b"),
        ]
    ),
)
SCALARS = st.one_of(
    TEXTS,
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from([10**400, -(10**400), 1e308]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
TURN = st.fixed_dictionaries(
    {
        "from": st.sampled_from(["human", "gpt", "user", "assistant", "system"]) | VALUES,
        "value": TEXTS | VALUES,
    }
)
GOOD_TURNS = st.lists(TEXTS, min_size=1, max_size=4).map(
    lambda texts: [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(texts)]
)
FIELDS = {
    "id": TEXTS | VALUES,
    "video": TEXTS | VALUES,
    "image": TEXTS | VALUES,
    "source": TEXTS | VALUES,
    "conversations": GOOD_TURNS | st.lists(TURN, max_size=3) | VALUES,
    "messages": st.lists(
        st.fixed_dictionaries({"role": TEXTS, "content": TEXTS}) | VALUES, max_size=3
    )
    | VALUES,
    **dict.fromkeys(("prompt", "caption", "question", "answer", "extra"), TEXTS | VALUES),
    **dict.fromkeys(("chosen", "rejected"), TURN | TEXTS | VALUES),
    **dict.fromkeys(("chosen_score", "rejected_score", "question_type"), VALUES),
}
TALK = [{"from": "human", "value": "<video>\nWhy?"}, {"from": "gpt", "value": "So."}]
COMMON = {"id": "a", "video": "set/clip.mp4", "conversations": TALK}
PAIR = {"id": "p", "video": "clip", "prompt": "Q", "chosen": "A", "rejected": ""}


@st.composite
def near(draw: st.DrawFn, *good: Row) -> Row:
    """A good row with up to three fields changed, added or taken away."""
    row = dict(draw(st.sampled_from(good)))
    for name in draw(st.lists(st.sampled_from([*FIELDS, *row]), max_size=3)):
        if draw(st.booleans()) or name not in FIELDS:
            row.pop(name, None)
        else:
            row[name] = draw(FIELDS[name])
    return row


ROWS = near(COMMON, {**COMMON, "source": "WebVid", "caption": "C"}, PAIR)
"""Rows in the release's forms, most of them with a fault."""

MESSAGES = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
WHOLE = {"id": "a", "video": "v", "source": "s", "question": "Q", "answer": "A", "prompt": "P"}
SHARD_ROWS = near(
    WHOLE | {"caption": "C", "messages": MESSAGES, "chosen": "A", "rejected": ""},
    WHOLE | {"caption": "C", "messages": MESSAGES * 2, "chosen": "A", "rejected": "B"},
)
"""Rows with the columns of every config, most of them with a fault."""


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


@st.composite
def spoilt(draw: st.DrawFn, good: st.SearchStrategy[bytes]) -> bytes:
    """Good bytes, or the same cut short, with a stretch overwritten, or in another encoding."""
    data = draw(good)
    way = draw(st.sampled_from(["as it is", "cut", "overwritten", "utf-16", "bom", "gzip"]))
    if way == "cut":
        return data[: draw(st.integers(0, len(data)))]
    if way == "overwritten":
        at = draw(st.integers(0, len(data)))
        return data[:at] + draw(st.binary(max_size=4)) + data[at + draw(st.integers(0, 4)) :]
    if way == "utf-16":
        return data.decode("utf-8", "replace").encode("utf-16")
    if way == "gzip":
        packed = gzip.compress(data, mtime=0)
        return packed[: draw(st.integers(0, len(packed)))]
    return b"\xef\xbb\xbf" + data if way == "bom" else data


LINES = st.lists(ROWS.map(as_json) | st.binary(max_size=12), max_size=4).map(
    lambda lines: b"\n".join(lines)
)
ANY_LINES = st.binary(max_size=40) | spoilt(LINES)
