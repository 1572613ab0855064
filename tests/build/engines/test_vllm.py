"""vLLM in the workers of Ray, by a command of its name that serves a fake model."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo._io import read_jsonl
from sharegptvideo.build.engines import StageReport, run_stage
from sharegptvideo.build.engines.vllm import (
    Checkpoint,
    VllmServer,
    choose_vllm,
    installed_vllm,
    vllm_checkpoint,
)
from sharegptvideo.build.stage import EngineOptions, Row
from sharegptvideo.endpoint import EndpointOptions
from sharegptvideo.errors import UserError
from tests.build.engines.test_ray import ROOT, descendants, rows_of, until
from tests.support.checkpoint_stage import OWN, AskTwice, Loaded, second
from tests.support.fake_vllm import FakeVllm
from tests.support.gpu_cluster import gpu_cluster
from tests.support.vlm_scenes import scene_in

AT_ONCE = 8
QWEN = "Qwen2_5_VLForConditionalGeneration"
SETTINGS = {"weights_sha256": "a" * 64, "settings_hash": "b" * 64}


def checkpoint(folder: Path, architecture: str = QWEN, kind: str = "qwen2_5_vl") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = {"architectures": [architecture], "model_type": kind}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeVllm:
    """A `vllm` on the PATH."""
    fake: FakeVllm = FakeVllm.install(tmp_path / "vllm")
    monkeypatch.setenv("PATH", f"{fake.folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")  # put back afterwards, whatever sets them
    return fake


@pytest.mark.parametrize(
    ("architecture", "kind", "obstacle"),
    [
        (QWEN, "qwen2_5_vl", None),
        ("LlavaNextVideoForConditionalGeneration", "llava_next_video", None),
        ("LlavaHoundForConditionalGeneration", "llava_hound", "vLLM has no LlavaHoundFor"),
        ("VideoLlavaForConditionalGeneration", "video_llava", "vLLM has no VideoLlavaFor"),
        ("SmolVLMForConditionalGeneration", "smolvlm", "no SmolVLMFor.* for videos"),
    ],
)
def test_what_vllm_knows_is_read_from_the_config(
    tmp_path: Path, architecture: str, kind: str, obstacle: str | None
) -> None:
    known = vllm_checkpoint(str(checkpoint(tmp_path, architecture, kind)), SETTINGS)
    assert known.kind == kind
    if obstacle is None:
        assert known.obstacle is None
    else:
        assert re.search(obstacle, known.obstacle or "")


def test_other_weights_or_settings_have_another_name(tmp_path: Path) -> None:
    path = str(checkpoint(tmp_path))
    one = vllm_checkpoint(path, SETTINGS)
    assert vllm_checkpoint(path, dict(SETTINGS)) == one
    for name in SETTINGS:
        assert vllm_checkpoint(path, SETTINGS | {name: "c" * 64}).digest != one.digest


def test_rules_of_generation_are_kept_or_hinder(tmp_path: Path) -> None:
    rules = checkpoint(tmp_path) / "generation_config.json"
    rules.write_text(json.dumps({"do_sample": True, "top_k": 1, "repetition_penalty": 1.05}))
    known = vllm_checkpoint(str(tmp_path), SETTINGS)
    assert (known.penalty, known.obstacle) == (1.05, None)
    rules.write_text(json.dumps({"no_repeat_ngram_size": 3}))
    known = vllm_checkpoint(str(tmp_path), SETTINGS)
    assert "no_repeat_ngram_size" in (known.obstacle or "")


KNOWN = Checkpoint("m", "qwen2_5_vl", "0" * 16, None, None)
UNKNOWN = Checkpoint("m", "llava_hound", "0" * 16, None, "vLLM has no such model for videos")


@pytest.mark.parametrize(
    ("asked", "wanted", "gpus", "installed", "says"),
    [
        (KNOWN, True, 1, ("0.33.0", "vllm"), "hf:m: served by vLLM 0.33.0, a server in each"),
        (KNOWN, True, 1, (None, "vLLM is not installed"), "own engine .*; vLLM is not installed"),
        (KNOWN, True, 0, None, "own engine .*; the Ray cluster has no GPU"),
        (KNOWN, False, 1, None, r"own engine .*; as asked for \(--no-vllm\)"),
        (UNKNOWN, True, 1, None, "own engine .*; vLLM has no such model"),
    ],
)
def test_a_line_says_what_answers_and_why(
    asked: Checkpoint, wanted: bool, gpus: int, installed: Any, says: str
) -> None:
    def find() -> tuple[str | None, str]:
        assert installed is not None, "looked for vLLM where it cannot matter"
        found: tuple[str | None, str] = installed
        return found

    serves, line = choose_vllm(asked, wanted=wanted, gpus=gpus, installed=find)
    assert serves == says.startswith("hf:m: served")
    assert re.search(says, line)
    assert "\n" not in line


def test_vllm_is_found_by_its_command(vllm: FakeVllm, monkeypatch: pytest.MonkeyPatch) -> None:
    assert installed_vllm() == ("0.33.0", str(vllm.folder / "bin" / "vllm"))
    vllm.change(version="0.9.2")
    assert installed_vllm() == (None, "vLLM 0.9.2 is too old, 0.33 or newer is needed")
    vllm.change(version="what")
    assert "gives no version: 'what'" in installed_vllm()[1]
    (vllm.folder / "behaviour.json").unlink()
    version, cause = installed_vllm()
    assert version is None
    assert re.search(r"bin/vllm --version fails: FileNotFoundError: .*behaviour\.json", cause)
    monkeypatch.setenv("PATH", str(vllm.folder))
    assert installed_vllm() == (None, "vLLM is not installed (no command vllm on the PATH)")


def test_a_server_is_started_and_ended(
    vllm: FakeVllm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "packages of this environment")
    folder = checkpoint(tmp_path / "model")
    (folder / "generation_config.json").write_text('{"repetition_penalty": 1.05}')
    known = vllm_checkpoint(str(folder), SETTINGS)
    started = VllmServer(known, tmp_path)
    try:
        ((pid, begun),) = vllm.servers.items()
        assert started.server.model == f"qwen2_5_vl {known.digest} (vLLM 0.33.0)"
        path, *options = begun["arguments"]
        assert path == str(folder)
        given = dict(zip(options[::2], options[1::2], strict=True))
        assert given.pop("--port") in started.server.base_url
        assert given == {
            "--host": "127.0.0.1",
            "--served-model-name": started.server.model,
            "--limit-mm-per-prompt": '{"image": 0, "video": 1}',
            "--max-model-len": "auto",
            "--uvicorn-log-level": "warning",
            "--generation-config": "vllm",
            "--override-generation-config": '{"repetition_penalty": 1.05}',
        }
        variables = begun["variables"]
        assert variables["VLLM_API_KEY"] == os.environ["OPENAI_API_KEY"] != ""
        assert variables["VLLM_NO_USAGE_STATS"] == "1"
        assert "PYTHONPATH" not in variables
        assert "OPENAI_API_KEY" not in variables
    finally:
        started.close()
    assert pid not in vllm.alive
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{started.server.base_url}/models")


HOLDER = """
import sys, time
from pathlib import Path
from sharegptvideo.build.engines.vllm import Checkpoint, VllmServer
VllmServer(Checkpoint(sys.argv[1], "qwen2_5_vl", "0" * 16, None, None), Path(sys.argv[2]))
print("ready", flush=True)
time.sleep(600)
"""


def test_a_server_ends_with_the_process_that_started_it(vllm: FakeVllm, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(checkpoint(tmp_path / "model")), str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        (server,) = vllm.alive
        supervisor = Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[1]
        for pid, _ in descendants(holder.pid):  # as Ray does
            os.kill(pid, signal.SIGKILL)
        holder.kill()
    until(lambda: not vllm.alive)
    until(lambda: not Path(f"/proc/{supervisor}/exe").exists())


TRACE = """(EngineCore_DP0 pid=7) ERROR 11-01 [core.py:1] Traceback (most recent call last):
(EngineCore_DP0 pid=7) ERROR 11-01 [core.py:1] ValueError: No memory for the cache blocks.
Traceback (most recent call last):
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (TRACE, "ValueError: No memory for the cache blocks."),
        ("usage: vllm\nvllm: error: argument --x: unknown", "error: argument --x: unknown"),
        ("Killed", "Killed"),
    ],
)
def test_a_server_that_ends_early_says_why(
    vllm: FakeVllm, tmp_path: Path, said: str, cause: str
) -> None:
    vllm.change(dies=said)
    known = vllm_checkpoint(str(checkpoint(tmp_path / "model")), SETTINGS)
    with pytest.raises(UserError) as caught:
        VllmServer(known, tmp_path)
    line = str(caught.value)
    assert f"ended before it could be asked: {cause}; {tmp_path}/vllm-" in line
    assert "\n" not in line
    assert caught.value.exit_code == 1
    assert os.environ["OPENAI_API_KEY"] == ""


