"""What the benchmarks rest on: ways in processes of their own, clips and logits that differ."""

from __future__ import annotations

import importlib
import json
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo._io import sha256_file
from tests.support.child_runs import run_child, run_ways
from tests.support.training_shapes import distinct_clips, open_setting, recompute_layers
from tests.support.warm_python import WarmPython

BENCHMARKS = Path(__file__).parent / "benchmarks"


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


@pytest.mark.parametrize("wanted", [False, True, 1])
def test_logits_spread_and_layers_run_again_where_wanted(wanted: bool | int) -> None:
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
    last = setting.model.model.language_model.layers[-1]
    assert last.gradient_checkpointing is (wanted is True)


def test_the_gpu_benchmark_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a GPU it ends at once, naming the rehearsal."""
    script = BENCHMARKS / "bench_gpu.py"
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", [str(script)])
    monkeypatch.syspath_prepend(str(script.parent))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code == 0
    assert "--device cpu --shape tiny" in capsys.readouterr().out


PARTS = {  # of the rehearsal: entries that are measured
    "dpo": {"ours", "trl", "trl_precomputed", "log-probabilities"},
    "sft": {"ours", "trl"},
    "candidates": {"ours", "theirs", "greedy answers"},
    "evaluation": {
        "checkpoint", "whole run, first", "whole run, second", "identity", "loading",
        "generating, ours", "generating, theirs", "greedy answers",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def rehearsal(warm_python: WarmPython) -> list[dict[str, Any]]:
    """The lines of the GPU benchmark's parts on a tiny model."""
    few = ["--rounds", "1", "--many", "2", "--clips", "2", "--each", "5", "--tokens", "3"]
    code = (
        f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r}); import gpu_parts; gpu_parts.main()"
    )
    found = []
    running = [
        (part, warm_python.start("-c", code, part, "--device", "cpu", "--shape", "tiny", *few))
        for part in PARTS
    ]
    for part, command in running:
        out, err = command.communicate()
        assert command.wait() == 0, err
        lines = [line for line in out.splitlines() if line.startswith("{")]
        found += [{"part": part, **json.loads(line)} for line in lines]
    return found


def test_the_gpu_benchmark_can_be_rehearsed(rehearsal: list[dict[str, Any]]) -> None:
    assert [line for line in rehearsal if "failed" in line] == []
    for part, entries in PARTS.items():
        lines = [line for line in rehearsal if line["part"] == part]
        assert {line["entry"] for line in lines} - {"lmms-eval"} == entries
    steps = [line for line in rehearsal if "tokens_a_step" in line]
    assert len(steps) == 10 + 6
    for line in steps:
        assert min(line["seconds_a_step"], line["teraflops_a_step"], line["launches"]) > 0
        assert line["first_layer_passes_a_step"] == 1 + line["checkpointing"]
        assert (len(line.get("top_ten", [])) == 10) is (line["entry"] == "ours")
    sharing = {(line["part"], line["entry"]): line["tokens_a_step"] for line in reversed(steps)}
    assert sharing["dpo", "ours"] < sharing["dpo", "trl"] == sharing["dpo", "trl_precomputed"]


def test_the_gpu_benchmark_judges_answers_by_float32(rehearsal: list[dict[str, Any]]) -> None:
    """In float32 on a CPU both ways give the same answers, each token the model's own choice."""
    judged = [line for line in rehearsal if line["entry"] == "greedy answers"]
    assert [line["answers"] for line in judged] == [3, 6]
    for line in judged:
        assert line["equal"] == line["answers"] < 2 * line["different"]
        assert line["by_float32"]["ours"]["gap_nats"] == 0
        assert line["by_float32"]["ours"]["log_probability"] < -1
    (errors,) = [line for line in rehearsal if line["entry"] == "log-probabilities"]
    assert errors["spread_nats"] > 1
    assert any(errors[key] for key in errors if key.endswith("_within_twice"))


