"""Archives in a folder: what has become of them, and `sharegptvideo data unpack`."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sharegptvideo._text import byte_size
from sharegptvideo.cli import app
from sharegptvideo.data.download import (
    Limits,
    Outcome,
    Packing,
    State,
    download,
    find_archives,
    unpack_archives,
)
from sharegptvideo.errors import UserError
from tests.support.archives import entry, link, tar, tar_gz, zipped
from tests.support.hub_server import HubServer

Files = dict[str, dict[str, bytes]]
CHUNK = "train_300k/chunk_0.tar.gz"


def _clip(stem: str, top: str = "") -> dict[str, bytes]:
    return {f"{top}{stem}/c01_{n:04}.jpeg": b"frame" * n for n in (1, 2, 3)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four archives, as copies of both repositories have them; and the authors' results."""
    files = {
        CHUNK: tar_gz(_clip("one")),
        "train_300k/chunk_10.tar.gz": tar(_clip("two")),
        "train_300k/chunk_2.tgz": tar_gz(_clip("three")),
        "video_data/test/msvd.tar.gz": tar_gz(_clip("four", "msvd/")),
        "compile_test_result.tar.gz": tar_gz({"results": b"none of ours"}),
        "train_300k/.hidden.tar.gz": b"x",
        "train_300k/notes.tar.gz.md": b"x",
    }
    for name, content in files.items():
        (tmp_path / "release" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "release" / name).write_bytes(content)
    return tmp_path / "release"


def _states(root: Path) -> dict[str, Packing]:
    return {archive.path: archive.state for archive in find_archives(root)}


def _files(root: Path) -> list[str]:
    """Frames, below `root`."""
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.jpeg"))


def test_archives_of_a_folder_in_natural_order(root: Path) -> None:
    assert list(_states(root)) == [
        CHUNK,
        "train_300k/chunk_2.tgz",
        "train_300k/chunk_10.tar.gz",
        "video_data/test/msvd.tar.gz",
    ]
    assert set(_states(root).values()) == {Packing.PACKED}
    (one,) = find_archives(root / CHUNK)
    assert (one.root, one.path, one.size) == (
        root / "train_300k",
        "chunk_0.tar.gz",
        (root / CHUNK).stat().st_size,
    )


def test_a_linked_folder_counts_and_a_link_back_up_ends(root: Path, tmp_path: Path) -> None:
    (root / "train_300k").rename(tmp_path / "elsewhere")
    (root / "train_300k").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(root)
    assert len(find_archives(root)) == 4
    assert unpack_archives(root)[1].archives == 4
    assert (tmp_path / "elsewhere" / "chunk_0" / "one").is_dir()


def test_folders_of_clips_are_not_entered(root: Path) -> None:
    for number in range(1001):
        (root / "clips" / f"clip{number}").mkdir(parents=True)
    (root / "clips" / "clip7" / "deep.tar").write_bytes(b"x")
    (root / "clips" / "beside.tar").write_bytes(tar(_clip("five")))
    assert "clips/beside.tar" in _states(root)
    assert "clips/clip7/deep.tar" not in _states(root)


def test_unpacked_once(root: Path) -> None:
    before, done = unpack_archives(root)
    assert len(before) == 4
    assert done == Outcome(archives=4, entries=17, unpacked_bytes=4 * 5 * 6)
    assert _files(root) == [
        f"{folder}/{stem}/c01_000{n}.jpeg"
        for folder, stem in (
            ("train_300k/chunk_0", "one"),
            ("train_300k/chunk_10", "two"),
            ("train_300k/chunk_2", "three"),
            ("video_data/test/msvd", "four"),
        )
        for n in (1, 2, 3)
    ]
    assert set(_states(root).values()) == {Packing.UNPACKED}
    assert (root / CHUNK).exists()
    inodes = {path: path.stat().st_ino for path in root.rglob("*.jpeg")}
    assert unpack_archives(root)[1] == Outcome()
    assert {path: path.stat().st_ino for path in root.rglob("*.jpeg")} == inodes


def test_what_was_removed_or_replaced_is_unpacked_again(root: Path) -> None:
    unpack_archives(root)
    for path in (root / "train_300k/chunk_0/one").iterdir():
        path.unlink()
    (root / "train_300k/chunk_0/one").rmdir()
    (root / "train_300k/chunk_2.tgz").write_bytes(tar_gz(_clip("three") | _clip("more")))
    assert [path for path, state in _states(root).items() if state is Packing.PACKED] == [
        CHUNK,
        "train_300k/chunk_2.tgz",
    ]
    assert unpack_archives(root)[1].archives == 2
    assert (root / "train_300k/chunk_0/one/c01_0001.jpeg").exists()
    assert (root / "train_300k/chunk_2/more").is_dir()


def test_removed_once_unpacked(root: Path) -> None:
    unpack_archives(root / "train_300k" / "chunk_2.tgz")
    archives, done = unpack_archives(root, remove=True)
    assert (len(archives), done.archives) == (4, 3)
    assert find_archives(root) == []
    assert len(_files(root)) == 12


