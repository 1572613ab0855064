"""The whole loop at its tiny scale, as a user runs it: killed, gone on with, done once."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sharegptvideo import load_dataset
from sharegptvideo._io import read_json, read_jsonl, write_jsonl
from sharegptvideo.cli import app
from sharegptvideo.study import run_study
from tests.support.hub_server import HubServer
from tests.support.miniature import miniature
from tests.support.report_pages import read_page
from tests.support.vlm_server import VlmServer
from tests.support.warm_python import WarmPython

STEPS = ["world", "model", "pretrain", "sft", "candidates", "rewards", "pairs", "dpo", "evaluate"]


def words(out: Path, *more: str) -> list[str]:
    return ["demo", "--scale", "tiny", "--out", str(out), *more]


def command(out: Path, *more: str) -> list[str]:
    return ["-m", "sharegptvideo", *words(out, *more)]


def run(out: Path, *more: str) -> Any:
    """Run the demo in this process."""
    return CliRunner().invoke(app, words(out, *more))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, warm_python: WarmPython) -> Path:
    """A tiny demo, killed without warning in a training, then stopped in it by SIGTERM."""
    out = tmp_path_factory.mktemp("demo") / "out"
    first = warm_python.start(*command(out))
    deadline = time.monotonic() + 300
    while not (out / "models" / "pretrain" / "run.json").exists():
        assert first.poll() is None, "the demo ended before its training began"
        assert time.monotonic() < deadline, "no training began in five minutes"
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not (out / "summary.json").exists()
    step = _stopped_in_a_training(out, warm_python)
    third = warm_python.run(*command(out, "--json"))
    assert third.returncode == 0, third.stderr
    assert third.stderr.count("done before") == 2  # world and model
    assert f"resuming from step {step}\n" in third.stderr
    assert json.loads(third.stdout) == read_json(out / "summary.json")
    return out


def _stopped_in_a_training(out: Path, warm_python: WarmPython) -> str:
    """Run the demo and send it SIGTERM at a training's first logged step; returns where it was."""
    log = out / "models" / "pretrain" / "log.jsonl"
    log.unlink(missing_ok=True)
    process = warm_python.start(*command(out))
    while not log.exists() or not log.read_text():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.terminate()
    said = process.communicate()[1]
    assert process.returncode == 143, said
    assert "Traceback" not in said
    last = re.fullmatch(
        r"stopped at step (\d+) of \d+; the same command goes on from there",
        said.splitlines()[-1],
    )
    assert last, said
    return last[1]


@pytest.mark.slow
def test_summary_has_what_it_promises(demo: Path) -> None:
    summary = read_json(demo / "summary.json")
    assert summary["seed"] == 0
    assert summary["scale"] == "tiny"
    assert set(summary["seconds"]) == {*STEPS, "total"}
    assert summary["pairs"] == summary["pairs_report"]["n_pairs"] > 0
    assert 0.9 < summary["judge_agreement"] <= 1
    for name, clips, questions in (("test", 40, 160), ("out_of_domain", 20, 80)):
        found = summary[name]
        assert (found["n_videos"], found["n_questions"]) == (clips, questions)
        assert found["delta"] == pytest.approx(found["dpo"]["accuracy"] - found["sft"]["accuracy"])
        low, high = found["delta_ci95"]
        assert low <= found["delta"] <= high
        assert 0 <= found["p_value"] <= 1
        assert found["sft"]["se"] > 0
        kinds = found["kinds"].values()
        assert sum(kind["n"] for kind in kinds) == questions
        for change in ("lost", "gained"):
            assert sum(kind[change] for kind in kinds) == found[change]["n"]
        gain = (found["gained"]["n"] - found["lost"]["n"]) / questions
        assert gain == pytest.approx(found["delta"])
        assert all(0 < kind["chance"] <= 1 for kind in kinds)
        assert set(found["contradictions"]) == set(found["yes"]) == {"sft", "dpo"}
        assert set(found["judged"]) >= {"sft", "dpo", "delta", "delta_ci95", "p_value"}


