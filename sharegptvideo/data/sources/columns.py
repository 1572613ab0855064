"""The rules of `rows.py` for whole columns at once: alike in what they give, many times faster.

Each function answers None where a value breaks a rule, or might: the caller then goes row by
row through `rows.py`, which finds the row and words the error. So nothing here is refused, and
what is accepted equals what `rows.py` makes of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sharegptvideo.data.schema import (
    CaptionRow,
    Config,
    ImageCaptionRow,
    QaRow,
    SftRow,
    TaskRow,
    columns,
)
from sharegptvideo.data.sources.rows import FORMS, SETS, source_of, without_tags

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["arrow_schema", "checked_batch", "converted_block", "convertible"]

_USERS = ("human", "user")
_ASSISTANTS = ("gpt", "assistant")

# What `rows.convert` refuses in a path: absolute, with a drive, climbing out, with a zero byte,
# naming nothing.
_UNSAFE = r"^[/\\]|^[A-Za-z]:|(?:^|[/\\])\.\.(?:[/\\]|$)|\x00|^\.?(?:[/\\]\.?)*$"

# Names of which more than the form may count: with a folder or an ending, a set's own name,
# ActivityNet's.
_WITH_SOURCE = rf"[/.]|^[vV]_|^(?i:{'|'.join(SETS)})$"


@functools.cache
def arrow_schema(config: Config) -> pa.Schema:
    """Return the Arrow types of `schema.features` without importing `datasets`, which is slow."""
    import pyarrow as pa

    text = pa.string()
    kinds = {str: text, str | None: text, float | None: pa.float64()}
    turns = pa.list_(pa.struct({"role": text, "content": text}))
    return pa.schema({name: kinds.get(hint, turns) for name, hint in columns(config.row).items()})


def checked_batch(config: Config, batch: pa.RecordBatch) -> pa.Table | None:
    """`rows.check` for a batch that has the schema's columns: the table of its rows, or None."""
    import pyarrow as pa

    if not _is_valid(batch):
        return None
    table = {}
    for name in config.columns:
        column = _as_schema(config, name, batch.column(name))
        cleaned = None if column is None else _column(config, name, column)
        if cleaned is None:
            return None
        table[name] = cleaned
    if len(config.paths) == 2 and _both(*(table[name] for name in config.paths)):
        return None
    return pa.table(table, schema=arrow_schema(config))


def _both(video: pa.Array, image: pa.Array) -> bool:
    """Whether a row names two media."""
    import pyarrow.compute as pc

    named = pc.and_(pc.is_valid(video), pc.is_valid(image))
    return bool(pc.any(named, min_count=0).as_py())


def _is_valid(batch: pa.RecordBatch) -> bool:
    """Whether all texts are UTF-8; a Parquet file can hold other bytes in a column of texts."""
    import pyarrow as pa

    try:
        batch.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _as_schema(config: Config, name: str, column: pa.Array) -> pa.Array | None:
    """Return the column in the schema's own type; None where its values are of another kind."""
    import pyarrow as pa

    wanted = arrow_schema(config).field(name).type
    if column.type == wanted:
        return column
    if column.type == pa.large_string() and wanted == pa.string():
        return column.cast(wanted)
    return None


def _column(config: Config, name: str, column: pa.Array) -> pa.Array | None:
    import pyarrow as pa
    import pyarrow.compute as pc

    if name == "messages":
        return _messages(column, "role", "content")
    if pa.types.is_floating(column.type):
        return column if pc.all(pc.is_finite(column), min_count=0).as_py() else None
    if name in ("video", "image"):
        return _nullable(column, _paths) if name in config.nullable else _paths(column)
    if name in config.nullable:
        return _nullable(column, _texts)
    return _texts(column, empty=name == "rejected")


def convertible(config: Config) -> bool:
    """Whether `converted_block` knows the config; preference pairs are few and go row by row."""
    return config.row in (CaptionRow, ImageCaptionRow, QaRow, SftRow, TaskRow)