@pytest.mark.parametrize(
    ("archive", "into"),
    [
        (CHUNK, "train_300k"),
        (CHUNK, "train_300k/chunk_0"),
        ("video_data/test/msvd.tar.gz", "video_data/test"),
        ("video_data/test/msvd.tar.gz", "video_data/test/msvd"),
    ],
)
def test_unpacked_by_hand(root: Path, archive: str, into: str) -> None:
    (root / into).mkdir(exist_ok=True)
    with tarfile.open(root / archive) as packed:
        packed.extractall(root / into, filter="data")
    assert _states(root)[archive] is Packing.BY_HAND
    assert unpack_archives(root, remove=True)[1].archives == 3
    assert (root / archive).exists(), "it may not be all there, so the archive stays"


def test_something_else_in_the_way(root: Path) -> None:
    (root / "train_300k/chunk_0").mkdir()
    assert _states(root)[CHUNK] is Packing.PACKED, "an empty folder is in nobody's way"
    (root / "train_300k/chunk_0/mine.txt").touch()
    assert _states(root)[CHUNK] is Packing.IN_THE_WAY
    with pytest.raises(UserError, match=r"chunk_0: is there, but did not come from train_300k/ch"):
        unpack_archives(root)
    assert not _files(root)
    assert (root / "train_300k/chunk_0/mine.txt").exists()


def test_a_bad_archive_does_not_stop_the_others(root: Path) -> None:
    (root / CHUNK).write_bytes(tar_gz([entry("one/a.jpeg", b"x"), entry("../out.jpeg", b"x")]))
    (root / "train_300k/chunk_2.tgz").write_bytes(tar_gz(_clip("three"))[:-20])
    with pytest.raises(UserError) as caught:
        unpack_archives(root, workers=1)
    assert "(2 of 4 files failed)" in str(caught.value)
    assert not list(root.parent.rglob("out.jpeg"))
    assert {path for path, state in _states(root).items() if state is Packing.UNPACKED} == {
        "train_300k/chunk_10.tar.gz",
        "video_data/test/msvd.tar.gz",
    }
    assert not list((root / ".sharegptvideo").iterdir())


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (tar_gz([link("one/a", "/etc/passwd")]), "is not safe"),
        (tar_gz(_clip("one")), "over 20 bytes"),
        (b"no archive", "damaged or not a tar archive"),
    ],
)
def test_the_guard_is_that_of_a_download(root: Path, content: bytes, cause: str) -> None:
    (root / CHUNK).write_bytes(content)
    with pytest.raises(UserError, match=rf"^chunk_0\.tar\.gz: .*{cause}"):
        unpack_archives(root / CHUNK, limits=Limits(max_bytes=20))
    assert not (root / "train_300k/chunk_0").exists()


def test_onto_another_disk(root: Path) -> None:
    memory = Path("/dev/shm")  # another file system, if there is one
    if not memory.is_dir() or memory.stat().st_dev == root.stat().st_dev:
        pytest.skip("one file system only")
    with tempfile.TemporaryDirectory(dir=memory) as other:
        (Path(other) / "chunk_0.tar.gz").write_bytes((root / CHUNK).read_bytes())
        (root / "linked").symlink_to(other)
        unpack_archives(root)
        assert (Path(other) / "chunk_0/one/c01_0001.jpeg").exists()


def test_a_download_takes_over_what_was_unpacked_here(
    release_hub: HubServer, contents: Files, tmp_path: Path
) -> None:
    for files in contents.values():
        if CHUNK in files:
            (tmp_path / "train_300k").mkdir()
            (tmp_path / CHUNK).write_bytes(files[CHUNK])
    unpack_archives(tmp_path, remove=True)
    plan, _ = download("qa", tmp_path, media=True)
    assert {item.remote.path: item.state for item in plan.items}[CHUNK] is State.DONE
    assert CHUNK not in release_hub.fetched


