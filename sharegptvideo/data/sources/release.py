"""Rows from a folder in the layout of the ShareGPTVideo release, and from a synthetic world."""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from sharegptvideo._io import open_lines, os_error_words, os_errors
from sharegptvideo.data.schema import CONFIGS, Config
from sharegptvideo.data.sources.base import Part
from sharegptvideo.data.sources.report import OnError, ReadReport
from sharegptvideo.data.sources.splits import SplitRule
from sharegptvideo.data.sources.tables import PART_BYTES, LineFile, file_parts, read_tables
from sharegptvideo.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "FOLDER",
    "ReleaseSource",
    "nearby_hint",
    "stat_key",
]

FOLDER = "video_instruction"

# `hf download` of both repositories into one folder gives these two side by side.
_REPOSITORIES = ("train_video_and_instruction", "test_video_and_instruction")

# How many entries of a folder are looked at for a release that is not where it was said to be.
_SEARCHED = 200


class ReleaseSource:
    """A local copy of the release, or anything laid out like it.

    `root` is the folder that holds `video_instruction/`, that folder itself, or the folder
    above local copies of the two repositories.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        # The synthetic world keeps its exact states beside its rows; no release does.
        self.label = "synthetic" if (root / "states.jsonl").exists() else None

    def splits(self, config: Config) -> tuple[str, ...]:
        """Return the splits of the release; `validation` may turn out empty on a small source."""
        self._paths(config)
        return config.released

    def fingerprint(self, config: Config) -> list[str]:
        """Path, size and times of each file read, and of a split list."""
        extra = [self.root / "splits.json"]
        return [
            *map(stat_key, self._paths(config) + [p for p in extra if p.exists()]),
            str(self.label),
        ]

    def parts(self, config: Config, split: str) -> list[Part]:
        """Parts of the files, whatever split their rows are of."""
        del split
        return file_parts(self.files(config))

    def tables(
        self,
        config: Config,
        splits: Collection[str],
        on_error: OnError,
        report: ReadReport,
        parts: Collection[Part] | None = None,
    ) -> Iterator[tuple[str, pa.Table]]:
        """Yield the rows in order of file name and line; see `read_tables`."""
        rule = SplitRule.of(self.root)
        files = self.files(config)
        for split, table in read_tables(config, files, rule, self.label, on_error, report, parts):
            if split in splits:
                yield split, table

    def files(self, config: Config) -> list[LineFile]:
        """Return the files of a config in the order they are read.

        Raises:
            UserError: there are none; says where they were looked for.
        """
        return [LineFile(str(path), _Opener(path), _parts(path)) for path in self._paths(config)]

    def _paths(self, config: Config) -> list[Path]:
        bases = [self.root / FOLDER, self.root]
        bases += [self.root / name / FOLDER for name in _REPOSITORIES]
        for base in bases:
            paths = _line_files(base, config.file)
            if paths:
                return paths
        for base in bases:
            _check_rights((base / config.file).parent)
        usual = CONFIGS[config.name].file
        others = [file.name for base in bases for file in _line_files(base, usual)]
        if config.file != usual and others:
            raise UserError(
                f"{self.root}: {config.name} has no file {config.file.rpartition('/')[2]!r} "
                f"(there: {', '.join(others)})"
            )
        raise UserError(
            f"{self.root}: no {FOLDER}/{config.file} for config {config.name!r}; "
            + nearby_hint(self.root, [config])
        )


def nearby_hint(root: Path, configs: Iterable[Config]) -> str:
    """Say which folder up to five levels above or two below `root` holds one of the configs."""
    below = [child for child in _folders(root) for child in (child, *_folders(child))]
    above = list(root.absolute().parents)[:5]
    for near in (*above, *below):
        if any(
            any((near / FOLDER).glob(config.file)) or any((near / config.name).glob("*-*.parquet"))
            for config in configs
        ):
            return f"{near} has it: pass that folder as data_dir="
    return "data_dir= must be a folder in the release layout"


def _folders(folder: Path) -> list[Path]:
    """Return the first folders in a folder, none where it may not be listed."""
    try:
        with os.scandir(folder) as entries:
            some = itertools.islice((one for one in entries if one.name[0] != "."), _SEARCHED)
            return sorted(Path(one.path) for one in some if one.is_dir())
    except OSError:
        return []


def _line_files(base: Path, pattern: str) -> list[Path]:
    """Return the files of a pattern, plain or packed (`.gz`); of both forms the plain one."""
    with os_errors(base, action="read"):
        paths = {path for path in base.glob(pattern) if path.is_file()}
        packed = {path for path in base.glob(f"{pattern}.gz") if path.is_file()}
    return sorted(paths | {path for path in packed if path.with_suffix("") not in paths})


def _check_rights(folder: Path) -> None:
    """Refuse a folder that may not be read, which `glob` passes over in silence.

    Raises:
        UserError: `folder`, or one above it, may not be entered or listed.
    """
    try:
        os.scandir(folder).close()
    except PermissionError as error:
        raise UserError(f"{folder}: cannot be listed ({os_error_words(error)})") from error
    except OSError:
        return  # absent, or a file: so says the error that follows


def _parts(path: Path) -> int:
    # Packed bytes say nothing of where lines are.
    return 1 if path.suffix == ".gz" else max(1, -(-path.stat().st_size // PART_BYTES))


@dataclass(frozen=True, slots=True)
class _Opener:
    path: Path

    def __call__(self) -> IO[bytes]:
        return open_lines(self.path)


def stat_key(path: Path) -> str:
    """Return a text that changes with the file at `path`: where it is, its size, its times."""
    stat = path.stat()
    return f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}|{stat.st_ctime_ns}|{stat.st_ino}"
