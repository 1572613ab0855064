"""Processes of a study: what is killed or interrupted goes on, and mistakes are one line."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sharegptvideo._io import read_json, write_json
from sharegptvideo._runs import folder_lock
from sharegptvideo.cli import app
from sharegptvideo.errors import UserError
from sharegptvideo.study import SCALES, Node, load_experiment, run_study
from sharegptvideo.study.catalogue import KINDS
from sharegptvideo.study.crew import Crew, make
from sharegptvideo.study.loop import STAGES, make_node
from sharegptvideo.study.node import read_done
from sharegptvideo.synthetic import Sizes

ROOT = Path(__file__).parents[2]
EXPERIMENT = """
name: by_chance
number: 1
title: What does chance give?
question: What does DPO gain by chance?
kind: arms
figure: gain
seeds: 1
levels:
  chance: {reward: {by: random}, pairs: {count: 16}}
contrast: {of: chance, expect: no_effect, refuted_by: a gain}
"""


def wait_for(happens: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + 300
    while not happens():
        assert time.monotonic() < deadline, f"no {what}"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("experiment") / "by_chance.yaml"
    file.write_text(EXPERIMENT, encoding="utf-8")
    return str(file)


@pytest.fixture(scope="module")
def whole(experiment: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing has disturbed."""
    out = tmp_path_factory.mktemp("whole")
    run_study([experiment], out, scale="tiny", processes=1)
    return out


def findings(out: Path) -> dict[str, Any]:
    """All that was found, by piece of work; without what a clock says.

    The last loss is a mean since the log before it, and an interrupted training logs once more.
    """
    found = {}
    for file in sorted(out.glob("stages/*/done.json")):
        found[file.parent.name] = {
            name: value
            for name, value in read_json(file)["findings"].items()
            if "seconds" not in name and name != "loss_last"
        }
    return found