@pytest.fixture
def start(root: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start `data unpack` in a process of its own."""

    def run(*words: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "sharegptvideo", "data", "unpack", *map(str, words)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=root.parent)

    return run


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_stopped_and_started_again(
    start: Callable[..., subprocess.Popen[str]], root: Path, how: signal.Signals
) -> None:
    many = {f"clip{n}/c01_0001.jpeg": b"frame" for n in range(6_000)}
    (root / CHUNK).write_bytes(tar_gz(many))
    work, target = root / ".sharegptvideo", root / "train_300k/chunk_0"
    process = start(root)
    while not (target.exists() or _begun(work)):
        assert process.poll() is None, process.communicate()
    process.send_signal(how)
    out, err = process.communicate(timeout=60)
    # All or nothing, also where the last archive was done before the signal came.
    assert not target.exists() or len(list(target.glob("clip*"))) == 6_000
    assert process.returncode in {-9 if how is signal.SIGKILL else 130, 0}
    assert "Traceback" not in err
    process = start(root, "--json")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    figures = json.loads(out)
    assert figures["archives"] == figures["unpacked"] + figures["unpacked_before"] == 4
    assert len(list(target.glob("clip*"))) == 6_000
    assert sorted(path.name for path in work.iterdir()) == ["lock"]


def _begun(work: Path) -> bool:
    """Whether some clips of the large archive are written, and it is not yet in its place."""
    with contextlib.suppress(FileNotFoundError):  # it is being moved
        return any((path / "clip5").exists() for path in work.glob("*.unpacking"))
    return False


@pytest.fixture
def cli() -> Callable[..., Any]:
    runner = CliRunner(env={"COLUMNS": "200"})
    return lambda *words: runner.invoke(app, ["data", *map(str, words)])


def test_command(cli: Callable[..., Any], root: Path) -> None:
    with tarfile.open(root / CHUNK) as packed:
        packed.extractall(root / "train_300k", filter="data")
    shown = cli("unpack", root, "--remove")
    assert shown.exit_code == 0, shown.output
    figures = dict(line.split(maxsplit=1) for line in shown.stdout.splitlines())
    assert (figures["archives"], figures["unpacked"], figures["unpacked_by_hand"]) == (
        "4",
        "3",
        "1",
    )
    assert f"{CHUNK}: its first file is there already, taken as unpacked by hand" in shown.stderr
    shown = cli("unpack", root / "video_data")
    assert (shown.exit_code, f"{root / 'video_data'}: no archives in it" in shown.stderr) == (
        0,
        True,
    )


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("no/where",), "no/where: no such folder"),
        (("{root}/train_300k/notes.tar.gz.md",), "not an archive (.tar.gz, .tgz, .tar"),
        (("{root}", "--max-bytes", "much"), "--max-bytes: 'much' is not a size"),
    ],
)
def test_mistakes(cli: Callable[..., Any], root: Path, words: tuple[str, ...], line: str) -> None:
    shown = cli("unpack", *(word.format(root=root) for word in words))
    assert shown.exit_code == 2
    assert line in shown.stderr


def test_status_names_archives_and_the_command(
    cli: Callable[..., Any], root: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows" / "video_instruction" / "test"
    rows.mkdir(parents=True)
    turns = [{"from": "human", "value": "<video>\nWhat?"}, {"from": "gpt", "value": "That."}]
    row = {"id": "q", "video": "test/msvd/four", "conversations": turns}
    (rows / "msvd.qa.jsonl").write_text(json.dumps(row))
    words = ("status", "--data-dir", tmp_path / "rows", "--media", root)
    shown = cli(*words)
    size = byte_size(sum(archive.size for archive in find_archives(root)))
    line = f"4 of 4 archives not unpacked ({size}); the media in them count as missing."
    assert line in shown.stdout
    assert f"\n  sharegptvideo data unpack {root}\n" in shown.stdout
    assert f"\narchive  {CHUNK}\n" in shown.stdout
    unpack_archives(root / "video_data")
    figures = json.loads(cli(*words, "--json").stdout)
    assert figures["configs"]["msvd_qa"]["missing"] == 0
    assert figures["media"]["archives"] == 4
    assert figures["media"]["archives_not_unpacked"] == [
        str(root / "train_300k" / name)
        for name in ("chunk_0.tar.gz", "chunk_2.tgz", "chunk_10.tar.gz")
    ]
    unpack_archives(root)
    assert "not unpacked" not in cli(*words).stdout


# Zip archives, of images.


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """One of ALLaVA's archives and Vision-Flan's, where their repositories have them."""
    files = {
        "allava_laion/image_chunks/images_0.zip": zipped({"1.jpeg": b"1", "2.jpeg": b"22"}),
        "image_191-task_1k.zip": zipped({"images_191task_1k/q.jpeg": b"333"}),
        "allava_laion/broken.zip": b"PK\3\4 cut off",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_zip_archives_too(images: Path) -> None:
    with pytest.raises(UserError, match=r"broken.zip: cut off"):
        unpack_archives(images)
    assert _files(images) == [
        "allava_laion/image_chunks/images_0/1.jpeg",
        "allava_laion/image_chunks/images_0/2.jpeg",
        "image_191-task_1k/images_191task_1k/q.jpeg",
    ]
    assert [path for path, state in _states(images).items() if state is Packing.PACKED] == [
        "allava_laion/broken.zip"
    ]


def test_zip_archives_unpacked_by_hand(images: Path) -> None:
    (images / "allava_laion/images").mkdir()
    (images / "allava_laion/images/1.jpeg").write_bytes(b"1")
    (images / "images_191task_1k").mkdir()
    (images / "images_191task_1k/q.jpeg").write_bytes(b"333")
    states = _states(images)
    assert states["allava_laion/image_chunks/images_0.zip"] is Packing.BY_HAND
    assert states["image_191-task_1k.zip"] is Packing.BY_HAND
