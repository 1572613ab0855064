"""`download` against a Hub on loopback: the folder it leaves, done twice, stopped, at fault."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from sharegptvideo import load_dataset, read_rows
from sharegptvideo.data.download import Limits, Outcome, Plan, State, download
from sharegptvideo.data.sources.hub import TEST_REPO, TRAIN_REPO
from sharegptvideo.errors import UserError
from tests.support.archives import entry, tar_gz, zipped
from tests.support.hub_server import HubServer

Files = dict[str, dict[str, bytes]]
QA = "video_instruction/train/qa/video_qa.jsonl"
CHUNK = "train_300k/chunk_0.tar.gz"
IMAGE_ROWS = "video_instruction/train/pretrain/image_caption_pretrain.jsonl"
ZIP = "allava_laion/image_chunks/images_0.zip"


def _shown(folder: Path) -> dict[str, bytes]:
    """All files but hidden ones."""
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    return {name: data for name, data in files.items() if "/." not in f"/{name}"}


def _under_way(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / ".sharegptvideo").iterdir())


def test_the_folder_reads_as_a_release(
    release_hub: HubServer, contents: Files, tmp_path: Path
) -> None:
    plan, done = download("qa", tmp_path, media=True)
    rows = {name: data for name, data in contents[TRAIN_REPO].items() if "/qa/" in name}
    del rows["video_instruction/train/qa/notes.txt"]
    shown = _shown(tmp_path)
    assert {name: data for name, data in shown.items() if not name.startswith("train_")} == rows
    assert sorted(name for name in shown if name.startswith("train_")) == [
        f"train_300k/chunk_{chunk}/{stem}/c01_000{n}.jpeg"
        for chunk, stem in ((0, "one"), (1, "two"))
        for n in (1, 2, 3)
    ]
    assert _under_way(tmp_path) == ["download.jsonl", "lock"]
    table = load_dataset("qa", data_dir=tmp_path, media=tmp_path)
    assert set(table["video_path"]) == {
        str(tmp_path / "train_300k/chunk_0/one"),
        str(tmp_path / "train_300k/chunk_1/two"),
    }
    fetched = sum(map(len, rows.values()))
    fetched += sum(len(contents[TRAIN_REPO][f"train_300k/chunk_{n}.tar.gz"]) for n in (0, 1))
    assert done == Outcome(fetched, files=2, archives=2, entries=8, unpacked_bytes=120_000)
    assert plan.to_fetch == plan.size == fetched
    assert sorted(release_hub.fetched) == sorted([*rows, CHUNK, "train_300k/chunk_1.tar.gz"])


@pytest.mark.usefixtures("release_hub")
@pytest.mark.parametrize("name", ["msvd_qa", "activitynet_qa"])
def test_clips_of_test_sets(tmp_path: Path, name: str) -> None:
    """One archive has a folder of its own name in it, the other its clips at the top."""
    download(name, tmp_path, media=True)
    rows = list(read_rows(name, tmp_path, "test", media=tmp_path))
    (row,) = rows
    assert row["video_path"] == str(tmp_path / "video_data" / row["video"])


@pytest.mark.usefixtures("release_hub")
def test_everything_from_both_repositories(tmp_path: Path, contents: Files) -> None:
    """A release without some of its files says which; `all` needs every config's rows."""
    with pytest.raises(UserError, match=r"no video_instruction/train/sft/\*.jsonl on the Hub for"):
        download("all", tmp_path, media=True)
    plan, _ = download("all", tmp_path, media=True, only="msvd")
    assert [item.remote.path for item in plan.items] == [
        "video_instruction/test/msvd.qa.jsonl",
        "video_instruction/test/msvd.qa.official.jsonl",
        "video_data/test/msvd.tar.gz",
    ]
    assert len(plan.notes) == 1
    assert (
        contents[TEST_REPO]["video_instruction/test/msvd.qa.jsonl"]
        == (tmp_path / "video_instruction/test/msvd.qa.jsonl").read_bytes()
    )