@pytest.mark.slow
def test_accuracy_is_that_of_the_exact_states(demo: Path) -> None:
    """Counted again from the files, without the harness."""
    from sharegptvideo.synthetic import is_right, load_questions

    questions = load_questions(demo / "datasets" / "world")
    summary = read_json(demo / "summary.json")
    for model in ("sft", "dpo"):
        rows = [row for _, row in read_jsonl(demo / "runs" / model / "predictions.jsonl")]
        right = [
            is_right(questions[row["id"]], row["prediction"])
            for row in rows
            if row["task"] == "synthetic_qa"
        ]
        assert summary["test"][model]["accuracy"] == pytest.approx(sum(right) / len(right))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sharegptvideo.data.sources.DataWarning")
def test_the_commands_of_the_readme_run_on_what_it_leaves(
    demo: Path,
    hub_server: HubServer,
    vlm_server: VlmServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All of them, in their order, but for `make`; the release is the one in miniature."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_BASE_URL", vlm_server.url)
    Path("demo-out").symlink_to(demo)
    for repo, files in miniature().repos.items():
        hub_server.add_repo(repo, files)
    Path("my_clips").mkdir()
    clip = next((demo / "datasets" / "world").rglob("*.mp4"))
    shutil.copy(clip, "my_clips")
    caption = {"id": "a", "video": clip.stem, "prompt": "Describe it.", "caption": "A red square."}
    write_jsonl(
        Path("mine/video_instruction/train/pretrain/video_caption_pretrain.jsonl"), [caption]
    )
    run_study(["caption_quality"], Path("study-out"), scale="tiny", seeds=1, processes=1)
    text = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    ran = 0
    for block in re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            program, *words = shlex.split(line, comments=True)
            if program == "make":
                continue
            if words[:2] == ["data", "download"]:
                words.append("--yes")  # there is no terminal to ask on
            result = CliRunner().invoke(app, words)
            # A plan is shown all the same where GPUs and the model to start from are missing.
            planned = words[:2] == ["train", "run"] and "--dry-run" in words
            assert result.exit_code == 0 or planned, f"{line}\n{result.output}"
            assert ("hours  " in result.output) is planned, line
            ran += 1
    assert ran >= 20
    assert Path("board/index.html").stat().st_size > 1000
    assert Path("runs/demo/dpo/model.safetensors").is_file()


@pytest.mark.slow
def test_everything_it_leaves_can_be_used(demo: Path) -> None:
    from sharegptvideo.models import open_model

    world, pairs = demo / "datasets" / "world", demo / "datasets" / "preferences"
    assert len(load_dataset("captions", data_dir=world)) == 300
    assert len(load_dataset("preferences", data_dir=pairs, media=world)) > 0
    for name in ("start", "pretrain", "sft", "dpo"):
        assert open_model(f"hf:{demo / 'models' / name}").frames == 8
    for name in ("pretrain", "sft", "dpo"):
        assert (demo / "models" / name / "loss.png").stat().st_size > 1000
    page = (demo / "index.html").read_text(encoding="utf-8")
    accuracy = read_json(demo / "summary.json")["test"]["dpo"]["accuracy"]
    assert f"{100 * accuracy:.1f}" in page
    for pages in ("leaderboard", "report"):
        assert f'href="{pages}/index.html"' in page
    report = (demo / "report" / "index.html").read_text(encoding="utf-8")
    assert '<a href="../index.html">Demo</a>' in report
    assert "Difference by question type" in report
    _, samples, _ = read_page(demo / "report")
    for sample in samples:  # clips are shown from where the demo has them
        assert (demo / "report" / sample["clip"]["plays"]).is_file()
        assert sample["clip"]["plays"].startswith("../datasets/world/")


@pytest.mark.slow
def test_towers_and_projector_stay_as_they_were_in_dpo(demo: Path) -> None:
    from safetensors.torch import load_file

    before, after = (
        load_file(demo / "models" / name / "model.safetensors") for name in ("sft", "dpo")
    )
    moved = {name for name in before if not before[name].equal(after[name])}
    assert moved
    assert not [name for name in moved if "tower" in name or "projector" in name]


@pytest.mark.slow
def test_trainings_that_go_well_are_not_warned_of(demo: Path) -> None:
    for name in ("pretrain", "sft", "dpo"):
        assert read_json(demo / "models" / name / "run.json")["warnings"] == []
        assert list((demo / "models" / name / "tensorboard").glob("events.*"))