def test_other_tokens_than_the_likeliest_cost(
    rehearsal: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = importlib.import_module("gpu_parts")
    options = type("Options", (), {"shape": "tiny", "device": "cpu", "layers": None})
    local = module.ids_as_text(module.bench_candidates.open_model(tmp_path / "model", options))
    clip = np.zeros((8, 20, 20, 3), dtype=np.uint8)
    (found,) = [line for line in rehearsal if line["part"] == "evaluation"][-1:]
    assert found["by_float32"]["ours"]["tokens_not_its_choice"] == 0
    wrong = module.judged(local.model, local, [("what", clip)], ["11 12 13"])
    assert wrong["tokens_not_its_choice"] == 3
    assert wrong["gap_nats"] > 1


def test_tables_of_the_gpu_benchmark(
    rehearsal: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = [json.dumps(line) for line in rehearsal]
    cut = json.dumps({"part": "features", "failed": "cut after 60 s"})
    path = tmp_path / "lines.jsonl"
    path.write_text("\n".join([*lines, cut, '{"part": "half']))
    module = _bench_gpu(monkeypatch)
    monkeypatch.setattr(sys, "argv", ["bench_gpu.py", "--table", str(path)])
    assert module.main() == 0
    table = capsys.readouterr().out
    assert "- not measured: features: cut after 60 s" in table
    ours = module.pick(rehearsal, "dpo", "ours", pairs=4, checkpointing=True)
    trl = module.pick(rehearsal, "dpo", "trl", pairs=4, checkpointing=True)
    (row,) = [line for line in table.splitlines() if "DPO, 4 pairs, recomputed" in line]
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[5] == f"{trl['seconds_a_step'] / ours['seconds_a_step']:.2f}"
    assert cells[9] == f"{ours['launches']:,} / {trl['launches']:,}"


def test_rates_of_the_gpu_benchmark_are_rows_of_the_table(
    rehearsal: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of the rehearsal there are none; as if it had been on a GPU, they can be pasted."""
    from sharegptvideo.training.estimate import MEASURED_RATES, Rate
    from tests.support.gpu_figures import rate_row

    module = _bench_gpu(monkeypatch)
    assert "No rows for `MEASURED_RATES`" in module.table(rehearsal)
    for line in rehearsal:
        module.say(line | ({"gpu": "H200", "mfu": 0.2712} if "mfu" in line else {}))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    rows = [line["rate"] for line in lines if "rate" in line]
    assert len(rows) == sum(line["entry"] == "ours" and "mfu" in line for line in rehearsal) == 7
    assert "\n".join(["```python", *rows, "```"]) in module.table(lines)
    rates = [eval(row, {"Rate": Rate})[0] for row in rows]
    assert {(rate.work, rate.recomputes) for rate in rates} == {
        (work, again) for work in ("dpo", "sft") for again in (True, False)
    }
    (first,) = [line for line in lines if line["part"] == "dpo" and "rate" in line][:1]
    millions = first["parameters_millions"]
    assert rates[0].parameters == pytest.approx(millions * 1e6, rel=0.05)
    assert (rates[0].low, rates[0].high, rates[0].all_operations) == (0.27, 0.27, False)
    assert rates[0].source == "bench_gpu.py, float32, random weights, 1 pair"
    # The form of those that are there.
    written = Path("sharegptvideo/training/estimate.py")
    text = (BENCHMARKS.parents[1] / written).read_text()
    for rate in MEASURED_RATES:
        assert rate_row(rate).partition(rate.source)[0].removesuffix('"') in text


def _bench_gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("bench_gpu")


def test_a_part_that_is_cut_keeps_its_lines_and_the_next_ones_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "import time\nfor n in range(2): print('{\"n\": %d}' % n, flush=True)\ntime.sleep(600)"
    module = _bench_gpu(monkeypatch)
    part = module.Part("one", (_script(tmp_path, text),))
    module.run(part, 5.0)
    module.run(part, 4.9)
    module.run(module.Part("two", (), lacks="it needs a GPU"), 5.0)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["part"], line.get("n"), line.get("failed")) for line in lines] == [
        ("one", 0, None),
        ("one", 1, None),
        ("one", None, "cut after 5 s"),
        ("one", None, "left out: 5 s are left of the budget"),
        ("two", None, "it needs a GPU"),
    ]


def test_operations_are_those_that_torch_counts() -> None:
    """Without what is computed again; torch does not count attention on a CPU."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from tests.support.gpu_figures import operations, profiled

    setting = open_setting("tiny", "cpu", architecture="llava_hound")
    model, clips, length, scored = setting.model, 2, 40, 7
    tokens = setting.reader.video_tokens + length
    ids = torch.full((clips, tokens), 9)
    ids[:, : setting.reader.video_tokens] = setting.reader.video_id
    model.train()

    def step() -> None:
        pixels = torch.zeros(clips, 8, 3, 16, 16)
        output = model.model(input_ids=ids, pixel_values_videos=pixels, use_cache=False)
        hidden = output.last_hidden_state.flatten(0, 1)[:scored]
        model.lm_head(hidden).sum().backward()

    with FlopCounterMode(display=False) as counted:
        step()
    needed = operations(model, [(tokens, 0)] * clips, scored, clips)
    # Nothing is computed for the embeddings, which the first layer's inputs lead to.
    assert needed["linear"] == pytest.approx(counted.get_total_flops(), rel=0.02)
    assert needed["attention"] > 0
    assert profiled(step, torch.device("cpu"))["launches"] > 100
    three = profiled(lambda: [torch.ones(2).add(1) for _ in range(3)], torch.device("cpu"))
    assert three["launches"] == 6


@pytest.mark.parametrize(
    ("options", "says"),
    [("-S", "lacks accelerate"), ("-B", "torch sees no CUDA device; --device cpu --shape tiny")],
)
def test_the_gpu_script_says_in_a_line_what_is_missing(
    tmp_path: Path, options: str, says: str
) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {options} "$@"\n')
    python.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(python), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [BENCHMARKS / "gpu_run.sh"], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert says in line