def test_captions_have_the_other_chunks_too(release_hub: HubServer, tmp_path: Path) -> None:
    plan, _ = download("captions", tmp_path, media=True)
    assert (tmp_path / "train_600k/chunk_0/three/c01_0001.jpeg").exists()
    assert not plan.notes
    assert "train_600k/chunk_0.tar.gz" in release_hub.fetched


def test_media_that_the_hub_lacks_is_reported(
    hub_server: HubServer, contents: Files, tmp_path: Path
) -> None:
    del contents[TRAIN_REPO]["train_600k/chunk_0.tar.gz"]
    hub_server.add_repo(TRAIN_REPO, contents[TRAIN_REPO])
    plan, _ = download("captions", tmp_path, media=True)
    assert plan.missing == (
        "no clips of train_600k: "
        f"{TRAIN_REPO}: no train_600k/*.tar.gz on the Hub for clips of train_600k",
    )


# Images, from repositories of others.


@pytest.mark.usefixtures("image_hub")
def test_images_lie_where_their_rows_find_them(image_contents: Files, tmp_path: Path) -> None:
    plan, done = download("image_captions", tmp_path, media=True)
    assert done is not None
    assert (done.archives, done.files) == (3, 1)
    shown = _shown(tmp_path)
    assert shown.pop(IMAGE_ROWS) == image_contents[TRAIN_REPO][IMAGE_ROWS]
    assert shown == {
        "allava_laion/image_chunks/images_0/1.jpeg": b"one" * 30_000,
        "allava_laion/image_chunks/images_1/2.jpeg": b"two",
        "image_191-task_1k/images_191task_1k/q.png": b"q",
    }
    rows = list(read_rows("image_captions", tmp_path, media=tmp_path))
    assert [str(Path(row["image_path"]).relative_to(tmp_path)) for row in rows] == list(shown)
    assert set(plan.commits) == set(image_contents)
    again, nothing = download("image_captions", tmp_path, media=True)
    assert (again.open, nothing) == ([], Outcome())


def test_a_zip_that_writes_outside_stops_only_itself(
    image_hub: HubServer, image_contents: Files, tmp_path: Path
) -> None:
    allava = "FreedomIntelligence/ALLaVA-4V"
    bad = zipped({"good.jpeg": b"x", "../../../escaped.jpeg": b"x"})
    image_hub.add_repo(allava, {**image_contents[allava], ZIP: bad})
    with pytest.raises(UserError) as caught:
        download("image_captions", tmp_path / "to", media=True)
    assert str(caught.value) == (
        f"{ZIP}: refused, '../../../escaped.jpeg' is not safe (its path leads outside the folder)"
    )
    assert not list(tmp_path.rglob("escaped.jpeg"))
    assert not list(tmp_path.rglob("good.jpeg"))
    assert (tmp_path / "to/allava_laion/image_chunks/images_1/2.jpeg").exists()


def test_a_repository_of_others_that_is_gone_stops_only_itself(
    image_hub: HubServer, image_contents: Files, tmp_path: Path
) -> None:
    allava = "FreedomIntelligence/ALLaVA-4V"
    del image_hub.repos["dataset", allava]
    plan, done = download("image_captions", tmp_path, media=True)
    assert done is not None
    assert (done.archives, done.files) == (1, 1)
    assert _shown(tmp_path).keys() == {IMAGE_ROWS, "image_191-task_1k/images_191task_1k/q.png"}
    (missing,) = plan.missing
    assert missing.startswith(f"no images of ALLaVA: {allava}: ")
    image_hub.add_repo(allava, image_contents[allava])
    again, done = download("image_captions", tmp_path, media=True)
    assert done is not None
    assert (again.missing, done.archives) == ((), 2)


def test_a_revision_is_the_releases_own(
    image_hub: HubServer, image_contents: Files, tmp_path: Path
) -> None:
    commit = image_hub.add_repo(TRAIN_REPO, image_contents[TRAIN_REPO])
    _, done = download("image_captions", tmp_path, media=True, revision=commit)
    assert done is not None
    assert done.archives == 3


# Done twice, and what is there already.


