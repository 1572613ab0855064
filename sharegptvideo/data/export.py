"""Rows of a training set as the files that other trainers read.

The forms are those of the trainers' own readers: LLaMA-Factory (sharegpt with `videos`, and an
entry in dataset_info.json), ms-swift (messages with `videos`, `rejected_response`), TRL (content
parts, as `as_trl` gives them) and verl (Parquet for SFT, and for RL with a reference answer).

Clips that are files, clips that are folders of frames, images, and texts alone are files of
their own: a column of one file has one type, and every one of these trainers takes several files.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from sharegptvideo._concurrency import Progress
from sharegptvideo._io import dumps, os_errors, read_json_object, write_json
from sharegptvideo._staging import replacing_files
from sharegptvideo.data.load import read_rows
from sharegptvideo.data.media_paths import PathLike
from sharegptvideo.data.schema import IMAGE_PATH, VIDEO_PATH, Config, config_of
from sharegptvideo.data.sources import ReadReport, world_folder
from sharegptvideo.data.trl import view_features, view_of
from sharegptvideo.errors import MediaError, UserError, unknown_name
from sharegptvideo.media.folder import frame_names

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["MANIFEST", "TRAINERS", "Exported", "export_rows"]

Row = dict[str, Any]
Kind = Literal["videos", "frames", "images", "texts"]

MANIFEST = "export.json"
"""What a folder holds: the trainer, and by set its files, rows and what was left out."""

_DATASET_INFO = "dataset_info.json"  # of LLaMA-Factory, which knows a file by its entry there
_MARKS = {"videos": "<video>", "frames": "<video>", "images": "<image>", "texts": ""}
_RESERVED = ("<video>", "<image>", "<audio>")
_ABSENT = "its clip or image is not there"
_STEP = 1000  # rows of Parquet that are written at once, and between two lines of progress


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote.

    Attributes:
        folder: where.
        files: rows by the name of each file.
        left_out: ids of rows that were not written, by reason.
        report: what the reader left out: rows without their clip, and rows that break the schema.
    """

    folder: Path
    files: dict[str, int]
    left_out: dict[str, list[str]]
    report: ReadReport


@dataclass(frozen=True, slots=True)
class _Example:
    """A row with its medium and its texts, whatever its config.

    Attributes:
        row: as it was read; of a folder of frames `video_path` is the list of them.
        kind: what it is about.
        medium: path, paths of frames, or None.
        turns: of user and assistant in alternation; of a pair without the answers.
        pair: the better and the worse answer of a pair.
        reference: the right answer to the only question, where the row has one.
    """

    row: Row
    kind: Kind
    medium: str | list[str] | None
    turns: list[dict[str, str]]
    pair: tuple[str, str] | None = None
    reference: str | None = None

    @property
    def marked(self) -> list[dict[str, str]]:
        """The turns with the mark of the medium before the first."""
        first, *others = self.turns
        return [first | {"content": _MARKS[self.kind] + first["content"]}, *others]

    @property
    def column(self) -> Literal["videos", "images"]:
        """The column of the medium, as these trainers call it."""
        return "images" if self.kind == "images" else "videos"


class _UnfitError(Exception):
    """A row that a trainer cannot take; the reason is the message."""


