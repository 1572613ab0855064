"""What the ground does with files: one line for each thing that a file system refuses."""

from __future__ import annotations

import errno
import fcntl
import gzip
import itertools
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo._io import (
    FULL_DISK,
    KeyedLog,
    LatestRows,
    full_disk_errors,
    is_full_disk,
    open_lines,
    os_error_line,
    os_error_words,
    os_errors,
    parse_yaml,
    read_json,
    read_jsonl,
    read_text,
    write_json,
    write_text,
)
from sharegptvideo.errors import UserError
from sharegptvideo.media import MediaError

HINT = "give another --out"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("x")
    return path


@pytest.fixture
def small_files() -> Iterator[None]:
    """A limit on the size of files, which `write` refuses where it refuses a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def written(path: Path, hint: str = "") -> str:
    """The line about writing `path`, and that nothing half-written is left."""
    with pytest.raises(UserError) as caught, os_errors(path, hint):
        write_text(path, "x" * 2000)
    assert caught.value.exit_code == 1
    assert isinstance(caught.value.__cause__, OSError)
    assert not [*path.parent.glob(".*.tmp")] if path.parent.is_dir() else True
    return str(caught.value)


def test_block_without_errors_passes(tmp_path: Path) -> None:
    with os_errors(tmp_path):
        write_json(tmp_path / "a.json", {"a": 1})
    assert read_json(tmp_path / "a.json") == {"a": 1}


def test_file_where_a_folder_belongs(file: Path) -> None:
    below = file / "out" / "a.json"
    fix = "a file stands where a folder is needed"
    assert written(below) == f"{below}: cannot be written (Not a directory); {fix}"
    assert written(below, HINT) == f"{below}: cannot be written (Not a directory); {HINT}"
    assert written(file / "a.json").startswith(f"{file / 'a.json'}: cannot be written (File exists")


def test_folder_where_a_file_belongs(tmp_path: Path) -> None:
    fix = "a folder stands where a file is needed"
    (tmp_path / "folder").mkdir()
    place = tmp_path / "folder"
    assert written(place) == f"{place}: cannot be written (Is a directory); {fix}"
    with pytest.raises(UserError, match=r"folder: cannot be read \(Is a directory\); a folder"):
        read_json(place)
    with pytest.raises(UserError, match=r"folder: cannot be read \(Is a directory\); a folder"):
        open_lines(place)


def test_name_too_long(tmp_path: Path) -> None:
    place = tmp_path / ("n" * 300)
    assert written(place) == f"{place}: cannot be written (File name too long); use a shorter name"


def test_no_such_file(tmp_path: Path) -> None:
    place = tmp_path / "absent.yaml"
    with pytest.raises(UserError) as caught:
        read_text(place, "name another as --prices")
    assert caught.value.exit_code == 2
    assert str(caught.value) == (
        f"{place}: cannot be read (No such file or directory); name another as --prices"
    )


@pytest.mark.parametrize(("hint", "fix"), [("", "free some space"), (HINT, HINT)])
def test_full_device(hint: str, fix: str) -> None:
    with pytest.raises(UserError) as caught, os_errors(Path("out"), hint, action="made"):
        Path("/dev/full").write_text("x")
    assert str(caught.value) == f"out: the disk is full; {fix}"
    assert caught.value.exit_code == 1


@pytest.mark.usefixtures("small_files")
def test_limit_on_the_size_of_files(tmp_path: Path) -> None:
    place = tmp_path / "a.txt"
    assert written(place) == f"{place}: cannot be written (File too large)"
    assert written(place, HINT) == f"{place}: the disk is full; {HINT}"


@pytest.mark.usefixtures("small_files")
def test_errors_name_the_file_and_not_its_temporary_one(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="File too large") as caught:
        write_text(tmp_path / "a.txt", "x" * 2000)
    assert caught.value.filename == str(tmp_path / "a.txt")


@pytest.mark.usefixtures("small_files")
def test_log_that_takes_half_a_line_says_that_the_disk_is_full(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with KeyedLog(path) as log, pytest.raises(OSError, match="No space left") as caught:
        log.append({"id": "1", "text": "x" * 2000})
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert "1" not in log


@pytest.mark.parametrize(
    ("code", "line"),
    [
        (errno.ENOSPC, "out: the disk is full; free some space"),
        (errno.EDQUOT, "out: the disk is full; free some space"),
        (errno.EFBIG, "out: cannot be written (File too large)"),
        (
            errno.EACCES,
            "out: cannot be written (Permission denied); change its permissions or name another "
            "place",
        ),
        (
            errno.EPERM,
            "out: cannot be written (Operation not permitted); change its permissions or name "
            "another place",
        ),
        (
            errno.EROFS,
            "out: cannot be written (Read-only file system); name a place on another disk",
        ),
        (
            errno.ENOLCK,
            "out: cannot be written (No locks available); the file system there has no locks; "
            "name a place on another disk",
        ),
        (errno.EIO, "out: cannot be written (Input/output error); check the disk"),
    ],
)
def test_what_the_system_says(code: int, line: str) -> None:
    error = OSError(code, os.strerror(code))
    assert os_error_line(error, Path("out")) == line
    hinted = os_error_line(error, Path("out"), HINT)
    assert hinted is not None
    assert hinted.endswith(f"; {HINT}")
    assert ("the disk is full" in hinted) == (code in FULL_DISK)


def test_which_file_is_named() -> None:
    def named(file: str, place: Path | str) -> str:
        line = os_error_line(OSError(errno.EACCES, "", file), place, HINT)
        assert line is not None
        return line

    refused = "cannot be written (Permission denied)"
    # One in the folder, the folder above it, and what is written beside it before it is whole.
    assert named("out/a/b.json", Path("out")) == f"out/a/b.json: {refused}; {HINT}"
    assert named("top", Path("top/out")) == f"top/out: {refused}; {HINT}"
    assert named("top/.out.partial/a", Path("top/out")) == f"top/out: {refused}; {HINT}"
    assert named("top/out/.a.tmp", Path("top/out")) == f"top/out: {refused}; {HINT}"
    # Another file, which the hint does not help.
    assert named("rows.jsonl", Path("out")).startswith("rows.jsonl: cannot be used (Permission")
    assert HINT not in named("rows.jsonl", Path("out"))
    # A phrase says less than a path.
    assert named("cache/a", "the cache of the view") == f"cache/a: {refused}; {HINT}"


def test_other_errors_pass() -> None:
    for error in (
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
        OSError("a library's own"),
        UserError("a line already"),
    ):
        with pytest.raises(type(error)) as caught, os_errors("out", HINT):
            raise error
        assert caught.value is error


def test_kind_of_error_and_its_exit_code(file: Path) -> None:
    with (
        pytest.raises(MediaError, match=r"cannot be opened \(Not a directory\)") as caught,
        os_errors(file / "a.mp4", action="opened", raises=MediaError, exit_code=1),
    ):
        (file / "a.mp4").open()
    assert caught.value.exit_code == 1
    with pytest.raises(UserError, match="cannot be made") as made, os_errors(file, action="made"):
        file.mkdir()
    assert made.value.exit_code == 2


def test_words_of_an_error() -> None:
    assert os_error_words(OSError(errno.EFBIG, "Error writing. Detail: [errno 27]")) == (
        "File too large"
    )
    assert os_error_words(OSError("cannot identify image file\nmore")) == (
        "cannot identify image file"
    )
    assert os_error_words(OSError()) == "OSError"


def test_full_disk_is_seen_in_what_libraries_make_of_it() -> None:
    wrapped = RuntimeError("I/O error: No space left on device (os error 28)")
    caused = ValueError("no table")
    caused.__cause__ = OSError(errno.EDQUOT, "Disk quota exceeded")
    for error in (wrapped, caused):
        assert is_full_disk(error)
        with (
            pytest.raises(UserError, match="out: the disk is full; free some") as caught,
            full_disk_errors("out", "free some space"),
        ):
            raise error
        assert caught.value.exit_code == 1
    assert not is_full_disk(ValueError("no disk in this"))
    assert not is_full_disk(PermissionError(errno.EACCES, "Permission denied"))


def test_text_is_utf8_without_its_mark(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: \xc3\xa9")
    assert read_text(file) == "a: é"
    file.write_bytes(b"a: \xe9")
    with pytest.raises(UserError, match=r"a\.yaml: not UTF-8 text \(byte 3\)"):
        read_text(file)
    file.write_text("a: b", encoding="utf-16")
    with pytest.raises(UserError, match="UTF-16 text; save the file as UTF-8"):
        read_text(file)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("a: 1\nb: {c: 1, c: 2}", "line 2: the key c stands twice; remove one"),
        ("a: .inf", "line 1: .inf is no number that can be used"),
        ("a: [1.0, -.Inf]", "line 1: -.Inf is no number that can be used"),
        ("a: .nan", "line 1: .nan is no number that can be used"),
        ("a: 1.0e+999", r"line 1: 1.0e\+999 is no number that can be used"),
        ("a: 99999999999999999999", "line 1: 99999999999999999999 is no number that can be used"),
        ("a: &a [*a]", "line 1: an alias stands inside of what it names; write it out"),
    ],
)
def test_yaml_that_no_file_can_have_meant(text: str, cause: str) -> None:
    with pytest.raises(UserError, match=f"^settings: {cause}$"):
        parse_yaml("settings", text)


def test_yaml_aliases_may_be_used_but_not_multiply() -> None:
    assert parse_yaml("x", "a: &a {b: 1}\nc: {<<: *a, b: 2}") == {"a": {"b": 1}, "c": {"b": 2}}
    ten = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for last, name in itertools.pairwise("abcdefgh"):
        ten += f"{name}: &{name} [{', '.join([f'*{last}'] * 10)}]\n"
    with pytest.raises(UserError, match="line 4: its aliases unfold to too many values"):
        parse_yaml("x", ten)
    long = f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 100)}]"
    with pytest.raises(UserError, match="unfold to too many"):
        parse_yaml("x", long)


def test_json_with_a_key_twice(tmp_path: Path) -> None:
    """Another reader may take the other of the two values: which is meant cannot be known."""
    file = tmp_path / "a.jsonl"
    file.write_text('{"id": 1}\n{"id": 1, "x": [{"b": 1, "b": 2}]}\n')
    with pytest.raises(UserError, match=r'a\.jsonl:2: not JSON \(the key "b" stands twice\); fix'):
        list(read_jsonl(file))
    (tmp_path / "a.json").write_text('{"a": 1, "a": 1}')
    with pytest.raises(UserError, match=r'a\.json: not JSON \(the key "a" stands twice\)'):
        read_json(tmp_path / "a.json")


def test_a_rename_is_brought_to_the_disk(tmp_path: Path, synced: list[Path]) -> None:
    """A power cut may else undo it, after the command has said that the file is written."""
    write_json(tmp_path / "new" / "a.json", 1)
    assert synced == [tmp_path / "new"]


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    old, new, other, same, written = (
        tmp_path / name
        for name in (
            ".b.json.0123abcd.tmp",
            ".c.json.0123abcd.tmp",
            "x.tmp",
            ".a.json.0123abcd.tmp",
            ".a.json.4567abcd.tmp",
        )
    )
    for file in (old, new, other, same, written):
        file.write_text("half")
    for file in (old, other):
        os.utime(file, (0, 0))
    with written.open() as file:  # as by a process that still runs
        fcntl.flock(file, fcntl.LOCK_EX)
        write_json(tmp_path / "a.json", 1)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"a.json", new.name, other.name, written.name}


def test_what_was_killed_while_it_wrote_goes_with_the_next_time(tmp_path: Path) -> None:
    """The writer holds its temporary file: another process leaves it, and sweeps it afterwards."""
    path = tmp_path / "a.json"
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from sharegptvideo._io import replacing, write_json\n"
        "path = Path(sys.argv[1])\n"
        "if len(sys.argv) > 2:\n"
        "    with replacing(path):\n"
        "        print('begun', flush=True)\n"
        "        time.sleep(60)\n"
        "write_json(path, 1)\n"
    )
    words = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen([*words, "waits"], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "begun\n"
        (temporary,) = tmp_path.iterdir()
        subprocess.run(words, check=True)
        assert set(tmp_path.iterdir()) == {path, temporary}
        writer.kill()
    subprocess.run(words, check=True)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("read", [read_text, read_json, open_lines, KeyedLog])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, read: Any) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe: a pipe or a device"):
        read(tmp_path / "pipe")


def test_a_line_has_an_end(tmp_path: Path) -> None:
    """65 MiB in one line, of a file of 66 kB."""
    file = tmp_path / "rows.jsonl.gz"
    with gzip.open(file, "wb", compresslevel=1) as packed:
        for _ in range(65):
            packed.write(b" " * (1 << 20))
    with pytest.raises(UserError, match=r"rows\.jsonl\.gz:1: a line of over 67,108,864 bytes"):
        next(read_jsonl(file))


def test_settings_have_a_size() -> None:
    with pytest.raises(UserError, match="big: over 1,048,576 characters"):
        parse_yaml("big", "a: " + "x" * (1 << 20))


@pytest.mark.parametrize("value", ["!!bool maybe", '!!int ""', '!!float ""', "!!timestamp soon"])
def test_yaml_whose_tag_does_not_fit(value: str) -> None:
    with pytest.raises(UserError, match=r"file: not YAML \(a value that its tag does not fit\)"):
        parse_yaml("file", f"a: {value}")


def test_the_latest_rows_of_a_log_are_those_of_the_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    lines = ['{"id": "a", "n": 1}', '{"id": "b", "n": 2}', "", '{"id": "a", "n": 3}']
    path.write_text("\n".join([*lines, '{"id": "b", "n"']))  # torn off: b's first line stands
    rows = LatestRows(path)
    assert len(rows) == 2
    assert list(rows) == list(rows) == [{"id": "b", "n": 2}, {"id": "a", "n": 3}]
    path.write_text('{"id": "a"}\n{"name": "b"}\n')
    with pytest.raises(UserError, match=r"log.jsonl:2: no 'id'"):
        LatestRows(path)
    path.write_text('{"id": "a"\n{"id": "b"}\n')
    with pytest.raises(UserError, match=r"log.jsonl:1: not JSON"):
        LatestRows(path)