def test_our_own_engine_is_for_ray_to_choose() -> None:
    with pytest.raises(UserError, match="--no-vllm is for --engine ray"):
        EngineOptions(vllm=False)


@pytest.fixture(scope="module")
def served_cluster(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[EngineOptions, FakeVllm]]:
    """A cluster with a GPU, and a `vllm` on the PATH of its workers."""
    fake = FakeVllm.install(tmp_path_factory.mktemp("vllm"))
    path = f"{fake.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    with gpu_cluster(PATH=path) as address:
        yield EngineOptions("ray", ray_address=address, actor_cpus=0.5), fake


def run(
    model: Path, out: Path, count: int, engine: EngineOptions
) -> tuple[StageReport, list[Row], list[str]]:
    lines: list[str] = []
    options = EndpointOptions(concurrency=AT_ONCE, cache=False, report=lines.append)
    stage = AskTwice(Loaded(f"hf:{model}"))
    report = run_stage(stage, rows_of(count), out, engine=engine, endpoint=options)
    return report, [row for _, row in read_jsonl(out / "asked.jsonl")], lines


@pytest.mark.slow
def test_rows_are_made_once_by_servers_that_may_die(
    served_cluster: tuple[EngineOptions, FakeVllm], tmp_path: Path
) -> None:
    engine, vllm = served_cluster
    vllm.change(dies="", settings={"latency_s": 0.1})
    model = checkpoint(tmp_path / "model")
    out = tmp_path / "out"
    killed: list[int] = []

    def stored() -> int:
        files = (out / "replies").glob("*.jsonl")
        return sum(file.read_bytes().count(b"\n") for file in files)

    def kill() -> None:
        until(lambda: stored() >= 40, 600)
        killed.extend(vllm.alive)
        os.kill(killed[0], signal.SIGTERM)  # its worker ends with its server
        until(lambda: stored() >= 120, 600)
        killed.extend(vllm.alive)
        workers = [pid for pid, line in cluster_processes() if "ray::MapWorker" in line]
        os.kill(workers[-1], signal.SIGKILL)  # the server ends with its worker

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    report, rows, lines = run(model, out, 100, engine)
    killer.join()
    assert (report.n_made, report.n_failed) == (100, 0)
    assert len(killed) == 2
    assert len(vllm.servers) == 3
    until(lambda: not vllm.alive)
    assert lines[-1].startswith(f"hf:{model}: served by vLLM 0.33.0, a server in each actor")
    expected = [
        [scene_in(text).answer(text, None) for text in (row["text"], second(row["text"]))]
        for row in rows_of(100)
    ]
    assert [row["answers"] for row in rows] == expected
    digest = vllm_checkpoint(str(model), SETTINGS).digest
    for row in rows:
        made = row["made"]
        assert (made["model"], made["engine"], made["requests"]) == (f"hf:{model}", "ray", 2)
        assert made["answered_by"] == [f"qwen2_5_vl {digest} (vLLM 0.33.0)-fake"]
    # Nothing is asked again but what was under way when a server, or its worker, was killed.
    assert len(vllm.paid) == 200
    assert vllm.paid.total() - 200 <= 2 * AT_ONCE
    assert not (out / "ray").exists()


