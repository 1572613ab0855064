"""Settings beside results: what is refused and in which words, what is kept, the lock, the end."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo._io import read_json, write_json
from sharegptvideo._runs import RunDir, RunKind, differences, folder_lock
from sharegptvideo.demo.run import Journal
from sharegptvideo.errors import UserError

SETTINGS: dict[str, Any] = {"model": {"name": "a", "endpoint": "http://x"}, "frames": 8}
LOCKED = RunKind(locked=True)
STEP = RunKind(name="step", file="step.json", section="settings", foreign=None)


@pytest.mark.parametrize(
    ("there", "here", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}, ["a.b.c 1 there, 2 here"]),
        ({"b": 1, "a": "x"}, {"b": 2, "a": "y"}, ["a x there, y here", "b 1 there, 2 here"]),
        ({"a": "1"}, {"a": 1}, ['a "1" there, 1 here']),
        ({"a": 1}, {}, ["a 1 there, absent here"]),
        ({}, {"a": {"b": 1}}, ['a absent there, {"b": 1} here']),
        ({"a": None}, {}, []),
        ({"a": [1, 2]}, {"a": [1, 3]}, ["a [1, 2] there, [1, 3] here"]),
        ({"a": {"free": 1}, "free": 1}, {"a": {"free": 2}, "free": 2}, []),
        ({"a": {}}, {"a": {"new": 1}}, []),
        ({"new": 1}, {"new": 2}, ["new 1 there, 2 here"]),
        ({"a": "x" * 50}, {"a": "y"}, [f"a {'x' * 37}... there, y here"]),
        (
            {"a": "x" * 90 + "1"},
            {"a": "x" * 90 + "2"},
            ["a ...xxxxxxxxxx1 there, ...xxxxxxxxxx2 here"],
        ),
    ],
)
def test_differences_are_named_with_both_values(there: Any, here: Any, expected: list[str]) -> None:
    assert list(differences(there, here, may_change={"free"}, added={"new"})) == expected


def test_a_folder_goes_on_with_the_same_settings_and_keeps_what_may_change(tmp_path: Path) -> None:
    with RunDir(tmp_path / "a" / "run", SETTINGS) as run:
        run.log("rows").append({"id": "1"})
    changed = {"model": {"name": "a", "endpoint": "http://y"}, "frames": 8}
    with RunDir(run.path, changed, may_change={"endpoint"}) as again:
        assert list(again.log("rows").rows) == ["1"]
    assert read_json(run.path / "run.json") == again.settings == changed


def test_other_settings_are_refused_in_one_line_and_nothing_changes(tmp_path: Path) -> None:
    RunDir(tmp_path, SETTINGS)
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(UserError) as caught:
        RunDir(tmp_path, {"model": {"name": "b"}, "frames": 9}, LOCKED, may_change={"endpoint"})
    assert str(caught.value) == (
        f"{tmp_path}: holds another run: frames 8 there, 9 here; model.name a there, b here. "
        "To go on, give another --out, or the settings there"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert (tmp_path / "run.json").read_bytes() == before


def test_many_differences_are_cut_short(tmp_path: Path) -> None:
    RunDir(tmp_path, {str(key): 0 for key in range(9)})
    with pytest.raises(UserError, match=r"5 0 there, 1 here; and 3 more\. To go on"):
        RunDir(tmp_path, {str(key): 1 for key in range(9)})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("thesis.txt", "x", "{path}: not empty and not a run folder; give another --out"),
        ("run.json", "[1]", "{path}/run.json: not the settings of a run folder; "),
        ("run.json", '{"b": 1}', "{path}/run.json: not the settings of a run folder; "),
        ("run.json", "{", "{path}/run.json:1: not JSON"),
    ],
)
def test_a_folder_of_something_else_is_left_alone(
    name: str, content: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as caught:
        RunDir(tmp_path, {"a": 1}, RunKind(required=frozenset({"a"}), locked=True))
    assert str(caught.value).startswith(message.format(path=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == content


def test_which_files_are_foreign_is_the_kinds(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    RunDir(tmp_path, SETTINGS, RunKind(foreign="*.jsonl"))
    assert (tmp_path / "run.json").is_file()


def test_a_file_where_the_folder_is_to_be(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(UserError, match=r"is a file; give another --out"):
        RunDir(file, SETTINGS)
    with pytest.raises(UserError, match=r"run: .*file is a file; give another --out"):
        RunDir(file / "run", SETTINGS, LOCKED)


def test_a_step_is_finished_once_its_report_is_written(tmp_path: Path) -> None:
    with RunDir(tmp_path, SETTINGS, STEP) as run:
        run.log("step").append({"id": "1"})
        assert not STEP.is_finished(tmp_path)
        run.finish({"n": 1})
    assert STEP.is_finished(tmp_path)
    assert read_json(tmp_path / "step.json") == {"settings": SETTINGS, "report": {"n": 1}}
    RunDir(tmp_path, SETTINGS, STEP)  # begun again
    assert not STEP.is_finished(tmp_path)
    write_json(tmp_path / "step.json", {"report": 1})
    with pytest.raises(UserError, match=r"step\.json: not the settings of a step"):
        RunDir(tmp_path, SETTINGS, STEP)


def _hold(path: Path, pipe: Connection) -> None:
    with RunDir(path, SETTINGS, LOCKED):
        pipe.send("open")
        pipe.recv()


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Any]:
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_hold, args=(tmp_path / "run", theirs))
    process.start()
    theirs.close()
    assert ours.recv() == "open"
    yield process
    process.kill()
    process.join()


def test_one_process_at_a_time_and_none_after_a_kill(holder: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="another process is writing to this run; wait") as caught:
        RunDir(tmp_path / "run", SETTINGS, LOCKED)
    assert caught.value.exit_code == 1
    holder.kill()
    holder.join()
    with RunDir(tmp_path / "run", SETTINGS, LOCKED), pytest.raises(UserError, match="wait"):
        RunDir(tmp_path / "run", SETTINGS, LOCKED)  # nor twice in one process


def test_a_lock_says_what_its_user_does(tmp_path: Path) -> None:
    with (
        folder_lock(tmp_path / "lock", "busy here"),
        pytest.raises(UserError, match=r"^busy here$"),
        folder_lock(tmp_path / "lock", "busy here"),
    ):
        pass
    with folder_lock(tmp_path / "lock", "busy here"):
        pass


def test_a_demo_of_another_seed_is_refused(tmp_path: Path) -> None:
    Journal(tmp_path, {"version": "1", "scale": "tiny", "seed": 0})
    with pytest.raises(UserError) as caught:
        Journal(tmp_path, {"version": "1", "scale": "tiny", "seed": 1})
    assert str(caught.value) == (
        f"{tmp_path}: holds a demo with other settings: seed 0 there, 1 here. "
        "To go on, give another --out or remove the folder"
    )


class Late:
    """Settings that come when they are `given`."""

    def __init__(self, settings: dict[str, Any] | Exception = SETTINGS) -> None:
        self.given = threading.Event()
        self.settings = settings

    def __call__(self) -> dict[str, Any]:
        assert self.given.wait(60)
        if isinstance(self.settings, Exception):
            raise self.settings
        return self.settings


def test_rows_wait_in_memory_for_settings_that_come_late(tmp_path: Path) -> None:
    late, out = Late(), tmp_path / "run"
    with RunDir(out, late, LOCKED, patience_s=0) as run:
        one, two = run.log("one"), run.log("two")
        one.append({"id": "1"})
        assert one.rows == {"1": {"id": "1"}}
        assert [path.name for path in out.iterdir()] == [".lock"]
        late.given.set()
        assert run.settings == SETTINGS
        # From here on all is on the disk: a kill loses nothing.
        assert read_json(out / "run.json") == SETTINGS
        assert (out / "one.jsonl").read_text() == '{"id": "1"}\n'
        one.append({"id": "2"})
        two.append({"id": "3"})
        assert (out / "one.jsonl").read_text() == '{"id": "1"}\n{"id": "2"}\n'
        assert (out / "two.jsonl").read_text() == '{"id": "3"}\n'


def test_the_end_of_the_block_waits_for_late_settings(tmp_path: Path) -> None:
    late = Late()
    with RunDir(tmp_path, late, STEP, patience_s=0) as run:
        run.log("rows").append({"id": "1"})
        threading.Timer(0.05, late.given.set).start()
        run.finish({"n": 1})
    assert read_json(tmp_path / "step.json") == {"settings": SETTINGS, "report": {"n": 1}}
    assert (tmp_path / "rows.jsonl").read_text() == '{"id": "1"}\n'


def _put_a_row(out: Path, late: Late, kind: RunKind, then: Callable[[], None]) -> None:
    with RunDir(out, late, kind, patience_s=0) as run:
        run.log("rows").append({"id": "1"})
        then()


def test_without_its_settings_an_interrupted_run_leaves_a_new_folder(tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    late, out = Late(), tmp_path / "run"
    kind = RunKind(locked=True, foreign="*.jsonl")
    with pytest.raises(KeyboardInterrupt):
        _put_a_row(out, late, kind, interrupt)
    late.given.set()
    with RunDir(out, SETTINGS, kind) as again:
        assert again.log("rows").rows == {}


def test_late_settings_that_fail_leave_no_row(tmp_path: Path) -> None:
    late = Late(UserError("the weights were changed"))
    with pytest.raises(UserError, match="weights were changed"):
        _put_a_row(tmp_path, late, RunKind(), late.given.set)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_settings_compares_them_before_any_row(tmp_path: Path) -> None:
    with RunDir(tmp_path, SETTINGS) as run:
        run.log("rows").append({"id": "1"})
    late = Late({**SETTINGS, "frames": 9})
    threading.Timer(0.05, late.given.set).start()
    with pytest.raises(UserError, match="frames 8 there, 9 here"):
        RunDir(tmp_path, late, patience_s=0)


def test_ctrl_c_does_not_wait_for_late_settings(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib\n"
        "from sharegptvideo._runs import RunDir\n"
        "with RunDir(pathlib.Path(sys.argv[1]), lambda: time.sleep(600), patience_s=0):\n"
        "    raise KeyboardInterrupt\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == -signal.SIGINT, done.stderr
