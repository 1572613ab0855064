"""Several files of one folder: all of the new ones or all of the old, also after a kill."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sharegptvideo._io import write_json, write_jsonl, write_text
from sharegptvideo._staging import STAGE, replacing_files
from sharegptvideo.build import make_pairs
from sharegptvideo.data.publish import publish
from sharegptvideo.data.stats import StatsSettings, caption_stats
from sharegptvideo.data.validate import validate
from sharegptvideo.errors import UserError
from sharegptvideo.eval import run_evaluation
from sharegptvideo.eval.agreement import compare_judges
from sharegptvideo.reports import captions, validation
from sharegptvideo.reports.agreement import save_agreement
from sharegptvideo.reports.leaderboard import write_leaderboard
from sharegptvideo.reports.run import write_report
from tests.support.eval_fixtures import CountingModel, SmallRelease
from tests.support.kill_points import contents, kill_points

Write = Callable[[Path], object]

OLD = {"a.txt": b"old a", "pages/index.html": b"old page", "pages/1.js": b"old 1"}
NEW = {"a.txt": b"new a", "b.txt": b"new b", "pages/index.html": b"new page"}
MINE = {"mine.txt": b"mine", "pages/mine": b"mine", "deep/er/mine": b"mine"}


@pytest.fixture(autouse=True)
def _no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill takes nothing from what the system was given; only power cuts need the wait."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def put(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_new(folder: Path) -> None:
    with replacing_files(folder, obsolete=["pages/*.js"]) as new:
        for name, content in NEW.items():
            write_text(new / name, content.decode())


def test_killed_at_each_change(tmp_path: Path) -> None:
    out, seen = put(tmp_path / "at" / "out", OLD | MINE), []
    for _ in kill_points(lambda: write_new(out)):
        there = contents(out)
        assert there in (OLD | MINE, NEW | MINE)
        seen.append(there == NEW | MINE)
        write_new(out)  # the same command goes on
        assert contents(out) == NEW | MINE
        assert names(out.parent) == ["out"]
        assert not (out / STAGE).exists()
        shutil.rmtree(out)
        put(out, OLD | MINE)
    assert len(seen) > 20
    assert sorted(seen) == seen  # old, then new, each of them at some moments
    assert set(seen) == {False, True}


def test_a_new_folder_is_whole_or_empty_after_a_kill(tmp_path: Path) -> None:
    out = tmp_path / "a" / "out"
    for _ in kill_points(lambda: write_new(out)):
        assert not out.exists() or contents(out) in ({}, NEW)
        write_new(out)
        assert contents(out) == NEW
        assert names(out.parent) == ["out"]
        shutil.rmtree(tmp_path / "a")


def test_what_else_is_there_stays(tmp_path: Path) -> None:
    out = put(tmp_path / "out", OLD | MINE)
    (out / "link").symlink_to("deep")
    (out / "nothing").mkdir()
    (out / "deep").chmod(0o750)
    place, mine = out.stat(), (out / "mine.txt").stat()
    write_new(out)
    assert contents(out) == NEW | MINE
    # The folder, and the files in it, are the same ones and not only alike.
    assert (out.stat().st_ino, (out / "mine.txt").stat().st_ino) == (place.st_ino, mine.st_ino)
    assert (out / "mine.txt").stat().st_nlink == 1
    assert (out / "link").is_symlink()
    assert (out / "nothing").is_dir()
    assert (out / "deep").stat().st_mode & 0o777 == 0o750
    assert names(tmp_path) == ["out"]


def test_obsolete_files_go_with_their_folders(tmp_path: Path) -> None:
    out = put(tmp_path / "out", OLD | MINE)
    with replacing_files(out, obsolete=["**/*"]) as new:
        write_text(new / "only.txt", "x")
    assert [path.name for path in out.rglob("*")] == ["only.txt"]


def test_a_link_to_a_folder_stays_one(tmp_path: Path) -> None:
    put(tmp_path / "there", OLD)
    (tmp_path / "out").symlink_to("there")
    write_new(tmp_path / "out")
    assert (tmp_path / "out").is_symlink()
    assert contents(tmp_path / "there") == NEW


def test_the_folder_that_one_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(put(tmp_path / "out", OLD))
    write_new(Path())
    assert contents(Path()) == contents(tmp_path / "out") == NEW


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    out = put(tmp_path / "out", OLD)

    def fails(folder: Path) -> None:
        with replacing_files(folder) as new:
            write_text(new / "a.txt", "x")
            raise KeyboardInterrupt

    for folder in (out, tmp_path / "deep" / "er" / "out"):
        with pytest.raises(KeyboardInterrupt):
            fails(folder)
    assert contents(out) == OLD
    assert names(out) == ["a.txt", "pages"]
    assert names(tmp_path) == ["out"]


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    put(tmp_path / "out", OLD)
    with replacing_files(tmp_path / "out") as new:
        with pytest.raises(UserError, match=r"out: another process is writing its files; wait"):
            write_new(tmp_path / "out")
        write_text(new / "a.txt", "x")
    assert (tmp_path / "out" / "a.txt").read_text() == "x"


def _no_exchange(*_: object) -> int:
    ctypes.set_errno(errno.EINVAL)
    return -1


class _OldLibrary:
    """What the C library of a system without that call gives, or of one that refuses it."""

    def __init__(self, *_: object, **__: object) -> None: ...


class _OldFileSystem(_OldLibrary):
    renameat2 = staticmethod(_no_exchange)


@pytest.mark.parametrize("library", [_OldLibrary, _OldFileSystem])
def test_a_system_that_exchanges_no_folders(
    library: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is old or new at every moment; the page comes last."""
    monkeypatch.setattr(ctypes, "CDLL", library)
    before, out = put(tmp_path / "before", OLD | MINE), tmp_path / "at" / "out"
    for _ in kill_points(lambda: write_new(shutil.copytree(before, out, dirs_exist_ok=True))):
        there = contents(out) if out.is_dir() else {}
        if there.get("pages/index.html") == NEW["pages/index.html"]:
            assert NEW.items() <= there.items()
        shutil.rmtree(tmp_path / "at", ignore_errors=True)
    shutil.copytree(before, out, dirs_exist_ok=True)
    write_new(out)
    assert contents(out) == NEW | MINE
    assert names(out.parent) == ["out"]


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refused)
    write_new(put(tmp_path / "out", OLD))
    assert contents(tmp_path / "out") == NEW