def test_done_twice_does_nothing(release_hub: HubServer, tmp_path: Path) -> None:
    download("qa", tmp_path, media=True)
    before = {path: path.stat() for path in tmp_path.rglob("*") if path.name != "lock"}
    release_hub.forget()

    def never(_plan: Plan) -> bool:
        raise AssertionError("asked about nothing")

    plan, done = download("qa", tmp_path, media=True, confirm=never)
    assert (plan.open, done) == ([], Outcome())
    assert release_hub.fetched == []
    after = {path: path.stat() for path in tmp_path.rglob("*") if path.name != "lock"}
    assert {path: (s.st_ino, s.st_mtime_ns) for path, s in before.items()} == {
        path: (s.st_ino, s.st_mtime_ns) for path, s in after.items()
    }


def test_only_what_was_removed_comes_again(release_hub: HubServer, tmp_path: Path) -> None:
    download("qa", tmp_path, media=True)
    whole = _shown(tmp_path)
    (tmp_path / QA).unlink()
    shutil.rmtree(tmp_path / "train_300k/chunk_1/two")
    release_hub.forget()
    plan, _ = download("qa", tmp_path, media=True)
    assert sorted(release_hub.fetched) == ["train_300k/chunk_1.tar.gz", QA]
    assert [item.state for item in plan.items].count(State.DONE) == 2
    assert _shown(tmp_path) == whole
    assert _under_way(tmp_path) == ["download.jsonl", "lock"]


def test_a_copy_of_the_release_is_taken_over(
    release_hub: HubServer, contents: Files, tmp_path: Path
) -> None:
    """As `hf download` leaves it: nothing comes again, archives are unpacked and kept."""
    for path in (QA, CHUNK):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_bytes(contents[TRAIN_REPO][path])
    download("qa", tmp_path, media=True)
    assert sorted(release_hub.fetched) == [
        "train_300k/chunk_1.tar.gz",
        "video_instruction/train/qa/more.jsonl",
    ]
    assert (tmp_path / CHUNK).read_bytes() == contents[TRAIN_REPO][CHUNK]
    assert (tmp_path / "train_300k/chunk_0/one/c01_0001.jpeg").exists()
    release_hub.forget()
    download("qa", tmp_path, media=True)
    assert release_hub.fetched == []


def test_a_folder_that_was_moved(release_hub: HubServer, tmp_path: Path) -> None:
    """A copy has other times; what is in it is checked and taken over."""
    download("qa", tmp_path / "a", media=True)
    shutil.copytree(tmp_path / "a", tmp_path / "b", copy_function=shutil.copyfile)
    release_hub.forget()
    plan, _ = download("qa", tmp_path / "b", media=True)
    assert {item.state for item in plan.items} == {State.CHECK, State.DONE}
    assert release_hub.fetched == []


@pytest.mark.usefixtures("release_hub")
@pytest.mark.parametrize("same_size", [False, True])
def test_a_file_of_the_users_is_never_overwritten(
    contents: Files, tmp_path: Path, same_size: bool
) -> None:
    mine = contents[TRAIN_REPO][QA].swapcase() if same_size else b"mine"
    (tmp_path / QA).parent.mkdir(parents=True)
    (tmp_path / QA).write_bytes(mine)
    with pytest.raises(UserError) as caught:
        download("qa", tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / QA}: is there, but is not {QA} of {TRAIN_REPO} as the Hub has it; "
        "move it away, or choose another folder with --to"
    )
    assert (tmp_path / QA).read_bytes() == mine


@pytest.mark.usefixtures("release_hub")
def test_a_folder_of_the_users_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "train_300k/chunk_0").mkdir(parents=True)
    with pytest.raises(UserError, match=r"chunk_0: is there, but is not train_300k/chunk_0.tar.gz"):
        download("qa", tmp_path, media=True)


# Revisions.


