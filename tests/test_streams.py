"""Standard streams as services, old terminals and log files give them: real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sharegptvideo._io import read_json, write_json, write_jsonl
from sharegptvideo.cli import _common, app
from sharegptvideo.reports.estimates import csv_table, markdown_cell, tex_escape

COMMAND = f"{sys.executable} -m sharegptvideo"


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """One question with an answer to it, in tmp_path."""
    talk = [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "It is grey."}]
    row = {"id": "q0", "video": "clip", "caption": "A square.", "conversations": talk}
    write_jsonl(tmp_path / "rel/video_instruction/test/msrvtt.qa.jsonl", [row])
    write_jsonl(tmp_path / "answers.jsonl", [{"id": "q0", "prediction": "It is grey."}])
    return tmp_path


JUDGE = (
    "eval judge --predictions answers.jsonl --task msrvtt_qa --data-dir rel --judge answer-match"
)


def shell(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    settings = os.environ | environment
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env=settings, capture_output=True, check=False
    )


@pytest.mark.parametrize("streams", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "2</dev/null"])
def test_streams_may_be_closed(release: Path, streams: str) -> None:
    done = shell(f"{COMMAND} {JUDGE} --out run {streams}", release)
    assert done.returncode == 0, done.stderr
    assert read_json(release / "run/results.json")["tasks"]["msrvtt_qa"]["n_scored"] == 1
    # Nothing was written into a file that had got the number of a closed stream.
    for name in ("predictions.jsonl", "judgements.jsonl"):
        assert [json.loads(line) for line in (release / "run" / name).read_text().splitlines()]


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "euc-kr"])
def test_signs_that_an_encoding_lacks(release: Path, encoding: str) -> None:
    done = shell(f"{COMMAND} {JUDGE} --out run", release, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert b"100.0" in done.stdout
    assert b"Traceback" not in done.stderr


def test_json_is_whole_in_any_encoding(release: Path) -> None:
    line = f"{COMMAND} {JUDGE} --out 한글 --json"
    done = shell(line, release, PYTHONIOENCODING="ascii")
    assert json.loads(done.stdout)["tasks"]["msrvtt_qa"]["n"] == 1


@pytest.mark.parametrize(
    ("name", "environment"),
    [
        (b"r_\xff", {}),
        ("r_é".encode(), {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    ],
)
def test_paths_need_not_be_utf8(release: Path, name: bytes, environment: dict[str, str]) -> None:
    settings = os.environ | environment
    for words in (
        [*JUDGE.split(), "--out", name],
        [*JUDGE.split(), "--out", name],  # again: the settings there are read back
        ["leaderboard", name, "--out", b"b" + name],
        ["eval", "report", name, "--no-samples", "--out", b"p" + name],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "sharegptvideo", *words],
            cwd=release,
            env=settings,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, (words, done.stderr)
    assert os.path.exists(os.path.join(os.fsencode(release), name, b"results.json"))  # noqa: PTH110, PTH118


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_ends_the_work_as_ctrl_c_does(tmp_path: Path, name: str) -> None:
    code = (
        "import time\n"
        "import sharegptvideo.eval\n"
        "def waits(*_, **__):\n"
        "    print('begun', flush=True)\n"
        "    time.sleep(60)\n"
        "sharegptvideo.eval.judge_predictions = waits\n"
        "from sharegptvideo.cli import main\n"
        "main()\n"
    )
    words = [*JUDGE.split(), "--out", "run"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    number = getattr(signal, name)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert err == "interrupted; run the same command again to go on\n"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_before_the_command_begins(name: str) -> None:
    code = (
        "import signal\n"
        "import typer.main\n"
        "from sharegptvideo.cli import main\n"
        f"typer.main.get_command = lambda _: signal.raise_signal(signal.{name})\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 128 + getattr(signal, name)
    assert done.stderr == "interrupted; run the same command again to go on\n"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_while_options_are_read(name: str) -> None:
    code = (
        "import signal\n"
        "import typer.core\n"
        "from sharegptvideo.cli import main\n"
        f"typer.core.TyperGroup.parse_args = lambda *_: signal.raise_signal(signal.{name})\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 128 + getattr(signal, name)
    assert done.stderr == "interrupted; run the same command again to go on\n"


EVIL = "a\x1b[2J\u202e[red]b\x9b"


def test_nothing_quoted_steers_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    _common.note(EVIL)
    _common.echo(EVIL)
    _common.print_json({"name": EVIL})
    table = _common.text_table(EVIL)
    table.add_row(EVIL)
    _common.print_table(table, EVIL)
    shown = capsys.readouterr()
    for sign in "\x1b\x9b\u202e":
        assert sign not in shown.out + shown.err
    assert shown.out.count("[red]b") == 5  # no markup either, in heading, cell and caption
    assert json.loads(shown.out.splitlines()[1])["name"] == EVIL
    result = CliRunner().invoke(app, ["eval", "tasks", EVIL])
    assert "\x1b" not in result.output


def test_texts_are_escaped_for_where_they_go() -> None:
    formulas = ["=1+1", "+1", "-1", "@x", "\t=1", " =1", "＝1"]
    rows = csv_table([{"name": name, "n": -1} for name in [*formulas, "a=1", "–"]]).splitlines()
    assert [row.strip('"')[0] for row in rows[1:]] == ["'"] * len(formulas) + ["a", "–"]
    assert rows[1].endswith(",-1")  # a number stays one
    assert markdown_cell("<b>|[x](y)`&\x1b\n") == r"&lt;b&gt;\|\[x\](y)\`&amp;\\x1b"
    assert tex_escape("\\input{x}\x1b$") == r"\textbackslash{}input\{x\}\textbackslash{}x1b\$"


def test_halves_of_pairs_are_written_as_json_has_them(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"path": "r_\udcff é"})
    assert read_json(tmp_path / "a.json") == {"path": "r_\udcff é"}
    assert "é" in (tmp_path / "a.json").read_text(encoding="utf-8")
