"""`sharegptvideo data download` as a user runs it: asked, killed, on a full disk."""

from __future__ import annotations

import json
import os
import pty
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sharegptvideo._text import byte_size
from sharegptvideo.cli import app
from sharegptvideo.cli.data.download import parse_size
from sharegptvideo.data.sources.hub import TRAIN_REPO
from sharegptvideo.errors import UserError
from tests.support.archives import tar_gz
from tests.support.hub_server import HubServer

Files = dict[str, dict[str, bytes]]
QA = "video_instruction/train/qa/video_qa.jsonl"
CHUNK = "train_300k/chunk_0.tar.gz"


def _command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "sharegptvideo", "data", "download", *map(str, arguments)]


@pytest.fixture
def start(release_hub: HubServer) -> Callable[..., subprocess.Popen[str]]:
    """Start the command in a process of its own."""

    def run(*arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            _command(*arguments),
            env={**os.environ, **release_hub.environment()},
            stdin=options.pop("stdin", subprocess.DEVNULL),
            stdout=subprocess.PIPE,
            stderr=options.pop("stderr", subprocess.PIPE),
            text=True,
            **options,
        )

    return run


Start = Callable[..., subprocess.Popen[str]]


def _ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def _invoke(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["data", "download", *map(str, arguments)])


def test_what_others_no_longer_have_is_listed_at_the_end(
    image_hub: HubServer, tmp_path: Path
) -> None:
    for name in ("FreedomIntelligence/ALLaVA-4V", "Vision-Flan/vision-flan_191-task_1k"):
        del image_hub.repos["dataset", name]
    done = _invoke("image_captions", "--to", tmp_path, "--media", "--yes", "--json")
    assert done.exit_code == 1
    figures = json.loads(done.stdout)
    assert (figures["files"], len(figures["missing"])) == (1, 2)
    lines = done.stderr.splitlines()
    assert [line for line in lines if line in figures["missing"]] == figures["missing"]
    assert lines[-1].startswith("all else is there")
    again = _invoke("image_captions", "--to", tmp_path, "--media", "--yes")
    assert again.exit_code == 1
    assert "no images of ALLaVA" in again.stderr


@pytest.mark.usefixtures("release_hub")
def test_plan_figures_and_a_second_time(
    tmp_path: Path, contents: Files, synced: list[Path]
) -> None:
    done = _invoke("qa", "--to", tmp_path, "--media", "--yes", "--json")
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    # The names of rows and of clips' folders are on the disk before the journal has them.
    assert {tmp_path / "video_instruction/train/qa", tmp_path / "train_300k"} <= set(synced)
    files = contents[TRAIN_REPO]
    size = sum(len(files[name]) for name in files if "/qa/" in name and name.endswith("l"))
    size += sum(len(files[f"train_300k/chunk_{n}.tar.gz"]) for n in (0, 1))
    assert figures.pop("commits").keys() == {TRAIN_REPO}
    assert figures == {
        "name": "qa",
        "to": str(tmp_path),
        "files": 4,
        "files_there_before": 0,
        "fetched_bytes": size,
        "archives_unpacked": 2,
        "entries_unpacked": 8,
        "unpacked_bytes": 120_000,
        "missing": [],
    }
    lines = [re.sub(" +", " ", line) for line in done.stderr.splitlines()]
    assert lines[0] == "what files size to download"
    assert lines[2] == "clips of train_300k 2 120.9 kB 120.9 kB"
    assert lines[3] == f"in all 4 {byte_size(size)} {byte_size(size)}"
    assert "over 64.0 GB or 5,000,000 entries, or 100 times its size, is refused" in lines[4]
    again = _invoke("qa", "--to", tmp_path, "--media", "--json")
    assert again.exit_code == 0
    assert again.stderr == f"{tmp_path}: all 4 files are there and right, nothing to do\n"
    assert json.loads(again.stdout)["fetched_bytes"] == 0


@pytest.mark.usefixtures("release_hub")
def test_no_terminal_to_ask_on(tmp_path: Path) -> None:
    done = _invoke("qa", "--to", tmp_path)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == (
        "error: no terminal to ask on; add --yes to download what is listed above"
    )
    assert not (tmp_path / QA).exists()