def start(experiment: str, out: Path) -> subprocess.Popen[str]:
    words = ["study", "run", experiment, "--scale", "tiny", "--out", str(out)]
    return subprocess.Popen(
        [sys.executable, "-m", "sharegptvideo", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] not in "ZX"
    except OSError:
        return False


def has_stepped(out: Path, stage: str) -> bool:
    """Whether a training has logged its first step."""
    return any(log.stat().st_size for log in out.glob(f"stages/{stage}-*/model/log.jsonl"))


def test_interrupted_then_killed_it_finds_what_an_unbroken_run_does(
    experiment: str, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with start(experiment, out) as process:  # Ctrl-C in a training
        wait_for(lambda: has_stepped(out, "sft"), "step of a training")
        workers = children(process.pid)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert said.strip().splitlines()[-1].startswith("interrupted; run the same command again")
    assert "Traceback" not in said
    wait_for(lambda: not any(runs(pid) for pid in workers), "end of the workers")
    assert not [*out.glob("stages/dpo-*")]
    (sft,) = out.glob("stages/sft-*")
    if read_done(sft) is None:  # else Ctrl-C came as its last step was done
        assert [*sft.glob("model/checkpoints/checkpoint-*")]

    with start(experiment, out) as process:  # killed in the next training
        wait_for(lambda: [*out.glob("stages/dpo-*")], "second training")
        workers = children(process.pid)
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    wait_for(lambda: not any(runs(pid) for pid in workers), "end of the workers")

    run_study([experiment], out, scale="tiny", processes=1)
    assert findings(out) == findings(whole)
    for stage in ("sft", "dpo"):
        (ours,) = out.glob(f"stages/{stage}-*/model/model.safetensors")
        assert ours.read_bytes() == (whole / ours.relative_to(out)).read_bytes()


def test_a_killed_worker_is_one_line(tmp_path: Path) -> None:
    sizes = asdict(Sizes(train=400, preference=1, test=1, out_of_domain=1, images=1))
    node = make_node("world", {"seed": 0, "sizes": sizes})
    before = set(multiprocessing.active_children())
    with Crew(tmp_path, 1) as crew:
        crew.begin(node)
        wait_for(lambda: [*tmp_path.glob("world-*/videos/*.mp4")], "clip")
        (worker,) = set(multiprocessing.active_children()) - before
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(UserError, match=r"its process died \(signal 9\), .*--processes 1") as e:
            wait_one(crew)
        assert (e.value.exit_code, "\n" in str(e.value)) == (1, False)
        assert crew.free == 1
        crew.begin(make_node("world", {"seed": 0, "sizes": sizes | {"train": 1}}))  # in a new one
        (done,) = [outcome for _, outcome in wait_one(crew)]
    assert isinstance(done, dict)
    assert done["findings"]
    assert not set(multiprocessing.active_children()) - before


def wait_one(crew: Crew) -> list[tuple[Node, Any]]:
    while not (ended := list(crew.wait(1.0))):
        pass
    return ended


def test_what_a_piece_reports_comes_from_its_process(tmp_path: Path) -> None:
    sizes = asdict(Sizes(train=60, preference=1, test=1, out_of_domain=1, images=1))
    node = make_node("world", {"seed": 0, "sizes": sizes})
    reported: list[tuple[str, int, int]] = []
    with Crew(
        tmp_path, 1, lambda node, done, total, _what: reported.append((node.key, done, total))
    ) as crew:
        crew.begin(node)
        wait_one(crew)
    assert reported
    assert all(key == node.key and done <= total for key, done, total in reported)


def test_seconds_of_an_interrupted_call_are_added(tmp_path: Path) -> None:
    node = make_node("world", {"seed": 0, "sizes": asdict(Sizes(1, 1, 1, 1, 1))})
    (tmp_path / node.key).mkdir()
    write_json(tmp_path / node.key / "partial.json", {"seconds": 1000.0})
    done = make(node, tmp_path, STAGES["world"])
    assert 1000 < done["seconds"] < 1100
    assert not (tmp_path / node.key / "partial.json").exists()


def study(*words: object) -> Any:
    return CliRunner().invoke(app, ["study", "run", *map(str, words)])


def one_line(result: Any) -> str:
    """The error's line, below the outlook's."""
    assert "Traceback" not in result.stderr
    *_, last = result.stderr.strip().splitlines()
    assert last.startswith("error: ")
    return str(last)


def test_two_processes_on_one_folder(experiment: str, tmp_path: Path) -> None:
    with folder_lock(tmp_path / ".lock", "busy"):
        result = study(experiment, "--out", tmp_path, "--scale", "tiny")
    assert result.exit_code == 1
    assert one_line(result).endswith(
        "another process is running this study; wait for it, or give another --out"
    )


@pytest.mark.parametrize("content", ["{", "[]", "{}", ""])
@pytest.mark.parametrize("dry", [True, False])
def test_a_broken_record_of_a_piece(
    content: str, dry: bool, experiment: str, tmp_path: Path
) -> None:
    plan = KINDS["arms"].plan(load_experiment(experiment), SCALES["tiny"], [0])
    world = plan["chance", 0]["dpo"].parents["world"]
    folder = tmp_path / "stages" / world.key
    folder.mkdir(parents=True)
    (folder / "done.json").write_text(content)
    words = ["--dry-run"] if dry else []
    result = study(experiment, "--out", tmp_path, "--scale", "tiny", *words)
    assert result.exit_code == 1
    said = one_line(result)
    assert "done.json" in said
    assert said.endswith(f"remove {folder} and run the same command again")


def test_out_is_a_file(experiment: str, tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.touch()
    result = study(experiment, "--out", file)
    assert result.exit_code == 2
    assert one_line(result) == f"error: {file}: {file} is a file; give another --out"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["video_use"], "did you mean video_used"),
        (["video_used", "all"], "give names of experiments, or all, not both"),
        (["video_used", "--scale", "smal"], "did you mean small"),
        (["absent.yaml"], "absent.yaml"),
    ],
)
def test_mistakes_are_one_line_and_make_nothing(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = study(*words)
    assert result.exit_code == 2
    assert says in one_line(result)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("option", ["--seeds", "--processes"])
def test_none_at_all_is_refused(option: str) -> None:
    result = study("video_used", option, 0)
    assert result.exit_code == 2
    assert "greater than or equal to 1" in " ".join(result.stderr.split())


def test_a_dry_run_counts_and_makes_nothing(experiment: str, whole: Path, tmp_path: Path) -> None:
    ahead = study(experiment, "--out", tmp_path / "new", "--scale", "tiny", "--dry-run")
    pieces = len(findings(whole))
    assert ahead.stdout.startswith(f"0 of {pieces} pieces of work done; about ")
    assert not (tmp_path / "new").exists()
    done = study(experiment, "--out", whole, "--scale", "tiny", "--dry-run")
    assert done.stdout == f"{pieces} of {pieces} pieces of work done\n"