def converted_block(config: Config, block: bytes, label: str | None) -> pa.Table | None:
    """`rows.convert` for whole lines of JSON: the table of their rows, or None.

    Only lines that hold one object each, of the form the release has: `conversations` with as
    many turns as the config takes.
    """
    import pyarrow as pa

    raw = _parsed(config, block)
    if raw is None:
        return None
    row: dict[str, pa.Array | None] = {"id": _texts(raw["id"])}
    if config.row is SftRow:
        row |= {name: _nullable(raw[name], _paths) for name in ("video", "image")}
        row["messages"] = _messages(raw["conversations"], "from", "value")
        if _both(raw["video"], raw["image"]):
            return None
    else:
        row |= {name: _paths(raw[name]) for name in config.paths}
        questions, answers = _pairs(raw["conversations"])
        names = ("prompt", "caption") if "prompt" in config.columns else ("question", "answer")
        row |= dict(zip(names, (questions, answers), strict=True))
        for name in config.columns:
            if name in config.nullable:
                row[name] = _optional(raw[name])
    if "source" in config.columns and row["video"] is not None:
        row["source"] = _sources(raw["source"], row["video"], label)
    if any(column is None for column in row.values()):
        return None
    columns = {name: row[name] for name in config.columns}
    return pa.table(columns, schema=arrow_schema(config))


def _parsed(config: Config, block: bytes) -> dict[str, pa.Array] | None:
    """Return the fields that a config needs, as arrays; None unless each line is one object."""
    import pyarrow as pa
    from pyarrow import json

    end = b"}\r\n" if block.endswith(b"}\r\n") else b"}\n"
    lines = block.count(b"\n")
    # An object can only begin after "}" at the top level, so these two together say that no
    # line holds two objects and no object goes over two lines.
    if not block.startswith(b"{") or not block.endswith(end):
        return None
    if block.count(end + b"{") != lines - 1 or not _is_utf8(block):
        return None
    text = pa.string()
    schema = pa.schema({name: text for name in config.columns if name != "messages"})
    turns = pa.list_(pa.struct({"from": text, "value": text}))
    schema = schema.append(pa.field("conversations", turns))
    try:
        table = json.read_json(
            pa.BufferReader(block),
            read_options=json.ReadOptions(use_threads=False, block_size=len(block) + 1),
            parse_options=json.ParseOptions(
                explicit_schema=schema,
                # A field that is not read may hold what is no JSON: row by row finds out.
                unexpected_field_behavior="error",
            ),
        )
    except pa.ArrowException:  # another type somewhere, or no JSON: row by row finds out
        return None
    if table.num_rows != lines:
        return None
    return {name: table[name].combine_chunks() for name in schema.names}


def _is_utf8(block: bytes) -> bool:
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def _texts(column: pa.Array, *, empty: bool = False) -> pa.Array | None:
    """Texts without the tags that stand for the medium; None where one is null or blank."""
    import pyarrow.compute as pc

    if column.null_count:
        return None
    if _may_hold(column, b"<video>") or _may_hold(column, b"<image>"):
        column = _cleaned(column)
    # One printable character of ASCII shows that a text is not blank; Python judges the others.
    plain = pc.match_substring_regex(column, "[!-~]")
    others = column.filter(pc.invert(plain)).to_pylist()
    return column if empty or all(text.strip() for text in others) else None


def _may_hold(column: pa.Array, part: bytes) -> bool:
    """Whether any value may hold `part`: one search through the memory of all of them."""
    data = column.buffers()[2]
    return data is not None and part in data.to_pybytes()