@pytest.mark.parametrize("answer", ["y", "n"])
def test_asked_on_a_terminal(start: Start, tmp_path: Path, answer: str) -> None:
    ours, theirs = pty.openpty()
    process = start("qa", "--to", tmp_path, stdin=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    while b"[y/N]:" not in seen:
        seen += os.read(ours, 1000)
    assert b"rows of qa" in seen
    os.write(ours, answer.encode() + b"\n")
    while True:
        try:
            more = os.read(ours, 1000)
        except OSError:  # the other side is closed
            break
        if not more:
            break
        seen += more
    code, _, _ = _ended(process)
    os.close(ours)
    assert code == (0 if answer == "y" else 1)
    assert (tmp_path / QA).exists() == (answer == "y")
    assert (b"nothing downloaded" in seen) == (answer == "n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["qaa", "--to", "X"], "error: unknown dataset 'qaa'; did you mean qa"),
        (
            ["all", "--to", "X", "--only", "webvd"],
            "error: unknown source 'webvd'; did you mean web",
        ),
        (["qa", "--to", "X", "--only", "webvid"], "error: qa: its files and chunks mix their"),
        (
            ["qa", "--to", "X", "--max-bytes", "lots"],
            "error: --max-bytes: 'lots' is not a size; write",
        ),
        (["qa"], "Missing option '--to'"),
        (["qa", "--to", "X", "--revision", "v9"], "no revision 'v9' on the Hub"),
    ],
)
@pytest.mark.usefixtures("release_hub")
def test_typos(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = _invoke(*[str(tmp_path / "X") if word == "X" else word for word in arguments])
    assert done.exit_code in (1, 2)
    assert message in re.sub(r"\s+", " ", done.stderr.replace("│", ""))
    assert "Traceback" not in done.stderr


# Killed, interrupted, on a full disk: in a process of its own.


def test_killed_and_started_again(
    start: Start, release_hub: HubServer, contents: Files, tmp_path: Path
) -> None:
    fault = release_hub.faults.add(CHUNK, "stall", after=40_000)
    process = start("qa", "--to", tmp_path, "--media", "--yes")
    assert fault.struck.wait(30)
    digest = sha256(contents[TRAIN_REPO][CHUNK]).hexdigest()
    (part,) = (tmp_path / ".sharegptvideo").glob(f"sha256-{digest}-*.part")
    while part.stat().st_size < 40_000:  # sent is not yet written
        assert process.poll() is None
    process.kill()
    _ended(process)
    assert not list(tmp_path.glob("train_300k/chunk_0"))
    release_hub.forget()
    code, _, err = _ended(start("qa", "--to", tmp_path, "--media", "--yes"))
    assert code == 0, err
    assert [sent.start for sent in release_hub.transfers if sent.path == CHUNK] == [40_000]
    assert len(list((tmp_path / "train_300k/chunk_0/one").iterdir())) == 3


def test_killed_while_images_come(start: Start, image_hub: HubServer, tmp_path: Path) -> None:
    archive = "allava_laion/image_chunks/images_0.zip"
    fault = image_hub.faults.add(archive, "stall", after=40_000)
    words = ("image_captions", "--to", tmp_path, "--media", "--yes")
    process = start(*words)
    assert fault.struck.wait(30)
    while sum(path.stat().st_size for path in tmp_path.rglob("*.part")) < 40_000:
        assert process.poll() is None
    process.kill()
    _ended(process)
    assert not (tmp_path / "allava_laion/image_chunks/images_0").exists()
    image_hub.forget()
    code, _, err = _ended(start(*words))
    assert code == 0, err
    assert [sent.start for sent in image_hub.transfers if sent.path == archive] == [40_000]
    assert (tmp_path / "allava_laion/image_chunks/images_0/1.jpeg").stat().st_size == 90_000


def test_ctrl_c(start: Start, release_hub: HubServer, tmp_path: Path) -> None:
    fault = release_hub.faults.add(CHUNK, "stall", after=40_000)
    process = start("qa", "--to", tmp_path, "--media", "--yes")
    assert fault.struck.wait(30)
    process.send_signal(signal.SIGINT)
    code, out, err = _ended(process)
    assert (code, out) == (130, "")
    assert err.splitlines()[-1] == "interrupted; run the same command again to go on"
    assert "Traceback" not in err
    assert _ended(start("qa", "--to", tmp_path, "--media", "--yes"))[0] == 0


def _small_files(limit: int) -> Callable[[], None]:
    """A real refusal to write more: what a full disk does, for files above a size."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


@pytest.mark.parametrize("what", ["downloading", "unpacking"])
def test_full_disk(
    start: Start, release_hub: HubServer, contents: Files, tmp_path: Path, what: str
) -> None:
    """The archive itself is too large for it, or only a file in it."""
    frames = (
        {"one/c01_0001.jpeg": bytes(300_000)}
        if what == "unpacking"
        else {"one/c01_0001.jpeg": os.urandom(150_000), "one/c01_0002.jpeg": os.urandom(150_000)}
    )
    release_hub.add_repo(TRAIN_REPO, {**contents[TRAIN_REPO], CHUNK: tar_gz(frames)})
    full = start("qa", "--to", tmp_path, "--media", "--yes", preexec_fn=_small_files(200_000))
    code, out, err = _ended(full)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == (
        f"error: {tmp_path}: the disk is full; free some space and run the same command "
        "again, it goes on where it stopped"
    )
    assert not (tmp_path / "train_300k/chunk_0").exists()
    assert not list((tmp_path / ".sharegptvideo").glob("*.unpacking"))
    code, _, err = _ended(start("qa", "--to", tmp_path, "--media", "--yes"))
    assert code == 0, err
    written = {
        path.name: path.read_bytes() for path in (tmp_path / "train_300k/chunk_0/one").iterdir()
    }
    assert written == {name.rpartition("/")[2]: data for name, data in frames.items()}


# Sizes.


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1000", 1000),
        ("500M", 500_000_000),
        ("64G", 64_000_000_000),
        ("1.5 kB", 1500),
        ("2KiB", 2048),
        ("1TiB", 1 << 40),
        ("10B", 10),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "1X", "-1", "0", "1iB", "1e9", "0.0001", "1 2"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(UserError, match="is not a size"):
        parse_size(text)
