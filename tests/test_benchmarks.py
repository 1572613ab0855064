"""What the benchmarks rest on: ways in processes of their own, clips and logits that differ."""

from __future__ import annotations

import os
import runpy
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo._io import sha256_file
from tests.support.child_runs import run_child, run_ways
from tests.support.training_shapes import distinct_clips, open_setting, recompute_layers


def _script(folder: Path, text: str) -> str:
    path = folder / "script.py"
    path.write_text(text)
    return str(path)


def test_lines_come_as_they_are_printed_and_the_last_is_the_outcome(tmp_path: Path) -> None:
    text = "import json\nfor n in range(3): print(json.dumps({'n': n}))\nprint('no JSON')"
    seen: list[dict[str, Any]] = []
    outcome = run_child([_script(tmp_path, text)], on_line=seen.append)
    assert seen == [{"n": 0}, {"n": 1}]
    assert (outcome.figures, outcome.failed) == ({"n": 2}, None)


def test_a_failure_keeps_what_was_printed_and_says_why(tmp_path: Path) -> None:
    text = "print('{\"n\": 1}', flush=True)\nraise ValueError('no room')"
    outcome = run_child([_script(tmp_path, text)])
    assert outcome.figures == {"n": 1}
    assert outcome.failed == "ValueError: no room"


def test_a_child_that_is_cut_takes_its_own_children_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SHAREGPTVIDEO_BENCHMARK_GROUP", raising=False)
    text = (
        "import subprocess, time\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        "print('{\"pid\": %d}' % child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    outcome = run_child([_script(tmp_path, text)], limit=5)
    assert outcome.failed == "cut after 5 s"
    status = Path(f"/proc/{outcome.figures['pid']}/stat")
    for _ in range(100):  # until init has collected it
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("its child is still running")


def test_ways_run_one_after_the_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (
        "import os, sys, json\n"
        "if sys.argv[2] == 'bad': sys.exit('not this one')\n"
        "print(json.dumps({'way': sys.argv[2], 'pid': os.getpid()}))\n"
    )
    found = run_ways(_script(tmp_path, text), ["one", "bad", "two"], [])
    assert list(found) == ["one", "two"]
    assert len({found["one"]["pid"], found["two"]["pid"], os.getpid()}) == 3
    assert '"failed": "not this one"' in capsys.readouterr().out


def test_as_many_clips_as_rows(tmp_path: Path) -> None:
    media = tmp_path / "media"
    first = distinct_clips(2, tmp_path / "made", media)
    media.mkdir()
    for name in ("a", "b"):  # one content under two names is one clip
        (media / f"{name}.mp4").write_bytes(Path(first[0]).read_bytes())
    found = distinct_clips(4, tmp_path / "more", media)
    assert found[0] == str(media / "a.mp4")
    assert len({sha256_file(Path(path)) for path in found[1:]}) == 3


@pytest.mark.parametrize("wanted", [False, True])
def test_logits_spread_and_layers_run_again_where_wanted(wanted: bool) -> None:
    """Two passes by a layer's norm for each call of the layer, and one without checkpointing."""
    import torch

    setting = open_setting("tiny", "cpu")
    assert 2.5 < setting.logits["logits_std"] < 3.5
    assert setting.logits["entropy_nats"] < setting.logits["uniform_nats"] - 1
    passes = recompute_layers(setting.model, wanted)
    setting.model.train()
    ids = torch.randint(5, 200, (1, 12))
    setting.model(input_ids=ids, labels=ids).loss.backward()
    assert passes() == 1 + wanted


def test_the_gpu_benchmark_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a GPU it ends at once, naming the rehearsal."""
    script = Path(__file__).parent / "benchmarks" / "bench_gpu.py"
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", [str(script)])
    monkeypatch.syspath_prepend(str(script.parent))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code == 0
    assert "--device cpu --shape tiny" in capsys.readouterr().out