def finished_run(small_release: SmallRelease, model: CountingModel, out: Path) -> Path:
    run_evaluation(
        model.spec, ["msvd_qa"], judge="exact", out=out,
        data_dir=small_release.folder, media=small_release.folder,
    )  # fmt: skip
    return out


@pytest.mark.parametrize(
    "page", ["leaderboard", "report", "agreement", "validate", "stats", "preferences"]
)
def test_pages_are_old_or_new_at_each_change(
    page: str,
    small_release: SmallRelease,
    model: CountingModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every writer of several files; the pages' own folders hold files of the user's too."""
    if page == "preferences":
        answers = [{"text": text, "score": score, "copies": 1} for text, score in
                   (("a red one", 5), ("a blue one", 1))]  # fmt: skip
        row = {"id": "1", "video": "v", "source": "s", "question": "q", "answer": "a"}
        write_jsonl(tmp_path / "rewards.jsonl", [row | {"caption": "c", "answers": answers}])
        write_json(tmp_path / "rewards.json", {"settings": {}, "report": {}})

        def write(out: Path) -> object:
            return make_pairs(tmp_path / "rewards.jsonl", out)
    elif page == "validate":
        checked = validate(small_release.folder)

        def write(out: Path) -> object:
            return validation.write_report(checked, out)
    elif page == "stats":
        settings = StatsSettings(small_release.folder, "msvd_qa", None, None, "raise", 1)
        figures = caption_stats(settings)

        def write(out: Path) -> object:
            captions.write_report(figures, out)
            return None
    else:
        run = finished_run(small_release, model, tmp_path / "run")
        result = compare_judges(run, run)

        def write(out: Path) -> object:
            if page == "leaderboard":
                return write_leaderboard([run], out)
            if page == "agreement":
                return save_agreement(result, out)
            return write_report(run, out)

    write(out := tmp_path / "at" / "out")
    files = [path for path in out.rglob("*") if path.is_file() and path.suffix != ".jpg"]
    assert len(files) > 1
    for path in files:
        if path.name not in ("splits.json", "dataset.json"):  # are read, not only replaced
            path.write_text("old")
    (out / "mine.txt").write_text("mine")
    states = seen_states(monkeypatch, out)
    old = contents(out)
    write(out)
    assert states == [old, contents(out)]
    assert contents(out)["mine.txt"] == b"mine"
    assert names(out.parent) == ["out"]


def seen_states(patch: pytest.MonkeyPatch, folder: Path) -> list[dict[str, bytes]]:
    """The different contents of a folder at each change; what stands there a kill would leave."""
    states: list[dict[str, bytes]] = []

    def watched(change: Callable[..., object]) -> Callable[..., object]:
        def changed(*args: object, **kwargs: object) -> object:
            if folder.is_dir() and (there := contents(folder)) not in states[-1:]:
                states.append(there)
            return change(*args, **kwargs)

        return changed

    for name in ("mkdir", "rename", "replace", "link", "unlink", "rmdir"):
        patch.setattr(os, name, watched(getattr(os, name)))
    return states


def test_a_tree_to_publish_is_old_or_new_at_each_change(
    small_release: SmallRelease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = {
        "README.md": b"old",
        "qa/README.md": b"old",
        "qa/train-00000-of-00001.parquet": b"old",
        "msvd_qa/test-00000-of-00002.parquet": b"old",
        "msvd_qa/test-00001-of-00002.parquet": b"old",
    }
    out = put(tmp_path / "at" / "out", old)
    states = seen_states(monkeypatch, out)
    publish(small_release.folder, "me/set", dry_run=out)
    assert states == [old, contents(out)]
    assert not [name for name in states[1] if name.startswith("qa/")]
    assert names(out.parent) == ["out"]