def _cleaned(column: pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    tagged = pc.or_(pc.match_substring(column, "<video>"), pc.match_substring(column, "<image>"))
    coded = column.filter(tagged).dictionary_encode()  # prompts repeat
    values = pa.array([without_tags(text) for text in coded.dictionary.to_pylist()], column.type)
    return pc.replace_with_mask(column, tagged, values.take(coded.indices))


def _paths(column: pa.Array) -> pa.Array | None:
    """Names below the media folder; None where one could lead out of it."""
    import pyarrow.compute as pc

    column = _texts(column)
    if column is None or pc.any(pc.match_substring_regex(column, _UNSAFE), min_count=0).as_py():
        return None
    return column


def _nullable(column: pa.Array, rule: Callable[[Any], pa.Array | None]) -> pa.Array | None:
    """`rule` for the values that are there; nulls stay."""
    import pyarrow.compute as pc

    if not column.null_count:
        return rule(column)
    if column.null_count == len(column):
        return column
    there = rule(column.drop_null())
    return None if there is None else pc.replace_with_mask(column, pc.is_valid(column), there)


def _optional(column: pa.Array) -> pa.Array | None:
    """As `_nullable` with texts, an empty text being null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    empty = pc.equal(column, "")
    if pc.any(empty).as_py():
        column = pc.if_else(empty, pa.scalar(None, column.type), column)
    return _nullable(column, _texts)


def _turns(column: pa.Array, role: str, content: str) -> tuple[pa.Array, pa.Array, pa.Array] | None:
    """Lengths, questions and answers of conversations that go question, answer, and so on."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    lengths = pc.list_value_length(column)
    odd = pc.equal(pc.bit_wise_and(lengths, 1), 1)
    if column.null_count or pc.any(pc.or_(odd, pc.less(lengths, 2))).as_py():
        return None
    turns = pc.list_flatten(column)
    fields = dict(zip((field.name for field in turns.type), turns.flatten(), strict=True))
    said = []
    for speakers, start in ((_USERS, 0), (_ASSISTANTS, 1)):
        # No conversation has an odd number of turns, so each begins at an even place.
        places = pa.array(np.arange(start, len(turns), 2))
        if not pc.all(pc.is_in(fields[role].take(places), pa.array(speakers)), min_count=0).as_py():
            return None
        said.append(_texts(fields[content].take(places)))
    return None if said[0] is None or said[1] is None else (lengths, said[0], said[1])


def _messages(column: pa.Array, role: str, content: str) -> pa.Array | None:
    """Conversations in the schema's form, from turns with the names `role` and `content`."""
    import numpy as np
    import pyarrow as pa

    turns = _turns(column, role, content)
    if turns is None:
        return None
    lengths, questions, answers = turns
    pairs = len(questions)
    order = np.arange(2 * pairs).reshape(2, pairs).T.ravel()
    contents = pa.concat_arrays([questions, answers]).take(pa.array(order))
    roles = pa.array(["user", "assistant"]).take(pa.array(np.arange(2 * pairs) % 2))
    offsets = np.concatenate([[0], np.cumsum(lengths.to_numpy())]).astype(np.int32)
    turns = pa.StructArray.from_arrays([roles, contents], ["role", "content"])
    return pa.ListArray.from_arrays(pa.array(offsets), turns)


def _pairs(column: pa.Array) -> tuple[pa.Array | None, pa.Array | None]:
    """Questions and answers, where each conversation is just that."""
    turns = _turns(column, "from", "value")
    if turns is None or len(turns[1]) != len(column):
        return None, None
    return turns[1:]


def _sources(given: pa.Array, video: pa.Array, default: str | None) -> pa.Array | None:
    """`source_of` for a column; Python is asked about the names that say something."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not given.null_count:
        return _texts(given)
    if given.null_count < len(given):
        return None
    speaking = pc.match_substring_regex(video, _WITH_SOURCE)
    names = [source_of({}, name, default) for name in video.filter(speaking).to_pylist()]
    column = pa.repeat(pa.scalar(default, pa.string()), len(video))
    for name, form in FORMS.items() if default is None else ():
        column = pc.if_else(pc.match_substring_regex(video, f"^(?:{form})$"), name, column)
    return pc.replace_with_mask(column, speaking, pa.array(names, pa.string()))
