"""`sharegptvideo data stats`: what it prints and writes, and what it says of wrong input."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sharegptvideo.cli import app
from sharegptvideo.data.load import read_rows
from sharegptvideo.data.publish.shards import write_split
from sharegptvideo.data.schema import CONFIGS
from sharegptvideo.data.stats import StatsSettings, caption_stats
from sharegptvideo.data.stats.workers import BATCH
from tests.support.made_captions import made_rows

Stats = Callable[..., Any]


@pytest.fixture
def stats() -> Stats:
    runner = CliRunner(env={"COLUMNS": "200"})
    return lambda *words: runner.invoke(app, ["data", "stats", "--workers", "1", *map(str, words)])


def write(root: Path, name: str, *rows: dict[str, Any] | str) -> Path:
    file = root / "video_instruction" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return root


def caption_row(number: int, text: str, **more: str) -> dict[str, Any]:
    return {
        "id": f"c{number}",
        "video": f"v{number}",
        "prompt": "Describe.",
        "caption": text,
        **more,
    }


CAPTIONS = "train/pretrain/video_caption_pretrain.jsonl"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Thirty captions from two sources, with questions about the first five."""
    rows: Any = list(made_rows(30, copies=0.3))
    write(tmp_path / "made", CAPTIONS, *rows)
    asked = [
        {"id": f"q{at}", "video": row["video"], "question": "What is there?",
         "answer": "two red lamps"}
        for at, row in enumerate(rows[:5])
    ]  # fmt: skip
    lost = {"id": "q9", "video": "gone", "question": "Who?", "answer": "A man."}
    return write(tmp_path / "made", "train/qa/a.jsonl", *asked, lost)


def test_the_release_by_its_table(stats: Stats, shared_data: Path) -> None:
    shown = stats(shared_data / "release")
    assert shown.exit_code == 0, shown.stderr
    lines = {line[:32].strip(): line[32:].split() for line in shown.stdout.splitlines()}
    assert lines["captions"] == ["5"]
    assert lines["words in a caption, mean"] == ["86.4"]
    assert lines["speak of counts"] == ["60.0", "%"]
    assert "qa                                    15" in shown.stdout


def test_json_is_one_object_and_the_rest_is_on_stderr(stats: Stats, made: Path) -> None:
    shown = stats(made, "--json")
    figures = json.loads(shown.stdout)
    assert shown.stdout.count("\n") == 1
    assert list(figures["by_source"]) == ["VIDAL", "WebVid"]
    assert figures["whole"]["captions"] == 30
    qa = figures["support"]["qa"]
    assert qa["questions"] == 5
    assert qa["not_measured"]["without_caption"] == 1