def export_rows(
    config: str,
    to: str,
    out: PathLike,
    *,
    data_dir: PathLike | None = None,
    media: PathLike | None = None,
    split: str | None = None,
    limit: int | None = None,
    on_error: str = "raise",
    progress: Progress | None = None,
) -> Exported:
    """Write a training set as the files that a trainer reads, all of them or none.

    Rows are read and written one after the other, in the order of the data; the same data give
    the same bytes. What `out` holds of other sets stays.

    Args:
        config: captions, image_captions, qa, sft or preferences.
        to: one of `TRAINERS`.
        out: the folder; the names of its files begin with config and split.
        data_dir: see `load_dataset`.
        media: folder of the clips; default: `data_dir`.
        split: "train" or "validation"; default: the first that there is.
        limit: write the first N rows only.
        on_error: "raise", or "skip" rows that break the schema, and list them.
        progress: called as `progress(rows so far, 0, what)`.

    Raises:
        UserError: no such set, trainer, data or media; a test set; a folder of another trainer's
            export; nothing to write.
    """
    chosen, trainer = config_of(config), _TRAINERS.get(to)
    if trainer is None:
        raise unknown_name("trainer", to, TRAINERS)
    if chosen.is_task:
        raise UserError(f"{config} is a test set, which is not for training")
    if limit is not None and limit < 1:
        raise UserError(f"limit must be at least 1, got {limit}")
    folder, clips = Path(out), data_dir if media is None else media
    if clips is None:
        raise UserError("trainers read the clips: give their folder with --media")
    if os.fspath(clips) == "synthetic":
        clips = world_folder(progress)
    part = split or chosen.splits[0]
    name, manifest = f"{config}_{part}", _manifest(folder, to)
    report, left_out = ReadReport(), dict[str, list[str]]()
    rows: Any = read_rows(  # a generator
        config,
        data_dir,
        part,
        media=clips,
        require_media=True,
        on_error=on_error,
        report=report,
    )
    examples = islice(_examples(chosen, rows, trainer, left_out), limit)
    with (
        os_errors(folder),
        replacing_files(folder, [f"{name}_{kind}.*" for kind in _MARKS]) as stage,
    ):
        # The reader fills its report when it is closed.
        with contextlib.closing(rows), _Files(stage) as files:
            for number, example in enumerate(examples):
                for ending, row, schema in trainer(example, part, number):
                    files.write(f"{name}_{example.kind}{ending}", row, schema)
                if progress and (number + 1) % _STEP == 0:
                    progress(number + 1, 0, f"rows of {name} for {to}")
        if not files.counts:
            raise UserError(_nothing(name, left_out, report))
        entry = {
            "config": config,
            "split": part,
            "limit": limit,
            "files": files.counts,
            "left_out": {reason: len(ids) for reason, ids in left_out.items()}
            | ({_ABSENT: len(report.without_media)} if report.without_media else {}),
        }
        write_json(stage / MANIFEST, manifest | {"sets": manifest["sets"] | {name: entry}})
        if to == "llama-factory":
            known = _without(_dataset_info(folder), name)
            info = {Path(file).stem: _info(file, chosen) for file in files.counts}
            write_json(stage / _DATASET_INFO, known | info)
    return Exported(folder, files.counts, left_out, report)


def _nothing(name: str, left_out: Mapping[str, Sequence[str]], report: ReadReport) -> str:
    causes = [f"{len(ids)}: {reason}" for reason, ids in left_out.items()]
    return "; ".join([f"{name}: no row to write", *causes, *report.lines()])


def _manifest(folder: Path, to: str) -> Row:
    """Return what the folder's manifest says, of an empty one where there is none.

    Raises:
        UserError: it is another trainer's, or cannot be read.
    """
    file = folder / MANIFEST
    contents = read_json_object(file) if file.is_file() else {"to": to, "sets": {}}
    if contents.get("to") not in _TRAINERS or not isinstance(contents.get("sets"), dict):
        raise UserError(f"{file}: not the record of an export; give another --out")
    if contents["to"] != to:
        raise UserError(
            f"{folder}: holds an export for {contents['to']}; give another --out for {to}"
        )
    return contents


def _dataset_info(folder: Path) -> Row:
    file = folder / _DATASET_INFO
    return read_json_object(file) if file.is_file() else {}


def _without(info: Row, name: str) -> Row:
    """Return entries without those of an earlier export of the same set."""
    return {key: entry for key, entry in info.items() if key not in {f"{name}_{k}" for k in _MARKS}}


def _info(file: str, config: Config) -> Row:
    """Return the entry of a file in LLaMA-Factory's dataset_info.json."""
    kind = Path(file).stem.rpartition("_")[2]
    columns = {"messages": "conversations"}
    if kind != "texts":
        column = "images" if kind == "images" else "videos"
        columns[column] = column
    entry: Row = {"file_name": file, "formatting": "sharegpt", "columns": columns}
    if "rejected" in config.columns:
        columns |= {"chosen": "chosen", "rejected": "rejected"}
        entry["ranking"] = True
    return entry


