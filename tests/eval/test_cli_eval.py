"""`sharegptvideo eval` as it is typed: streams, exit codes, one-line errors, comparison."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sharegptvideo._io import read_jsonl, write_jsonl
from sharegptvideo.cli import app
from sharegptvideo.errors import UserError
from sharegptvideo.eval import compare_runs
from sharegptvideo.eval.tasks import task_names


def call(*words: str | Path) -> Any:
    return CliRunner().invoke(app, ["eval", *map(str, words)])


def judged(release: Any, folder: Path, name: str, answers: dict[str, str], *more: str) -> Path:
    """A run folder of given answers, judged by `exact`."""
    file = folder / f"{name}.jsonl"
    write_jsonl(file, [{"id": key, "prediction": text} for key, text in answers.items()])
    out = folder / name
    result = call(
        *("judge", "--predictions", file, "--task", "msvd_qa", "--out", out),
        *("--judge", "exact", "--data-dir", release.folder, *more),
    )
    assert result.exit_code == 0, result.output
    return out


RIGHT = {"a_0": "red", "a_1": "yes", "b_0": "green", "b_1": "no", "c_0": "blue", "c_1": "no"}
HALF = RIGHT | {"a_1": "no", "b_0": "red", "c_0": "red"}


def test_run_prints_a_table_and_what_went_wrong(
    model: Any, small_release: Any, tmp_path: Path
) -> None:
    (small_release.clips / "c").rename(tmp_path / "gone")
    result = call(
        *("run", "--model", model.spec, "--task", "msvd_qa", "--judge", "exact"),
        *("--data-dir", small_release.folder, "--out", tmp_path / "run"),
    )
    assert result.exit_code == 0, result.output
    head, row = result.stdout.splitlines()[:2]
    assert head.split() == [
        "task", "n", "failed", "coverage", "accuracy", "95", "%", "interval", "score", "videos",
    ]  # fmt: skip
    # a: 2 of 2, b: 1 of 2, c: 0 of 2; se² = 3/2 · (1 + 0 + 1) / 36
    assert row.split() == [
        "msvd_qa", "6", "2", "100.0", "50.0", "±", "28.9", "4.4", "to", "95.6", "3.00", "±", "1.15",
        "3",
    ]  # fmt: skip
    assert "1 clip missing: test/msvd/c" in result.stderr
    assert "2 failed: missing clip" in result.stderr


def test_json_alone_is_on_stdout(model: Any, small_release: Any, tmp_path: Path) -> None:
    result = call(
        *("run", "--model", model.spec, "--task", "msvd_qa", "--judge", "exact", "--json"),
        *("--data-dir", small_release.folder, "--out", tmp_path / "run"),
    )
    figures = json.loads(result.stdout)
    assert figures == json.loads((tmp_path / "run" / "results.json").read_text())
    assert figures["tasks"]["msvd_qa"]["n"] == 6


def test_tasks_may_be_given_one_by_one(tmp_path: Path) -> None:
    answers = tmp_path / "answers.csv"
    answers.write_text("id,prediction\n")
    result = call(
        *("judge", "--predictions", answers, "--task", "synthetic_qa,synthetic_qa", "--check"),
        *("--task", "synthetic_ood_qa", "--json"),
    )
    assert set(json.loads(result.stdout)["tasks"]) == {"synthetic_qa", "synthetic_ood_qa"}


def test_a_run_without_a_single_answer_fails(
    model: Any, small_release: Any, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    result = call(
        *("run", "--model", model.spec, "--task", "msvd_qa", "--judge", "exact"),
        *("--data-dir", small_release.folder, "--media", empty, "--out", tmp_path / "run"),
    )
    assert result.exit_code == 1
    assert "every question failed" in result.stderr
    assert (tmp_path / "run" / "results.json").is_file()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--task": "msvd_qua"}, "did you mean msvd_qa"),
        ({"--judge": "answr-match"}, "did you mean answer-match"),
        ({"--judge": "openai:m"}, "no endpoint: give --base-url"),
        ({"--model": "openai:m"}, "no endpoint: give --base-url"),
        ({"--model": "hg:m"}, "did you mean hf"),
        ({"--data-dir": "nowhere"}, "nowhere"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    model: Any,
    small_release: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, str],
    message: str,
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    options = {
        "--model": model.spec,
        "--task": "msvd_qa",
        "--judge": "exact",
        "--data-dir": str(small_release.folder),
        "--out": str(tmp_path / "run"),
    } | change
    result = call("run", *(word for pair in options.items() for word in pair))
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not (tmp_path / "run").exists()


def test_a_folder_of_another_run_is_refused(small_release: Any, tmp_path: Path) -> None:
    judged(small_release, tmp_path, "one", RIGHT)
    result = call(
        *("judge", "--predictions", tmp_path / "one.jsonl", "--task", "msvd_qa"),
        *("--judge", "answer-match", "--data-dir", small_release.folder, "--out", tmp_path / "one"),
    )
    assert result.exit_code == 2
    assert "msvd_qa.judge.name exact there, answer-match here" in result.stderr


def test_compare_pairs_by_question_and_clusters_by_video(
    small_release: Any, tmp_path: Path
) -> None:
    first = judged(small_release, tmp_path, "first", HALF)
    second = judged(small_release, tmp_path, "second", RIGHT)
    figures = json.loads(call("compare", first, second, "--json").stdout)["tasks"]["msvd_qa"]
    # Differences 0 1 | 1 0 | 1 0: each video's mean is the same, so no spread was seen.
    assert figures["delta"] == pytest.approx(0.5)
    assert figures["se"] is None
    assert figures["p_value"] == 0.25
    assert figures["n_changed"] == 3
    assert (figures["first_accuracy"], figures["second_accuracy"]) == (0.5, 1.0)
    assert (figures["n"], figures["n_clusters"]) == (6, 3)
    third = judged(small_release, tmp_path, "third", RIGHT | {"a_0": "blue", "a_1": "no"})
    figures = compare_runs(second, third)["tasks"]["msvd_qa"]
    # Sums less n_g · mean: -4/3, 2/3, 2/3; se² = 3/2 · (16 + 4 + 4)/9 / 36 = 1/9
    assert figures["delta"] == pytest.approx(-1 / 3)
    assert figures["se"] == pytest.approx(1 / 3)
    assert figures["p_value"] == pytest.approx(0.4226497, abs=1e-6)  # t = 1, 2 degrees of freedom
    shown = call("compare", second, third)
    assert "−33.3" in shown.stdout
    assert "100.0" in shown.stdout
    assert "2 of 6 pairs differ; interval and p are rough" in shown.stderr


def test_compare_leaves_out_what_one_run_lacks_and_says_so(
    small_release: Any, tmp_path: Path
) -> None:
    first = judged(small_release, tmp_path, "first", RIGHT, "--limit", "4")
    second = judged(small_release, tmp_path, "second", RIGHT)
    result = call("compare", first, second)
    assert "left out: 2 questions in one run only" in result.stderr
    assert compare_runs(first, second)["tasks"]["msvd_qa"]["n"] == 4


def test_failed_answers_count_as_wrong_in_a_comparison(small_release: Any, tmp_path: Path) -> None:
    first = judged(small_release, tmp_path, "first", RIGHT)
    second = judged(small_release, tmp_path, "second", {"a_0": "red"})
    figures = compare_runs(first, second)["tasks"]["msvd_qa"]
    assert (figures["n"], figures["second_accuracy"]) == (6, pytest.approx(1 / 6))


def test_what_cannot_be_compared(small_release: Any, tmp_path: Path) -> None:
    first = judged(small_release, tmp_path, "first", RIGHT)
    second = judged(small_release, tmp_path, "second", RIGHT)
    with pytest.raises(UserError, match="no run folder"):
        compare_runs(first, tmp_path)
    run = json.loads((second / "run.json").read_text())

    def rewrite(change: Callable[[dict[str, Any]], None]) -> None:
        other = json.loads(json.dumps(run))
        change(other)
        (second / "run.json").write_text(json.dumps(other))

    rewrite(lambda r: r["tasks"]["msvd_qa"].update(version=2))
    with pytest.raises(UserError, match=r"task version 1 in .*first, 2 in .*second"):
        compare_runs(first, second)
    rewrite(lambda r: r["tasks"]["msvd_qa"]["judge"].update(version=9))
    with pytest.raises(UserError, match=r"judged differently, version \d in .*first, version 9 in"):
        compare_runs(first, second)
    rewrite(lambda r: r.update(tasks={"tgif_qa": r["tasks"]["msvd_qa"]}))
    with pytest.raises(UserError, match="no task in common"):
        compare_runs(first, second)
    (second / "results.json").unlink()
    with pytest.raises(UserError, match=r"no results\.json yet"):
        compare_runs(first, second)


def test_tasks_are_listed_and_shown() -> None:
    listed = call("tasks")
    assert listed.exit_code == 0
    assert {"msvd_qa", "webvid_qa", "synthetic_ood_qa"} <= set(listed.stdout.split())
    shown = json.loads(call("tasks", "msvd_qa", "--json").stdout)
    assert shown["protocol"] == "caption-grounded"
    assert "Xu et al. 2017" in call("tasks", "msvd_qa").stdout
    assert len(json.loads(call("tasks", "--json").stdout)) == len(task_names())
    wrong = call("tasks", "msvd")
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert "did you mean msvd_qa" in wrong.stderr


def test_ctrl_c_leaves_a_run_that_goes_on(model: Any, small_release: Any, tmp_path: Path) -> None:
    # A real process with a real signal, while the fourth question is being answered.
    out = tmp_path / "run"
    module = model.spec.split(":")[1]
    slow = model.folder / f"{module}.py"
    text = slow.read_text()
    waits = (
        "    while calls == 4 and not (HERE / 'interrupted').exists():\n"
        "        threading.Event().wait(0.01)\n"
    )
    text = text.replace("    if calls ==", f"{waits}    if calls ==")
    slow.write_text(f"import threading\n{text}")
    command = [sys.executable, "-m", "sharegptvideo", "eval", "run", "--model", model.spec]
    command += ["--task", "msvd_qa", "--judge", "exact", "--out", str(out)]
    command += ["--data-dir", str(small_release.folder), "--batch-size", "1"]
    environment = os.environ | {"PYTHONPATH": str(model.folder)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(model.calls) < 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    (model.folder / "interrupted").touch()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "run the same command again to go on" in said
    assert "Traceback" not in said
    kept = [row for _, row in read_jsonl(out / "predictions.jsonl")]
    assert 3 <= len(kept) < 6
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert len([row for _, row in read_jsonl(out / "predictions.jsonl")]) == 6
    assert len(model.calls) <= 6 + 1


def test_authors_and_link_stand_in_every_file(small_release: Any, tmp_path: Path) -> None:
    authors, link = "A & <B> | C_d", "https://example.org/m?a=1&b=(2)"
    named = ("--model-name", "Hound [x]", "--authors", authors, "--link", link)
    made = judged(small_release, tmp_path, "named", RIGHT, *named)
    results = json.loads((made / "results.json").read_text())
    assert (results["model_name"], results["authors"], results["link"]) == (named[1], authors, link)
    shown = CliRunner().invoke(app, ["leaderboard", str(made), "--out", str(tmp_path / "board")])
    assert shown.exit_code == 0, shown.output
    shown = call("report", made, "--out", tmp_path / "out", "--no-samples")
    assert "Hound [x], judged by exact" in shown.stdout
    page = (tmp_path / "board" / "index.html").read_text()
    href = "https://example.org/m?a=1&amp;b=%282%29"
    assert f'<a href="{href}" rel="noopener noreferrer">Hound [x]</a>' in page
    assert "by A &amp; &lt;B&gt; | C_d · run named" in page
    for csv in ("board/leaderboard.csv", "out/report.csv"):
        assert f"{authors},{link}" in (tmp_path / csv).read_text()
    for markdown in ("board/leaderboard.md", "out/report.md"):
        text = (tmp_path / markdown).read_text()
        assert r"[Hound \[x\]](https://example.org/m?a=1&b=%282%29)" in text
        assert r"A &amp; &lt;B&gt; \| C_d" in text
    for tex in ("board/leaderboard.tex", "out/report.tex"):
        text = (tmp_path / tex).read_text()
        assert r"\href{https://example.org/m?a=1\&b=\%282\%29}{Hound [x]}" in text
        assert r"A \& \textless{}B\textgreater{} | C\_d" in text
        assert "{booktabs,hyperref}" in text
    run = json.loads((tmp_path / "out" / "report.json").read_text())["model"]
    assert (run["authors"], run["link"]) == (authors, link)
    # `eval run` takes the same of a file of answers, and of no other model.
    again = call(
        *("run", "--model", f"predictions:{tmp_path / 'named.jsonl'}", "--task", "msvd_qa"),
        *("--judge", "exact", "--data-dir", small_release.folder, "--out", made, *named),
    )
    assert again.exit_code == 0, again.output
    assert "Hound [x] (predictions:" in again.stdout.replace("\n", " ")
    other = call(
        *("run", "--model", "python:os:getcwd", "--task", "msvd_qa", "--judge", "exact"),
        *("--data-dir", small_release.folder, "--out", tmp_path / "o", "--authors", "x"),
    )
    assert other.exit_code == 2
    assert "are for predictions:FILE" in other.stderr


@pytest.mark.parametrize("link", ["javascript:alert(1)", "example.org", "https://a b"])
def test_a_link_that_is_no_web_address_is_refused(
    link: str, small_release: Any, tmp_path: Path
) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"id": "a_0", "prediction": "red"}])
    shown = call(
        *("judge", "--predictions", tmp_path / "a.jsonl", "--task", "msvd_qa", "--judge", "exact"),
        *("--data-dir", small_release.folder, "--out", tmp_path / "run", "--link", link),
    )
    assert shown.exit_code == 2
    assert shown.stderr.splitlines() == [
        f"error: link {link!r}: must be an address that begins with https:// or http://"
    ]
    assert not (tmp_path / "run").exists()


def test_a_part_of_a_task_is_marked_in_a_comparison(small_release: Any, tmp_path: Path) -> None:
    whole = judged(small_release, tmp_path, "whole", HALF)
    part = judged(small_release, tmp_path, "part", RIGHT, "--limit", "4")
    shown = call("compare", whole, part)
    assert "msvd_qa*" in shown.stdout
    assert f"{part}: a part of the task: the first 4 questions (--limit)" in shown.stderr
    figures = compare_runs(whole, whole)["tasks"]["msvd_qa"]
    assert figures["part"] is None
    assert "msvd_qa*" not in call("compare", whole, whole).stdout


def test_other_settings_are_shown_wherever_the_run_is(
    model: Any, small_release: Any, tmp_path: Path
) -> None:
    def command(*words: str) -> str:
        result = CliRunner().invoke(app, ["eval", *words])
        assert result.exit_code == 0, result.output
        return " ".join(result.output.split())

    data, own, other = str(small_release.folder), str(tmp_path / "own"), str(tmp_path / "other")
    common = "--task", "msvd_qa", "--judge", "exact", "--data-dir", data, "--out"
    assert "other settings" not in command("run", "--model", model.spec, *common, own)
    changed = "msvd_qa: other settings than the task's: frames 4 (the task's: 8); not to be ranked"
    assert changed in command("run", "--model", model.spec, *common, other, "--frames", "4")
    assert model.calls[6].startswith("4 ")
    line = f"msvd_qa: {other}: other settings than the task's: frames 4 (the task's: 8); a diff"
    assert line in command("compare", own, other)
    assert "other settings" not in command("compare", own, own)
    # Judged anew, the answers are still those of a run under other settings.
    file, again = f"{other}/predictions.jsonl", str(tmp_path / "again")
    assert changed in command("judge", "--predictions", file, *common, again)
    hub = "--dataset-id", "me/benchmark"
    for run in (other, again):
        assert changed in command("report", run, "--out", f"{run}-report", *hub)
        assert changed in (Path(f"{run}-report") / "report.md").read_text()
        assert "other settings" in (Path(f"{run}-report") / "report.csv").read_text()
        assert "other settings" in (Path(f"{run}-report") / "index.html").read_text()
        assert not (Path(f"{run}-report") / ".eval_results").exists()
