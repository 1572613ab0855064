"""`sharegptvideo data validate` as it is typed: exit codes, report, one-line errors."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from sharegptvideo.cli import app
from sharegptvideo.cli.data.validate import validate
from sharegptvideo.data.validate.texts import MAX_CHARS
from tests.support.faulty_rows import pair, qa
from tests.support.fresh_python import run_python

Run = Callable[..., Result]
Release = Callable[[dict[str, list[Any]]], Path]


@pytest.fixture
def run() -> Run:
    """`run(DIR, "--json")` gives exit code and output."""
    runner = CliRunner(env={"COLUMNS": "200"})
    return lambda *words: runner.invoke(app, ["data", "validate", *map(str, words)])


@pytest.fixture
def faulty(release: Release) -> Path:
    """Four broken rows, and a name that a page must not take as its own."""
    rows: list[Any] = [pair(n, rejected=f"It is {n}.") for n in range(4)]
    rows.append(pair(9, chosen="<script>x</script> ...", rejected="<SCRIPT>x</script> ..."))
    return release({"train/dpo/a.jsonl": rows, "train/qa/a.jsonl": [qa(1), qa(1)]})


def test_good_folder_exits_with_0(run: Run, release: Release) -> None:
    done = run(release({"train/qa/a.jsonl": [qa(1), qa(2)]}))
    assert done.exit_code == 0
    assert done.stdout == "0 errors, 0 warnings; 2 good rows of 1 dataset, 2 videos\n"
    assert "not run: missing-media (no media folder was given)" in done.stderr


def test_errors_exit_with_1_and_are_reported_with_their_lines(run: Run, faulty: Path) -> None:
    done = run(faulty)
    assert done.exit_code == 1
    file = faulty / "video_instruction" / "train" / "dpo" / "a.jsonl"
    assert f"error  equal-sides  {file}:3: both are 'It is 2.'" in done.stdout
    assert f"{file}:4" not in done.stdout  # three of a kind
    assert "2 more are listed with --out FOLDER or --json" in done.stderr
    assert "5 errors, 1 warning; 7 good rows of 2 datasets, 5 videos" in done.stdout


def test_warnings_alone_exit_with_0(run: Run, faulty: Path) -> None:
    done = run(faulty, "--ignore", "equal-sides")
    assert done.exit_code == 0
    assert "0 errors, 1 warning" in done.stdout


def test_json_is_one_object_and_the_report_is_the_same(
    run: Run, faulty: Path, tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "report"
    done = run(faulty, "--json", "--out", out)
    assert done.exit_code == 1
    figures = json.loads(done.stdout)
    assert figures == json.loads((out / "report.json").read_text())
    assert (figures["errors"], figures["warnings"], figures["ok"]) == (5, 1, False)
    assert sorted(path.name for path in out.iterdir()) == ["index.html", "report.json"]
    page = (out / "index.html").read_text()
    assert "5 errors, 1 warning" in page
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "a.jsonl:5" in page


def test_usage_errors_are_one_line_and_exit_with_2(run: Run, faulty: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for words, line in (
        ([tmp_path / "nowhere"], "no such folder; give one in the release layout or of Parquet"),
        ([empty], "neither video_instruction/ as in the release nor CONFIG/SPLIT-*.parquet"),
        ([faulty, "--config", "qaa"], "unknown dataset 'qaa'; did you mean qa?"),
        ([faulty, "--ignore", "equal"], "unknown check 'equal'; did you mean equal-sides"),
        ([faulty, "--media", tmp_path / "nowhere"], "no such folder"),
        ([faulty, "--against", tmp_path / "nowhere"], "no such folder"),
    ):
        done = run(*words)
        assert done.exit_code == 2
        last = done.stderr.splitlines()[-1]
        assert last.startswith("error: ")
        assert line in last


def test_one_dataset_alone(run: Run, faulty: Path) -> None:
    done = run(faulty, "--config", "qa", "--json")
    assert list(json.loads(done.stdout)["rows"]) == ["qa"]


def test_report_into_what_is_no_folder_or_a_full_disk(faulty: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for limit, out, exit_code in ((1 << 30, "file", 2), (1000, "report", 1)):
        code = (
            "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "from sharegptvideo.cli import main\n"
            f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
            f"sys.argv = ['sharegptvideo', 'data', 'validate', {str(faulty)!r}, '--out', {out!r}]\n"
            "sys.stderr = sys.stdout\n"
            "try:\n    main()\nexcept SystemExit as error:\n    print('exit', error.code)\n"
        )
        lines = run_python(code, tmp_path).splitlines()
        assert lines[-1] == f"exit {exit_code}"
        assert lines[-2].startswith(
            f"error: {out}: cannot be {'made' if exit_code == 2 else 'written'} ("
        )
        assert not any("Traceback" in line for line in lines)
    assert not (tmp_path / "report").exists()


def test_default_of_the_help_is_that_of_the_check() -> None:
    assert inspect.signature(validate).parameters["max_chars"].default == MAX_CHARS


def test_shared_release_holds_the_leaks_made_for_it(run: Run, shared_data: Path) -> None:
    done = run(shared_data / "release", "--json")
    figures = json.loads(done.stdout)
    assert done.exit_code == 1
    found = {name: check["errors"] for name, check in figures["checks"].items() if check["errors"]}
    # Its five clips serve for training and test both.
    assert found == {"leak-name": 5}
    assert figures["warnings"] == figures["checks"]["repeated-row"]["warnings"] == 2