def _examples(
    config: Config, rows: Iterator[Row], trainer: _Trainer, left_out: dict[str, list[str]]
) -> Iterator[_Example]:
    """Yield the rows that a trainer can take; list the others by reason."""
    read = functools.lru_cache(maxsize=1024)(_medium)
    for row in rows:
        try:
            example = _example(config, row, read)
            trainer.check(example)
        except _UnfitError as error:
            left_out.setdefault(str(error), []).append(row["id"])
        else:
            yield example


def _example(
    config: Config, row: Row, read: Callable[[str], tuple[Kind, str | list[str]]]
) -> _Example:
    kind: Kind = "texts"
    medium: str | list[str] | None = None
    if row.get(VIDEO_PATH) is not None:
        kind, medium = read(row[VIDEO_PATH])
        row = row | {VIDEO_PATH: medium}
    elif row.get(IMAGE_PATH) is not None:
        kind, medium = "images", row[IMAGE_PATH]
    if "messages" in config.columns:
        return _Example(row, kind, medium, row["messages"])
    question = {"role": "user", "content": row["question" if "question" in row else "prompt"]}
    if "rejected" in config.columns:
        pair = row["chosen"], row["rejected"]
        return _Example(row, kind, medium, [question], pair, row["answer"])
    given = row["answer" if "answer" in row else "caption"]
    turns = [question, {"role": "assistant", "content": given}]
    return _Example(row, kind, medium, turns, reference=row.get("answer"))


def _medium(path: str) -> tuple[Kind, str | list[str]]:
    """Return whether a clip is a file or a folder of frames, and its path or theirs."""
    place = Path(path)
    if not place.is_dir():
        return "videos", path
    try:
        return "frames", [str(place / name) for name in frame_names(place)]
    except MediaError as error:
        raise _UnfitError("its folder of frames cannot be read") from error


Written = tuple[str, Row, "pa.Schema | None"]
"""The end of a file's name, a row for it, and its schema where it is Parquet."""


class _Trainer(Protocol):
    """One trainer's form of rows."""

    def check(self, example: _Example) -> None:
        """Raise an `_UnfitError` for a row that the trainer's reader drops or misreads."""

    def __call__(self, example: _Example, split: str, index: int) -> Iterable[Written]:
        """Return the rows that an example is written as."""
        ...


def _check_marks(example: _Example) -> None:
    texts = [turn["content"] for turn in example.turns] + list(example.pair or ())
    for mark in _RESERVED:
        if any(mark in text for text in texts):
            raise _UnfitError(f"its text holds {mark}, a medium's place to the trainer")


class _LlamaFactory:
    check = staticmethod(_check_marks)

    def __call__(self, example: _Example, split: str, index: int) -> Iterable[Written]:  # noqa: ARG002 - of other trainers
        names = {"user": "human", "assistant": "gpt"}
        row: Row = {
            "id": example.row["id"],
            "conversations": [
                {"from": names[turn["role"]], "value": turn["content"]} for turn in example.marked
            ],
        }
        if example.pair is not None:
            sides = zip(("chosen", "rejected"), example.pair, strict=True)
            row |= {side: {"from": "gpt", "value": text} for side, text in sides}
        if example.medium is not None:
            row[example.column] = [example.medium]
        yield ".jsonl", row, None


class _MsSwift:
    @staticmethod
    def check(example: _Example) -> None:
        _check_marks(example)
        if example.pair is not None and example.pair[0] == example.pair[1]:
            raise _UnfitError("its answers are equal, which ms-swift's reader drops")

    def __call__(self, example: _Example, split: str, index: int) -> Iterable[Written]:  # noqa: ARG002 - of other trainers
        row: Row = {"id": example.row["id"], "messages": example.marked}
        if example.pair is not None:
            row["messages"] = [*row["messages"], _answer(example.pair[0])]
            row["rejected_response"] = example.pair[1]
        if example.medium is not None:
            row[example.column] = [example.medium]
        yield ".jsonl", row, None


class _Trl:
    def check(self, example: _Example) -> None:
        """Take any row: media are parts of a turn, and no mark stands in a text."""

    def __call__(self, example: _Example, split: str, index: int) -> Iterable[Written]:  # noqa: ARG002 - of other trainers
        turn, schema = _view(tuple(example.row))
        yield ".parquet", turn(example.row), schema