def test_written_files_are_the_same_each_time(stats: Stats, made: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        shown = stats(made, "--out", tmp_path / name)
        assert shown.exit_code == 0, shown.stderr
    for name in ("stats.json", "index.html"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    page = (tmp_path / "one" / "index.html").read_text(encoding="utf-8")
    # Five charts, each with its legend.
    assert page.count("<svg") == page.count('<p class="legend">') == 5
    assert "near-duplicate" in page
    figures = json.loads((tmp_path / "one" / "stats.json").read_text(encoding="utf-8"))
    assert figures["groups"][0]["ids"]
    assert all(len(group["texts"]) == 2 for group in figures["groups"])


def test_processes_change_nothing(made: Path) -> None:
    """With two blocks of captions, the second not full."""
    rows: Any = list(made_rows(BATCH + 100, copies=0.3))
    write(made, CAPTIONS, *rows)
    assert caption_stats(StatsSettings(made, workers=2)) == caption_stats(
        StatsSettings(made, workers=1)
    )


def test_parquet_gives_the_figures_of_the_jsonl(made: Path, tmp_path: Path) -> None:
    for name in ("captions", "qa"):
        for split in ("train", "validation"):
            write_split(read_rows(name, made, split), CONFIGS[name], split, tmp_path / "parquet")
    assert caption_stats(StatsSettings(tmp_path / "parquet", workers=1)) == caption_stats(
        StatsSettings(made, workers=1)
    )


def test_a_text_is_data_on_the_page(stats: Stats, tmp_path: Path) -> None:
    text = "<script>alert(1)</script> a cat sits on a mat & looks"
    root = write(tmp_path, CAPTIONS, *(caption_row(n, text, source="<b>x</b>") for n in range(3)))
    write(tmp_path, "train/qa/a.jsonl")
    stats(root, "--out", tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<b>x</b>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; a cat sits on a mat &amp; looks" in page


def test_questions_with_captions_are_studied_where_no_caption_file_is(
    stats: Stats, tmp_path: Path
) -> None:
    rows = [
        {"id": f"m{n}", "video": f"vid{n // 2}", "question": "What is it?", "answer": "a dog",
         "caption": f"A dog, number {n // 2}."}
        for n in range(6)
    ]  # fmt: skip
    figures = json.loads(stats(write(tmp_path, "test/msvd.qa.jsonl", *rows), "--json").stdout)
    assert figures["config"] == "msvd_qa"
    assert figures["whole"]["captions"] == 3  # each caption of a video once
    assert figures["support"]["msvd_qa"]["full"] == 1.0


def test_limit_and_split(stats: Stats, made: Path) -> None:
    figures = json.loads(stats(made, "--limit", 7, "--json").stdout)
    assert figures["whole"]["captions"] == 7
    videos = [json.loads(line)["video"] for line in
              (made / "video_instruction" / CAPTIONS).read_text().splitlines()]  # fmt: skip
    (made / "splits.json").write_text(json.dumps({"validation": videos[:4]}))
    figures = json.loads(stats(made, "--split", "validation", "--json").stdout)
    assert figures["whole"]["captions"] == 4
    assert figures["support"]["qa"]["questions"] == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--config", "caption"],
            "unknown dataset 'caption'; did you mean captions, ",
        ),
        (["--config", "sft"], "config 'sft' has no captions to study (these do: captions, qa"),
        (["--config", "qa"], "config 'qa' has no captions here; choose another with --config"),
        (["--split", "test"], "unknown split of captions 'test'"),
        (["--on-error", "ignore"], "unknown on_error 'ignore'"),
    ],
)
def test_wrong_words_are_one_line(stats: Stats, made: Path, words: list[str], said: str) -> None:
    shown = stats(made, *words)
    assert shown.exit_code == 2
    assert said in shown.stderr
    assert shown.stderr.count("\n") == 1
    assert not shown.stdout


def test_a_folder_without_data(stats: Stats, tmp_path: Path) -> None:
    shown = stats(tmp_path)
    assert shown.exit_code == 2
    assert "must be a folder in the release layout" in shown.stderr
    shown = stats(tmp_path / "none")
    assert shown.exit_code == 2
    assert "no such folder" in shown.stderr


def test_a_broken_row_is_named_or_counted(stats: Stats, tmp_path: Path) -> None:
    file = tmp_path / "video_instruction" / CAPTIONS
    write(
        tmp_path, CAPTIONS, caption_row(1, "A cat."), '{"id": "c2", "vid', caption_row(3, "A dog.")
    )
    shown = stats(tmp_path)
    assert shown.exit_code == 2
    assert f"{file}:2: not JSON" in shown.stderr
    shown = stats(tmp_path, "--on-error", "skip", "--limit", 2, "--json")
    figures = json.loads(shown.stdout)
    assert (figures["whole"]["captions"], figures["skipped_rows"]) == (2, 1)
    assert "1 row that breaks the schema was left out" in shown.stderr


def test_an_out_that_is_a_file_is_reported_before_the_work(
    stats: Stats, made: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    shown = stats(made, "--out", tmp_path / "file")
    assert shown.exit_code == 2
    assert shown.stderr.startswith("error: ")
    assert (
        "file: cannot be made (File exists); free some space or give another --out" in shown.stderr
    )
    assert "captions:" not in shown.stderr


def test_a_file_that_cannot_grow_leaves_the_old_ones(made: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "stats.json").write_text("old")
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "from sharegptvideo.cli import main; main()"
    )
    words = ["data", "stats", str(made), "--out", str(out), "--workers", "1"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 4096  # the child's alone
    assert done.returncode == 1
    assert "nothing half-written was left" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in out.iterdir()] == ["stats.json"]
    assert (out / "stats.json").read_text() == "old"