def test_a_pinned_revision_and_a_newer_one(
    release_hub: HubServer, contents: Files, tmp_path: Path
) -> None:
    first = release_hub.commits(TRAIN_REPO)[0].oid
    newer = {
        **contents[TRAIN_REPO],
        QA: contents[TRAIN_REPO]["video_instruction/train/qa/more.jsonl"],
        CHUNK: tar_gz({"other/c01_0001.jpeg": b"frame"}),
    }
    release_hub.add_repo(TRAIN_REPO, newer)
    plan, _ = download("qa", tmp_path, media=True, revision=first)
    assert plan.commits == {TRAIN_REPO: first}
    assert (tmp_path / QA).read_bytes() == contents[TRAIN_REPO][QA]
    release_hub.forget()
    download("qa", tmp_path, media=True)
    assert sorted(release_hub.fetched) == [CHUNK, QA]
    assert (tmp_path / QA).read_bytes() == newer[QA]
    assert [path.name for path in (tmp_path / "train_300k/chunk_0").iterdir() if path.is_dir()] == [
        "other"
    ]
    with pytest.raises(UserError, match=f"{TRAIN_REPO}: no revision 'nosuch' on the Hub"):
        download("qa", tmp_path, revision="nosuch")


# Stopped, or at fault.


def test_faults_end_with_the_same_bytes(release_hub: HubServer, tmp_path: Path) -> None:
    download("qa", tmp_path / "calm", media=True)
    release_hub.faults.add(r"/api/", status=500, retry_after=0, times=2)
    release_hub.faults.add(r"chunk_0", "cut", after=25_000, times=3)
    release_hub.faults.add(r"chunk_1", "wrong", after=100)
    release_hub.faults.add(r"\.jsonl", "drop")
    release_hub.faults.add(r"\.jsonl", status=429, retry_after=0, times=2)
    release_hub.faults.add(r"chunk_1", "drop")
    download("qa", tmp_path / "rough", media=True)
    assert _shown(tmp_path / "rough") == _shown(tmp_path / "calm")
    assert all(fault.times == 0 for fault in release_hub.faults.all)


def test_ctrl_c_leaves_a_state_that_goes_on(release_hub: HubServer, tmp_path: Path) -> None:
    def interrupt(done: int, total: int, what: str) -> None:
        del done, total, what
        raise KeyboardInterrupt

    release_hub.faults.add(r"chunk_0", "stall", after=30_000)
    with pytest.raises(KeyboardInterrupt):
        download("qa", tmp_path, media=True, progress=interrupt)
    ours = [t.name for t in threading.enumerate() if t.name.startswith(("fetch", "unpack"))]
    assert ours == []  # none is left at work
    assert not (tmp_path / "train_300k/chunk_0").exists()
    release_hub.forget()
    download("qa", tmp_path, media=True)
    starts = [sent.start for sent in release_hub.transfers if sent.path == CHUNK]
    assert len(starts) <= 1
    assert (tmp_path / "train_300k/chunk_0/one/c01_0003.jpeg").stat().st_size == 20_000


def test_an_archive_that_writes_outside_stops_only_itself(
    hub_server: HubServer, contents: Files, tmp_path: Path
) -> None:
    contents[TRAIN_REPO][CHUNK] = tar_gz([entry("../../escaped", b"x"), entry("a/b", b"y")])
    hub_server.add_repo(TRAIN_REPO, contents[TRAIN_REPO])
    with pytest.raises(UserError) as caught:
        download("qa", tmp_path / "to", media=True)
    assert str(caught.value) == (
        f"{CHUNK}: refused, '../../escaped' is not safe (its path leads outside the folder)"
    )
    assert caught.value.exit_code == 1
    assert [path.name for path in tmp_path.rglob("escaped")] == []
    assert (tmp_path / "to/train_300k/chunk_1/two").is_dir()
    assert not (tmp_path / "to/train_300k/chunk_0").exists()
    assert (tmp_path / "to" / QA).exists()


def test_truncated_gzip_on_the_hub(hub_server: HubServer, contents: Files, tmp_path: Path) -> None:
    for number in (0, 1):
        path = f"train_300k/chunk_{number}.tar.gz"
        contents[TRAIN_REPO][path] = contents[TRAIN_REPO][path][:-500]
    hub_server.add_repo(TRAIN_REPO, contents[TRAIN_REPO])
    with pytest.raises(UserError) as caught:
        download("qa", tmp_path, media=True)
    assert str(caught.value).endswith(
        "cut off (it ends before its end mark); nothing of it is kept (2 of 4 files failed)"
    )
    assert not list(tmp_path.glob("train_300k/*"))
    assert not list(tmp_path.glob(".sharegptvideo/*.unpacking"))