def cluster_processes() -> Iterator[tuple[int, str]]:
    return descendants(os.getpid())


@pytest.mark.slow
def test_a_server_that_cannot_start_ends_the_work(
    served_cluster: tuple[EngineOptions, FakeVllm], tmp_path: Path
) -> None:
    engine, vllm = served_cluster
    vllm.change(dies=TRACE)
    with pytest.raises(UserError) as caught:
        run(checkpoint(tmp_path / "model"), tmp_path / "out", 100, engine)
    line = str(caught.value)
    assert "ended before it could be asked: ValueError: No memory for the cache blocks.;" in line
    assert "\n" not in line
    assert caught.value.exit_code == 1
    (log,) = re.findall(r"/\S+/vllm-\S+\.log", line)
    assert TRACE in Path(log).read_text()


@pytest.mark.slow
def test_what_vllm_does_not_know_is_answered_by_our_own_engine(
    served_cluster: tuple[EngineOptions, FakeVllm], tmp_path: Path
) -> None:
    engine, vllm = served_cluster
    before = len(vllm.servers)
    model = checkpoint(tmp_path / "model", "VideoLlavaForConditionalGeneration", "video_llava")
    _, rows, lines = run(model, tmp_path / "out", 20, engine)
    assert [row["answers"] for row in rows] == [[OWN, OWN]] * 20
    cause = "vLLM has no VideoLlavaForConditionalGeneration for videos"
    assert lines[-1] == f"hf:{model}: answered by our own engine in each actor; {cause}"
    assert len(vllm.servers) == before
