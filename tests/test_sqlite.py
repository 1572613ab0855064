"""SQLite files that several processes make and open at the same moment."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo._sqlite import (
    Layout,
    OtherFileError,
    OtherVersionError,
    is_busy,
    open_sqlite,
    transaction,
)

PROCESSES = 6
LAYOUT = Layout(("CREATE TABLE IF NOT EXISTS t (x)",), version=3, application=7)
PRIVATE = replace(LAYOUT, private=True)


def keep_reply(folder: Path, number: int) -> None:
    from sharegptvideo.endpoint import Reply
    from sharegptvideo.endpoint.cache import ReplyCache, request_key

    cache = ReplyCache(folder / "replies.sqlite")
    cache.put(request_key("e", {"n": number}), Reply("yes", "m", None, "stop", 12, 2), [])
    cache.close()


def write_index(folder: Path, number: int) -> None:
    from sharegptvideo.media.facts import ClipFacts
    from sharegptvideo.media.index import IndexFile

    index = IndexFile(folder / "media_index.sqlite")
    index.write([(f"{number}.mp4", True, 1, True, ClipFacts(10, 1.0, 8, 8.0, 64, 64, None, None))])
    index.close()


def keep_digest(folder: Path, number: int) -> None:
    from sharegptvideo.models.digests import file_digests

    os.environ["SHAREGPTVIDEO_CACHE"] = str(folder)
    file = folder / f"{number}.safetensors"
    file.write_bytes(b"weights")
    file_digests([file], lambda: time.time_ns() + 10**10)


def open_fingerprints(folder: Path, number: int) -> None:  # noqa: ARG001 - as the others
    from sharegptvideo.data.validate.fingerprint import FingerprintCache

    os.environ["SHAREGPTVIDEO_CACHE"] = str(folder)
    with FingerprintCache(1) as cache:
        assert cache.problem is None, cache.problem


def use(
    action: Callable[[Path, int], None], folders: list[Path], number: int, ready: Any, out: Any
) -> None:
    """Do `action` in one folder after the other, each at the moment when all processes do."""
    warnings.simplefilter("error")
    for folder in folders:
        ready.wait()
        try:
            action(folder, number)
        except Exception:  # noqa: BLE001 - whatever it is, the test shows it
            out.put((folder, traceback.format_exc()))
    out.put(None)


@pytest.mark.parametrize(
    ("action", "table", "rounds"),
    [
        (keep_reply, "replies", 60),
        (write_index, "clips", 20),
        (open_fingerprints, None, 20),
        (keep_digest, "digests", 20),
    ],
)
def test_many_processes_make_one_file_at_once(
    tmp_path: Path, action: Callable[[Path, int], None], table: str | None, rounds: int
) -> None:
    folders = [tmp_path / str(name) for name in range(rounds)]
    for folder in folders:
        folder.mkdir()
    context = multiprocessing.get_context("spawn")
    ready, out = context.Barrier(PROCESSES, timeout=120), context.Queue()
    processes = [
        context.Process(target=use, args=(action, folders, number, ready, out))
        for number in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    errors, ended = [], 0
    while ended < PROCESSES:
        found = out.get(timeout=120)
        if found is None:
            ended += 1
        else:
            errors.append(found)
    for process in processes:
        process.join()
    assert not errors, f"{len({name for name, _ in errors})} rounds failed; first: {errors[0][1]}"
    for file in tmp_path.glob("*/*.sqlite") if table else ():
        connection = sqlite3.connect(file)
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (PROCESSES,)
        connection.close()


def test_a_file_of_another_kind_or_version_is_not_changed(tmp_path: Path) -> None:
    file = tmp_path / "file"
    for marks, error in (
        ("CREATE TABLE mine (x)", OtherFileError),
        ("PRAGMA application_id = 8", OtherFileError),
        ("PRAGMA application_id = 7; PRAGMA user_version = 2", OtherVersionError),
    ):
        connection = sqlite3.connect(file)
        connection.executescript(marks)
        connection.close()
        before = file.read_bytes()
        with pytest.raises(OtherFileError) as caught:
            open_sqlite(file, LAYOUT, must_write=True)
        assert caught.type is error
        assert file.read_bytes() == before
        file.unlink()
    file.write_bytes(b"x")
    with pytest.raises(OtherFileError):
        open_sqlite(file, LAYOUT)
    assert file.read_bytes() == b"x"


def test_a_second_connection_of_a_process_keeps_the_locks_of_the_first(tmp_path: Path) -> None:
    """POSIX locks go when the process closes any handle of the file, not only SQLite's."""
    file = tmp_path / "file"
    first = open_sqlite(file, PRIVATE)
    with transaction(first):
        first.execute("INSERT INTO t VALUES (1)")
        open_sqlite(file, PRIVATE).close()
        code = (
            "import sqlite3, sys\n"
            "try: sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')\n"
            "except sqlite3.OperationalError as error: print(error)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, file], capture_output=True, text=True, check=True
        )
    assert done.stdout == "database is locked\n", done.stderr
    first.close()


def test_the_wait_for_another_process_ends(tmp_path: Path) -> None:
    file = tmp_path / "file"
    writer = open_sqlite(file, LAYOUT)
    writer.execute("BEGIN IMMEDIATE")
    wal = Layout(LAYOUT.tables, LAYOUT.version, LAYOUT.application, wal=True)
    with pytest.raises(sqlite3.OperationalError) as caught:
        open_sqlite(file, wal, wait_s=0.02)
    assert is_busy(caught.value)
    writer.execute("COMMIT")
    other = open_sqlite(file, wal)
    assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    other.close()
    writer.close()
