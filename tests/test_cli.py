"""The command line as a user meets it: help, mistakes, interrupts, exit codes, output streams."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import sharegptvideo
from sharegptvideo import cli
from sharegptvideo._io import write_jsonl
from sharegptvideo.cli import _common
from sharegptvideo.errors import UserError

GROUPS = {"model", "data", "build", "eval", "study", "submission", "train"}
COMMANDS = {"demo", "leaderboard", "doctor"}
ROOT = Path(__file__).parents[1]
CANDIDATES = ["build", "candidates", "--out", "x", "--input"]
TRAIN = ["train", "run", "demo/sft", "data.data_dir=synthetic", "data.media=null"]
EVAL = ["--task", "synthetic_qa", "--data-dir", "{here}", "--judge", "exact", "--out", "run"]


def run(*words: str) -> Any:
    return CliRunner().invoke(cli.app, list(words))


def commands() -> Iterator[tuple[str, ...]]:
    """Every command, by the words that call it."""
    root: Any = typer.main.get_command(cli.app)
    for name, command in root.commands.items():
        if hasattr(command, "commands"):
            yield from ((name, sub) for sub, one in command.commands.items() if not one.hidden)
        else:
            yield (name,)


def test_groups_and_commands_are_there() -> None:
    words = list(commands())
    assert {call[0] for call in words if len(call) == 2} == GROUPS
    assert {call[0] for call in words if len(call) == 1} == COMMANDS


@pytest.mark.parametrize("words", [(), *commands(), *((group,) for group in sorted(GROUPS))])
def test_help_of_everything(words: tuple[str, ...]) -> None:
    result = run(*words, "--help")
    assert result.exit_code == 0, result.output
    assert "Usage:" in result.output
    assert run(*words, "-h").output == result.output
    assert "bool" not in result.output
    # Groups list their commands; each command shows how it is used.
    shown = " ".join(result.output.split())
    if words and words not in [(group,) for group in GROUPS]:
        assert "Example: " in shown
        assert f"sharegptvideo {' '.join(words)}" in shown.split("Example: ", 1)[1]


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "sys.argv = ['sharegptvideo', '--help']\n"
        "from sharegptvideo.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit:\n"
        "    print(*[m for m in ('torch', 'transformers', 'datasets', 'openai', 'pyarrow', 'numpy')"
        " if m in sys.modules], file=sys.stderr)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stderr.strip() == ""
    assert "demo" in result.stdout


def test_no_words_at_all_prints_the_help() -> None:
    assert "Usage:" in run().output


def test_version() -> None:
    assert run("--version").output == f"sharegptvideo {sharegptvideo.__version__}\n"


def test_module_runs_like_the_script() -> None:
    command = [sys.executable, "-m", "sharegptvideo", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == (
        f"sharegptvideo {sharegptvideo.__version__}\n"
    )


@pytest.mark.parametrize(
    ("words", "near"),
    [(["evl"], "eval"), (["build", "preference"], "preferences"), (["leaderbord"], "leaderboard")],
)
def test_mistyped_command_names_the_nearest(words: list[str], near: str) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert "Did you mean" in result.stderr
    assert f"'{near}'" in result.stderr


def test_unknown_option_is_bad_usage() -> None:
    result = run("build", "preferences", "--treshold", "3")
    assert result.exit_code == 2
    assert "--treshold" in result.stderr


def test_mistake_of_the_user_is_one_line(tmp_path: Path) -> None:
    result = run("build", "preferences", "--input", str(tmp_path), "--out", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert "sharegptvideo build rewards" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("trouble", "code", "line"),
    [
        (UserError("no luck", exit_code=1), 1, "error: no luck"),
        (KeyboardInterrupt(), 130, "interrupted; run the same command again to go on"),
        (
            OSError(errno.ENOSPC, "No space left on device", "pairs.jsonl"),
            1,
            "error: the disk is full at pairs.jsonl; free some space and run the same command "
            "again",
        ),
        (
            OSError(errno.EDQUOT, "Disk quota exceeded"),
            1,
            "error: the disk is full; free some space and run the same command again",
        ),
        (
            OSError(errno.EROFS, "Read-only file system", "pairs.jsonl"),
            1,
            "error: pairs.jsonl: cannot be used (Read-only file system); name a place on another "
            "disk",
        ),
        (
            OSError(errno.ENOENT, "No such file or directory", "pairs.jsonl"),
            1,
            "error: pairs.jsonl: cannot be used (No such file or directory)",
        ),
    ],
)
def test_what_ends_a_command_early(
    trouble: BaseException, code: int, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise trouble

    monkeypatch.setattr("sharegptvideo.build.make_pairs", fails)
    result = run("build", "preferences", "--input", "loop", "--out", "pairs")
    assert result.exit_code == code
    assert result.stderr == f"{line}\n"


def test_faults_of_ours_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("sharegptvideo.build.make_pairs", fails)
    result = run("build", "preferences", "--input", "loop", "--out", "pairs")
    assert isinstance(result.exception, PermissionError)


def test_ctrl_c_in_a_real_process(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, sharegptvideo.build as pipeline\n"
        "pipeline.make_pairs = lambda *a, **k: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.argv = ['sharegptvideo', 'build', 'preferences', '--input', 'a', '--out', 'b']\n"
        "from sharegptvideo.cli import main\n"
        "main()\n"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 130
    assert result.stderr == "interrupted; run the same command again to go on\n"


def test_json_has_stdout_to_itself(tmp_path: Path) -> None:
    answers = [
        {"text": text, "copies": 1, "status": "scored", "score": score}
        for text, score in (("a ball", 5.0), ("a cat", 1.0))
    ]
    row = {"id": "1", "video": "v", "source": "s", "question": "What?", "answer": "A ball."}
    row |= {"caption": None, "error": None, "answers": answers}
    write_jsonl(tmp_path / "rewards.jsonl", [row])
    words = ["build", "preferences", "--input", str(tmp_path), "--out", str(tmp_path / "pairs")]
    result = run(*words, "--json")
    assert result.exit_code == 0
    figures = json.loads(result.stdout)
    assert (figures["n_items"], figures["n_pairs"]) == (1, 1)
    assert "sft_dpo.jsonl" in result.stderr
    plain = run(*words)
    assert "n_pairs" in plain.stdout
    assert "histogram.5" in plain.stdout
    assert run(*words, "--threshold", "1").exit_code == 1


def test_our_warnings_are_one_line_each(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    talk = [{"from": "human", "value": "<video>\nWhere?"}, {"from": "gpt", "value": "Here."}]
    write_jsonl(
        tmp_path / "video_instruction" / "train" / "qa" / "qa.jsonl",
        [{"id": "a_0", "video": "a", "conversations": talk}],
    )
    write_jsonl(
        tmp_path / "video_instruction" / "train" / "pretrain" / "video_caption_pretrain.jsonl",
        [{"id": "a", "video": "a", "conversations": talk}],
    )
    code = (
        "import sys, sharegptvideo.build as pipeline\n"
        "from sharegptvideo.cli import main\n"
        "from sharegptvideo.errors import UserError\n"
        "def fails(*_, **__): raise UserError('no such model')\n"
        "pipeline.sample_candidates = fails\n"
        f"sys.argv[1:] = 'build candidates --input {tmp_path} --model m --out o'.split()\n"
        "main()\n"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        "warning: 1 video not found, video_path is null: a",
        "error: no such model",
    ]


def test_progress_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with _common.progress_bar() as progress:
        for done in range(1, 4):
            progress(done, 3, "pairs")
    assert capsys.readouterr().err == "pairs: 3/3\n"


def test_figures_are_readable(capsys: pytest.CaptureFixture[str]) -> None:
    _common.print_figures({"n": 3, "score": {"mean": 2.123456}}, as_json=False)
    assert capsys.readouterr().out == "n           3\nscore.mean  2.123\n"


def test_doctor_finds_this_environment_fit() -> None:
    result = run("doctor", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    found = {finding["name"]: finding for finding in report["findings"]}
    assert report["ok"]
    assert found["video"]["found"] == "4 of 4 frames of a clip written here"
    assert found["extra train"]["ok"]
    assert found["extra ray"]["ok"]
    assert "ray 2." in found["extra ray"]["found"]
    assert found["cache"]["ok"]
    assert found["endpoint"]["mend"] is None or "OPENAI_BASE_URL" in found["endpoint"]["mend"]


def test_doctor_says_what_cores_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from sharegptvideo._concurrency import Cores

    monkeypatch.setattr("sharegptvideo.cli.doctor.given_cores", lambda: Cores(64, 16, 1.5))
    monkeypatch.setattr("sharegptvideo._concurrency.available_cores", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    report = json.loads(run("doctor", "--json").stdout)
    assert report["cores"] == {
        "machine": 64,
        "mask": 16,
        "quota": 1.5,
        "available": 2,
        "torch_threads": 2,
        "omp_num_threads": None,
    }
    (found,) = [finding for finding in report["findings"] if finding["name"] == "cores"]
    assert found["ok"]
    assert found["found"] == (
        "2 of 64 (affinity mask 16, quota 1.5); torch: 2 threads, 1 on the CPU for a model below "
        "20 M parameters; OMP_NUM_THREADS changes it"
    )
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    result = run("doctor")
    assert result.exit_code == 0
    assert "torch: 8 threads, OMP_NUM_THREADS is 8\n" in result.stdout
    assert "fix: set OMP_NUM_THREADS to 2 or less" in result.stdout


def test_doctor_names_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SHAREGPTVIDEO_CACHE", str(tmp_path / "file" / "cache"))
    result = run("doctor")
    assert result.exit_code == 1
    assert "MISSING" in result.stdout
    assert "SHAREGPTVIDEO_CACHE" in result.stdout


def test_doctor_sees_a_package_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    version = importlib.metadata.version

    def without(name: str) -> str:
        if name == "trl":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0" if name == "pyarrow" else version(name)

    monkeypatch.setattr("importlib.metadata.version", without)
    monkeypatch.chdir(ROOT)
    result = run("doctor", "--json")
    assert result.exit_code == 1
    found = {finding["name"]: finding for finding in json.loads(result.stdout)["findings"]}
    assert "trl not installed" in found["extra train"]["found"]
    assert found["extra train"]["mend"] == "pip install -e '.[train]'"  # from the checkout
    assert "pyarrow 1.0, not >=20" in found["packages"]["found"]
    assert not found["packages"]["ok"]


ODDS = {
    "torchvision 0.28.0": ("torch==2.13.1", "torch 2.13.0+cpu", "torchvision torch==2.13.0"),
    "transformers 5.99": ("huggingface_hub<3", "huggingface_hub 4.0", "'huggingface_hub<3'"),
    "trl 1.16.0": ("datasets>=6", "datasets 5.2.0", "'datasets>=6'"),
    "ray 2.60.0": ("protobuf<7", "protobuf 7.36.2", "'protobuf<7'"),
    "lmms_eval 0.7.3": ("", "filelock 4.2.0", "'filelock<4'"),
}


@pytest.mark.parametrize(("package", "rest"), ODDS.items())
def test_doctor_says_what_does_not_go_together(
    package: str, rest: tuple[str, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed, there, fix = rest
    for distribution, requirement in ((package, needed), (there, "")):
        name, version = distribution.split()
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {requirement}"] * bool(requirement)
        (folder / "METADATA").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    result = run("doctor", "--json")
    found = {finding["name"]: finding for finding in json.loads(result.stdout)["findings"]}
    assert not found["versions"]["ok"]
    own, (name, version) = package.replace("_", "-"), there.split()
    assert f"{own} needs {needed or 'filelock<4'}, not {version}" in found["versions"]["found"]
    assert fix in found["versions"]["mend"]


@pytest.mark.parametrize(
    "module", ["torch", "trl", "peft", "openai", "ray", "scipy", "transformers"]
)
def test_a_missing_extra_is_one_line(module: str, tmp_path: Path) -> None:
    """Where it is imported, be it in the middle of a command: with the line that installs it."""
    code = (
        "import sys\n"
        f"sys.modules[{module!r}] = None\n"
        "from sharegptvideo.cli import app\n"
        "@app.command('doctor')\n"
        f"def _(): import {module}\n"
        "app()\n"
    )
    command = [sys.executable, "-c", code, "doctor"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: this needs {module}, which is not installed: pip install -e '")
    assert line.endswith("]'")
    assert "dev" not in line.rpartition("[")[2]


def test_short_help_and_flags_without_a_type() -> None:
    for words in [(), ("eval",), ("eval", "run"), ("train", "validate"), ("doctor",)]:
        short, long = run(*words, "-h"), run(*words, "--help")
        assert short.exit_code == 0, short.output
        assert short.output == long.output
        assert "bool" not in short.output


def test_a_validated_recipe_can_be_saved(tmp_path: Path) -> None:
    first = run("train", "validate", "demo/dpo", "optimisation.epochs=2")
    assert first.exit_code == 0, first.output
    file = tmp_path / "mine.yaml"
    file.write_text(first.stdout, encoding="utf-8")
    again = run("train", "validate", str(file))
    assert (again.exit_code, again.stdout) == (0, first.stdout)


def test_a_switch_of_a_recipe_says_what_it_takes() -> None:
    result = run("train", "validate", "demo/sft", "optimisation.bf16=maybe")
    assert result.exit_code == 2
    assert "optimisation.bf16: must be true or false, not 'maybe'" in result.stderr


def test_lists_are_ls_everywhere() -> None:
    assert run("data", "ls").output == run("data", "list").output


def test_two_lengths_of_a_training_name_the_fix() -> None:
    result = run("train", "validate", "demo/dpo", "optimisation.max_steps=5")
    assert result.exit_code == 2
    assert "max_steps 5, so add optimisation.epochs=null" in result.output


def test_a_task_is_shown_as_people_read_it() -> None:
    shown = run("eval", "tasks", "activitynet_qa_official")
    assert shown.exit_code == 0, shown.output
    assert "data     activitynet_qa_official, split test" in shown.stdout
    assert "also activitynet_qa_test_q.json or test_q.json in --data-dir" in shown.stdout
    assert "None" not in shown.stdout
    assert "=" not in shown.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "run", "demo/dpo", "data.data_dir=nope"], "data.data_dir nope: no such folder"),
        (["train", "run", "demo/sft", "model=/no/where"], "model /no/where: no checkpoint there"),
        (["train", "run", "demo/sft", "data.media=nope"], "data.media nope: no such folder"),
        (["eval", "run", "--model", "hf:{here}", *EVAL], "config.json is not in it"),
        (["eval", "run", "--model", "{here}", *EVAL], "write hf:"),
        (["eval", "run", "--model", "hf:x", *EVAL, "--media", "no"], "no: no such folder"),
        (["eval", "run", "--model", "hf:{here}/list", *EVAL], "a list, not an object"),
        (["eval", "run", "--model", "hf:{here}/adapters", *EVAL], "adapters of b, not a model"),
        (["eval", "run", "--model", "hf:{here}/authors", *EVAL], "convert it first"),
        (["eval", "run", "--model", "hf:x", *EVAL, "--out", "{here}/file"], "file is a file"),
        (["eval", "run", "--model", "hf:x", *EVAL, "--out", "{here}/file/x"], "file is a file"),
        ([*CANDIDATES, "synthetic", "--model", "/no/where"], "model /no/where: no checkpoint"),
        ([*CANDIDATES, "synthetic", "--model", "{here}/adapters"], "adapters of b, not a model"),
        ([*CANDIDATES, "nope", "--model", "x"], "nope: no such folder"),
        ([*TRAIN, "model={here}/adapters"], "adapters of b, not a model"),
        ([*TRAIN, "model={here}/authors"], "convert it first"),
        ([*TRAIN, "model={here}"], "config.json is not in it"),
        ([*TRAIN, "model=some/one", "output={here}/file"], "file is a file"),
        ([*TRAIN, "model=some/one", "push_to_hub.repo=nobody"], "OWNER/NAME is needed"),
        ([*TRAIN, "model=some/one", "eval.tasks=[nope]", "eval.every=1"], "unknown task 'nope'"),
        (["train", "validate", "nope.yaml"], "nope.yaml: cannot be read"),
        (["model", "info", "{here}/adapters"], "adapters of b, not a model"),
        (["model", "info", "/no/where"], "model /no/where: no checkpoint"),
        (["model", "convert", "/no/where", "--to", "x"], "model /no/where: no checkpoint"),
        (["model", "convert", "{here}/list", "--to", "x"], "a list, not an object"),
        (["demo", "--out", "{here}/file"], "file is a file"),
        (["train", "run", "demo/sft", "--dry-run", "--gpus", "8xH10"], "unknown kind of GPU 'H10'"),
        (
            ["eval", "run", "--model", "hf:{here}/model", *EVAL, "--data-dir", "{here}/release"],
            "no video_instruction/test/synthetic.qa.jsonl for config 'synthetic_qa'",
        ),
        (["demo", "--scale", "big"], "unknown scale 'big'"),
    ],
)
def test_wrong_paths_are_found_without_torch(
    words: list[str], message: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    here = tmp_path_factory.mktemp("given")
    (here / "file").touch()
    for name, file, text in (
        ("list", "config.json", "[]"),
        ("adapters", "adapter_config.json", '{"base_model_name_or_path": "b"}'),
        ("authors", "config.json", '{"model_type": "llava_llama", "mm_video_tower": "t"}'),
    ):
        (here / name).mkdir()
        (here / name / file).write_text(text)
    row = {"id": "q", "video": "v", "question": "Why?", "answer": "So."}
    write_jsonl(here / "video_instruction" / "test" / "synthetic.qa.jsonl", [row])
    (here / "model").mkdir()
    (here / "model" / "config.json").write_text('{"model_type": "video_llava"}')
    (here / "release" / "video_instruction" / "test").mkdir(parents=True)
    (here / "release" / "video_instruction" / "test" / "tgif.qa.jsonl").touch()
    code = (
        "import sys\n"
        "from sharegptvideo.cli import app\n"
        "try: app()\n"
        "finally: print('torch' in sys.modules, 'transformers' in sys.modules)\n"
    )
    words = [word.format(here=here) for word in words]
    command = [sys.executable, "-c", code, *words]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert message in result.stderr
    assert result.stdout == "False False\n"
    assert not list(tmp_path.iterdir())  # no empty folder is left