@pytest.mark.usefixtures("release_hub")
def test_a_bomb_stops_at_the_limits_given(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unpacks to over 50,000 bytes; .* raise --max-bytes"):
        download("qa", tmp_path, media=True, limits=Limits(max_bytes=50_000))
    assert not list(tmp_path.glob("train_300k/*"))
    download("qa", tmp_path, media=True)  # nothing has to be fetched again for that
    assert (tmp_path / "train_300k/chunk_0/one").is_dir()


@pytest.mark.usefixtures("release_hub")
def test_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(UserError, match=r"123\.\d kB are needed and 100\.0 kB free; make room"):
        download("qa", tmp_path, media=True)
    download("qa", tmp_path)


@pytest.mark.usefixtures("release_hub")
def test_a_folder_without_rights(unprivileged: Callable[[], AbstractContextManager[None]]) -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        to = Path(name, "to")
        Path(name).chmod(0o555)
        with pytest.raises(UserError) as caught, unprivileged():
            download("qa", to)
        Path(name).chmod(0o755)
        (to / "video_instruction").mkdir(parents=True)
        (to / ".sharegptvideo").mkdir()
        (to / ".sharegptvideo").chmod(0o777)
        (to / "video_instruction").chmod(0o555)
        with pytest.raises(UserError) as second, unprivileged():
            download("qa", to)
        (to / "video_instruction").chmod(0o755)
    cause = "(Permission denied); change its permissions or name another place"
    assert str(caught.value) == f"{to}: cannot be written {cause}"
    assert str(second.value) == f"{to / 'video_instruction/train'}: cannot be written {cause}"
    assert caught.value.exit_code == second.value.exit_code == 1


@pytest.mark.usefixtures("release_hub")
def test_a_file_where_a_folder_is_needed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for to in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(UserError, match="a file stands where a folder is needed"):
            download("qa", to)
    (tmp_path / "to").mkdir()
    (tmp_path / "to/video_instruction").write_text("x")
    with pytest.raises(UserError, match="a file stands where a folder is needed"):
        download("qa", tmp_path / "to")


@pytest.mark.usefixtures("release_hub")
def test_two_at_a_time_in_one_folder(tmp_path: Path) -> None:
    messages: list[str] = []

    def second(_plan: Plan) -> bool:
        with pytest.raises(UserError) as caught:
            download("qa", tmp_path)
        messages.append(str(caught.value))
        return False

    _, done = download("qa", tmp_path, confirm=second)
    assert done is None
    assert messages == [f"{tmp_path}: another download is at work there; wait for it"]
    assert not (tmp_path / QA).exists()


def test_a_listing_that_leads_outside(
    hub_server: HubServer, contents: Files, tmp_path: Path
) -> None:
    contents[TRAIN_REPO]["../outside.jsonl"] = b"{}"
    hub_server.add_repo(TRAIN_REPO, contents[TRAIN_REPO])
    with pytest.raises(UserError, match=r"refused, '\.\./outside\.jsonl' leads outside"):
        download("qa", tmp_path)


@pytest.mark.parametrize("line", [b'{"path": "x"\n', b"\xff\n", b'["list"]\n'])
def test_a_journal_that_was_damaged(release_hub: HubServer, tmp_path: Path, line: bytes) -> None:
    download("qa", tmp_path)
    journal = tmp_path / ".sharegptvideo/download.jsonl"
    journal.write_bytes(line + journal.read_bytes())
    with pytest.raises(UserError, match=r"download.jsonl:1: "):
        download("qa", tmp_path)
    release_hub.forget()
    journal.write_bytes(json.dumps({"path": QA}).encode() + b'\n{"torn')
    download("qa", tmp_path)
    assert release_hub.fetched == []


def test_no_hub(tmp_path: Path, hub_server: HubServer) -> None:
    with pytest.raises(UserError, match=f"{TRAIN_REPO}: not on the Hub, or not for you"):
        download("qa", tmp_path)
    del hub_server
