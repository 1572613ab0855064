"""`study report`: the shipped experiments, with and without results."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from sharegptvideo import cli
from sharegptvideo.study import list_experiments
from tests.support.study_results import judge_quality, write_results


def report(*words: str) -> Result:
    return CliRunner().invoke(cli.app, ["study", "report", *words])


def test_all_shipped_experiments_are_in_the_report(tmp_path: Path) -> None:
    study = write_results(tmp_path / "study", judge_quality())
    done = report("--out", str(study), "--json")
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    assert figures["page"] == str(study / "report" / "index.html")
    states = {row["experiment"]: row["state"] for row in figures["contrasts"]}
    assert states == {one.name: "not run" for one in list_experiments()} | {
        "judge_quality": "5 seeds"
    }
    done = report("--out", str(study), "--to", str(tmp_path / "page"))
    assert done.stdout == f"{tmp_path / 'page' / 'index.html'}\n"
    assert "judge_quality: 5 seeds; supported\n" in done.stderr
    assert "video_used: not run; no verdict\n" in done.stderr
    text = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    for one in list_experiments():
        assert f'<section id="{one.name}">' in text


def test_a_folder_without_results_is_one_line(tmp_path: Path) -> None:
    done = report("--out", str(tmp_path))
    assert done.exit_code == 2
    assert done.stderr == (
        f"error: {tmp_path}: no results; first run sharegptvideo study run NAME --out {tmp_path}\n"
    )