@pytest.mark.slow
def test_done_twice_it_does_nothing_the_second_time(demo: Path) -> None:
    pages = {"leaderboard", "report"}
    files = [path for path in demo.rglob("*") if path.is_file() and path.suffix != ".html"]
    before = {path: path.stat().st_mtime_ns for path in files if path.parent != demo}
    summary = read_json(demo / "summary.json")
    again = run(demo)
    assert again.exit_code == 0, again.stderr
    assert again.stderr.count("done before") == len(STEPS)
    changed = [
        path
        for path, when in before.items()
        if path.stat().st_mtime_ns != when and not pages & set(path.parts)
    ]
    assert changed == []
    assert read_json(demo / "summary.json") == summary


@pytest.mark.slow
def test_another_seed_in_the_same_folder_is_refused(demo: Path) -> None:
    other = run(demo, "--seed", "1")
    assert other.exit_code == 2
    assert "other settings: seed 0 there, 1 here" in other.stderr
    assert len(other.stderr.strip().splitlines()) == 1


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("do not lose me")
    result = run(tmp_path)
    assert result.exit_code == 2
    assert "not empty and not a demo" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_unknown_scale_names_the_nearest(tmp_path: Path) -> None:
    result = run(tmp_path / "out", "--scale", "tiney")
    assert result.exit_code == 2
    assert "did you mean tiny" in result.stderr
    assert not (tmp_path / "out").exists()


def test_ctrl_c_says_how_to_go_on(tmp_path: Path, warm_python: WarmPython) -> None:
    out = tmp_path / "out"
    process = warm_python.start(*command(out), new_session=True)
    deadline = time.monotonic() + 120
    while not list(out.glob("datasets/world/videos/*.mp4")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.strip().splitlines()[-1].startswith("interrupted; run the same command again")
    assert "Traceback" not in said
    assert read_json(out / "steps" / "world.partial.json")["seconds"] > 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A file system of 1 MiB; needs the right to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    made = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if not made or made.returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_line_and_the_demo_goes_on_after_it(
    small_disk: Path, warm_python: WarmPython
) -> None:
    out = small_disk / "out"
    full = warm_python.run(*command(out))
    assert full.returncode == 1, full.stderr
    assert "the disk is full" in full.stderr.strip().splitlines()[-1]
    assert "Traceback" not in full.stderr
    there = {path.name for path in out.glob("datasets/world/videos/*.mp4")}
    assert there
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    process = warm_python.start(*command(out))
    deadline = time.monotonic() + 120
    while not (out / "steps" / "world.json").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.kill()
    process.wait()
    now = {path.name for path in out.glob("datasets/world/videos/*.mp4")}
    assert there < now
    assert len(now) == 360


@pytest.mark.slow
def test_its_checkpoint_answers_real_questions_judged_over_http(
    demo: Path,
    shared_data: Path,
    chat_server: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Part of what the checkpoint is for: every real question accounted for, however bad."""
    chat_server.answer = lambda _body: '{"score": 1, "explanation": "not what the caption says"}'
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    result = CliRunner().invoke(
        app,
        [
            "eval",
            "run",
            "--json",
            "--model",
            f"hf:{demo / 'models' / 'dpo'}",
            "--task",
            "webvid_qa,msrvtt_qa,tgif_qa",
            "--judge",
            "openai:judge",
            "--base-url",
            chat_server.url,
            "--out",
            str(tmp_path / "run"),
            "--data-dir",
            str(shared_data / "release"),
            "--media",
            str(shared_data),
        ],
    )
    assert result.exit_code == 0, result.stderr
    tasks = json.loads(result.stdout)["tasks"]
    assert {name: found["n"] for name, found in tasks.items()} == {
        "webvid_qa": 6,
        "msrvtt_qa": 3,
        "tgif_qa": 6,
    }
    for found in tasks.values():
        assert found["n_failed"] == 0
        assert found["n_scored"] == found["n"]
        assert found["accuracy"]["value"] == 0
    assert len(chat_server.requests) >= 15