class _Verl:
    """SFT for what a model is to say, RL where an answer can be held against a reference.

    verl trains on no pairs: the better answer is said, and the question is asked with it.
    """

    check = staticmethod(_check_marks)

    def __call__(self, example: _Example, split: str, index: int) -> Iterable[Written]:
        media: Row = {}
        if example.medium is not None:
            media = {example.column: [{example.column[:-1]: example.medium}]}
        row_id, turns = example.row["id"], example.marked
        said = turns if example.pair is None else [*turns, _answer(example.pair[0])]
        yield ".sft.parquet", {"id": row_id, "messages": said} | media, _sft(example.kind)
        reference = example.reference or (example.pair[0] if example.pair else None)
        if reference is None:
            return
        extra = {"split": split, "index": index, "id": row_id, "answer": reference}
        extra["question"] = example.turns[0]["content"]
        row = {
            "data_source": "sharegptvideo",
            "prompt": turns[:1],
            "ability": "video-qa",
            "reward_model": {"style": "rule", "ground_truth": reference},
            "extra_info": extra,
        }
        yield ".rl.parquet", row | media, _rl(example.kind)


@functools.cache
def _view(names: tuple[str, ...]) -> tuple[Callable[[Row], Row], pa.Schema]:
    """Return what turns a row of these columns into TRL's, and the schema of the rows it gives."""
    turn, columns = view_of([*names])
    return turn, view_features(columns).arrow_schema


def _answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@functools.cache
def _sft(kind: Kind) -> pa.Schema:
    import pyarrow as pa

    return pa.schema([("id", pa.string()), ("messages", _messages()), *_media(kind)])


@functools.cache
def _rl(kind: Kind) -> pa.Schema:
    import pyarrow as pa

    text = pa.string()
    extra = [(name, text) for name in ("split", "id", "question", "answer")]
    return pa.schema(
        [
            ("data_source", text),
            ("prompt", _messages()),
            ("ability", text),
            ("reward_model", pa.struct([("style", text), ("ground_truth", text)])),
            ("extra_info", pa.struct([("index", pa.int64()), *extra])),
            *_media(kind),
        ]
    )


def _messages() -> Any:
    import pyarrow as pa

    return pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


def _media(kind: Kind) -> list[tuple[str, Any]]:
    import pyarrow as pa

    if kind == "texts":
        return []
    name = "image" if kind == "images" else "video"
    place = pa.list_(pa.string()) if kind == "frames" else pa.string()
    return [(f"{name}s", pa.list_(pa.struct([(name, place)])))]


@dataclass(slots=True)
class _Files:
    """The files of an export, opened with their first row; `counts` are rows by name."""

    folder: Path
    counts: dict[str, int] = field(default_factory=dict)
    _open: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _writers: dict[str, Callable[[Row], None]] = field(default_factory=dict)

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def write(self, name: str, row: Row, schema: pa.Schema | None) -> None:
        if name not in self._writers:
            path = self.folder / name
            if schema is None:
                self._writers[name] = self._open.enter_context(_jsonl(path))
            else:
                self._writers[name] = self._open.enter_context(_parquet(path, schema))
        self._writers[name](row)
        self.counts[name] = self.counts.get(name, 0) + 1


@contextlib.contextmanager
def _jsonl(path: Path) -> Iterator[Callable[[Row], None]]:
    """Open a file of JSON lines; gives what adds a row to it."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        yield lambda row: file.writelines((dumps(row), "\n"))


@contextlib.contextmanager
def _parquet(path: Path, schema: pa.Schema) -> Iterator[Callable[[Row], None]]:
    """Open a Parquet file; gives what adds a row to it."""
    import pyarrow.parquet as pq
    from datasets import Dataset, Features

    features = Features.from_arrow_schema(schema)
    held: list[Row] = []
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:

        def flush() -> None:
            if held:
                table = Dataset.from_list(held, features=features).data.table
                writer.write_table(table.select(schema.names).cast(schema))
                held.clear()

        def add(row: Row) -> None:
            held.append(row)
            if len(held) == _STEP:
                flush()

        yield add
        flush()


_TRAINERS: dict[str, _Trainer] = {
    "llama-factory": _LlamaFactory(),
    "ms-swift": _MsSwift(),
    "trl": _Trl(),
    "verl": _Verl(),
}

TRAINERS = tuple(_TRAINERS)
"""Names of trainers."""
