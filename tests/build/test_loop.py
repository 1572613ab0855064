"""The whole loop in one file: strict, planned before it is paid for, and taken up where it was."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from sharegptvideo import load_dataset
from sharegptvideo._io import read_json, read_jsonl, write_json
from sharegptvideo.build.loop import run_loop
from sharegptvideo.build.loop_file import Loop, load_loop
from sharegptvideo.build.outputs import FILES
from sharegptvideo.build.plan import plan_loop
from sharegptvideo.build.report import STAGES, read_report
from sharegptvideo.cli import app
from sharegptvideo.errors import UserError
from sharegptvideo.models import build_tiny
from tests.support.training_fixtures import write_clip
from tests.support.vlm_server import VlmServer

COMMON = {"captions": {}, "qa": {}, "candidates": {"k": 4}, "rewards": {}, "preferences": {}}


def command(*words: object) -> Any:
    return CliRunner().invoke(app, ["build", *map(str, words)])


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    root = tmp_path / "videos"
    root.mkdir()
    for number, name in enumerate("abcd"):
        write_clip(root / f"{name}.mp4", (40 * number, 255 - 40 * number, 90))
    return root


def loop_file(folder: Path, clips: Path, server: VlmServer, **changes: Any) -> Path:
    """A file with all stages, each asking the server; `changes` replace or (None) remove keys."""
    content: dict[str, Any] = {"out": str(folder / "out"), "videos": str(clips)}
    content |= {name: {"model": "openai:vlm", **keys} for name, keys in COMMON.items()}
    content |= {"rewards": {"judge": "openai:vlm"}, "preferences": {}}
    content |= {"base_url": server.url, "cache": False} | changes
    file = folder / "loop.yaml"
    folder.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump({k: v for k, v in content.items() if v is not None}))
    return file


def test_real_clips_become_pairs_that_a_training_takes(
    shared_data: Path, vlm_server: VlmServer, tmp_path: Path
) -> None:
    out, videos = tmp_path / "mine", shared_data / "videos"
    result = command(
        "loop", "--videos", videos, "--to", out, "--captioner", "openai:vlm",
        "--judge", "openai:vlm", "--base-url", vlm_server.url, "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert [figures[name]["inputs"] for name in STAGES] == [3, 3, 9, 9, 9]
    assert (figures["captions"]["made"], figures["qa"]["made"]) == (3, 9)
    assert figures["candidates"]["made"] == figures["rewards"]["made"] == 54
    assert [stage.n_rows for stage in read_report(out).stages] == [3, 3, 9, 9, 9]
    pairs = load_dataset("preferences", data_dir=out)
    assert len(pairs) == figures["preferences"]["made"] >= 5
    captions = {row["video"]: row["caption"] for row in load_dataset("captions", data_dir=out)}
    for row in pairs:
        assert row["caption"] == captions[row["video"]]
        assert row["chosen_score"] >= 3 > row["rejected_score"]

    model = build_tiny([row["chosen"] for row in pairs], tmp_path / "tiny", seed=0, size="tiny")
    words = figures["train"].split()
    assert words[:4] == ["sharegptvideo", "train", "run", "llava_hound/dpo"]
    dry = ["frames=4", f"model={model}", f"output={tmp_path / 'dpo'}", "--dry-run", "--json"]
    result = CliRunner().invoke(app, [*words[1:], *dry])
    assert result.exit_code == 0, result.output
    plan = json.loads(result.stdout)
    assert (plan["data"]["rows"], plan["data"]["clips"]) == (len(pairs), 3)
    assert plan["problems"] == []


def test_a_kill_between_a_stage_and_its_dataset_is_made_good(
    videos: Path, vlm_server: VlmServer, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for config, stages in (("captions", STAGES[:1]), ("qa", STAGES[:2])):
        kept = {name: {"model": "openai:vlm"} for name in stages}
        loop = load_loop(loop_file(tmp_path, videos, vlm_server, **(dict.fromkeys(STAGES) | kept)))
        run_loop(loop)
        before = (out / FILES[config]).read_bytes()
        (out / FILES[config]).unlink()
        shutil.rmtree(out / config)
        ended = read_json(out / "loop.json")
        del ended[config]
        write_json(out / "loop.json", ended)
        file = loop_file(tmp_path, videos, vlm_server)
        assert [plan.inputs for plan in plan_loop(load_loop(file))][:2] == [4, 4]
        paid = vlm_server.report().paid.total()
        run_loop(loop)
        assert vlm_server.report().paid.total() == paid
        assert (out / FILES[config]).read_bytes() == before


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    file = tmp_path / "loop.yaml"
    file.write_text("videos: clips\ncaptions: {modle: x}\nqa: {model: x, n: 0}\nmax_costs: 3\n")
    with pytest.raises(UserError) as caught:
        load_loop(file)
    for part in (
        "out is missing",
        "unknown key captions.modle (did you mean",
        "captions.model is missing",
        "qa.n: Input should be greater than or equal to 1, not 0",
        "unknown key max_costs (did you mean max_cost",
    ):
        assert part in str(caught.value)
    result = command("run", file)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"qa": None}, "qa between captions and preferences"),
        ({"videos": None}, "videos is missing"),
        ({"input": "x"}, "input is for loops that do not begin with captions"),
        ({"captions": None}, "input is missing: the folder that qa starts from"),
        ({"actors": 2}, "ray_address, actors and actor_cpus are for engine"),
        ({"vllm": False}, "vllm: false is for engine: ray"),
        (dict.fromkeys(STAGES), "no stage; give some of captions, qa"),
    ],
)
def test_stages_that_do_not_go_together_are_refused(
    changes: Mapping[str, Any], error: str, videos: Path, vlm_server: VlmServer, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=error):
        load_loop(loop_file(tmp_path, videos, vlm_server, **changes))


def test_a_later_mistake_shows_before_the_first_stage_asks(
    videos: Path, vlm_server: VlmServer, tmp_path: Path
) -> None:
    for changes, error in (
        ({"qa": {"model": "openai:vlm", "kinds": ["actoin"]}}, "unknown kind of question 'actoin'"),
        ({"rewards": {"judge": "exat"}}, "'exat'; did you mean exact"),
        ({"candidates": {"model": "predictions:x.jsonl"}}, "x.jsonl"),
        ({"no_gate": ["refusl"]}, "unknown gate 'refusl'"),
    ):
        loop = load_loop(loop_file(tmp_path, videos, vlm_server, **changes))
        with pytest.raises(UserError, match=error):
            run_loop(loop)
    assert not vlm_server.report().asked
    assert not (tmp_path / "out").exists()


def test_a_plan_asks_nothing_and_counts_what_it_can(
    videos: Path, vlm_server: VlmServer, tmp_path: Path
) -> None:
    loop = load_loop(loop_file(tmp_path, videos, vlm_server))
    plans = {plan.stage: plan for plan in plan_loop(loop)}
    assert [plans[name].inputs for name in STAGES] == [4, 4, 12, 12, 12]
    calls = [plan.estimate.requests if plan.estimate else None for plan in plans.values()]
    assert calls == [4, 4, 48, 48, None]
    assert not vlm_server.report().asked
    run_loop(loop)
    paid = vlm_server.report().paid.total()
    assert [plan.left for plan in plan_loop(loop)] == [0] * 5
    assert vlm_server.report().paid.total() == paid


def test_prices_and_a_limit_hold_for_all_stages_together(
    videos: Path, vlm_server: VlmServer, tmp_path: Path
) -> None:
    prices = tmp_path / "prices.yaml"
    entry = {"vlm": {"prompt": 1000.0, "completion": 0.0, "image_tokens": 1}}
    prices.write_text(yaml.safe_dump({"date": "2026-01-01", "hosts": {"127.0.0.1": entry}}))
    file = loop_file(tmp_path, videos, vlm_server, prices=str(prices))
    plans = {plan.stage: plan for plan in plan_loop(load_loop(file))}
    estimates = [plan.estimate.cost for plan in plans.values() if plan.estimate]
    assert all(estimates)
    loop = load_loop(file).model_copy(update={"max_cost": 1e-9})
    with pytest.raises(UserError, match="above --max-cost"):
        run_loop(loop)
    assert not vlm_server.report().paid


def test_a_loop_goes_on_where_it_was_and_begins_again_what_has_changed(
    videos: Path, vlm_server: VlmServer, tmp_path: Path
) -> None:
    file = loop_file(tmp_path, videos, vlm_server)
    out, lines = tmp_path / "out", list[str]()
    run_loop(load_loop(file))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    paid = vlm_server.report().paid.total()
    outcomes = run_loop(load_loop(file), report=lines.append)
    assert [outcome.before for outcome in outcomes] == [True] * 5
    assert lines == [f"{number}/5 {name}: finished before" for number, name in enumerate(STAGES, 1)]
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before

    write_clip(videos / "e.mp4", (250, 10, 250))  # a video more: what is made of it alone is asked
    outcomes = run_loop(load_loop(file))
    assert [outcome.inputs for outcome in outcomes] == [5, 5, 15, 15, 15]
    assert vlm_server.report().paid.total() == paid + 1 + 1 + 12 + 12
    # Of candidates the first two calls ask how the server takes clips, as those of captions did.
    assert vlm_server.report().repeats == 2

    changed = loop_file(tmp_path, videos, vlm_server, candidates={"model": "openai:vlm", "k": 2})
    with pytest.raises(UserError, match="holds results of other settings: k 4 there, 2 here"):
        run_loop(load_loop(changed))


def test_a_stage_that_makes_nothing_ends_the_loop(
    videos: Path, vlm_server: VlmServer, tmp_path: Path
) -> None:
    vlm_server.change(faults={"babble": 1.0})
    result = command("run", loop_file(tmp_path, videos, vlm_server))
    assert result.exit_code == 1
    assert "captions: nothing was made of 4 inputs" in result.output.replace("\n", " ")
    assert not (tmp_path / "out" / "qa.jsonl").exists()
    with pytest.raises(UserError):
        load_dataset("captions", data_dir=tmp_path / "out")


def test_rows_that_failed_are_tried_again_when_asked_to(
    videos: Path, vlm_server: VlmServer, tmp_path: Path
) -> None:
    only = dict.fromkeys(STAGES[1:])
    file = loop_file(tmp_path, videos, vlm_server, **only)
    (videos / "broken.mp4").write_text("no video")
    assert run_loop(load_loop(file))[0].failed == 1
    write_clip(tmp_path / "whole.mp4", (1, 2, 3))
    assert run_loop(load_loop(file))[0].before
    assert not run_loop(load_loop(file), retry=True)[0].before
    assert len(list(read_jsonl(tmp_path / "out" / "captions.jsonl"))) == 5


def test_the_common_case_is_written_down_and_kept(
    videos: Path, vlm_server: VlmServer, tmp_path: Path
) -> None:
    out = tmp_path / "mine"
    words = ("loop", "--videos", videos, "--to", out, "--judge", "exact")
    words += ("--base-url", vlm_server.url)
    result = command(*words, "--captioner", "openai:vlm", "--dry-run")
    assert result.exit_code == 0, result.output
    assert not out.exists()
    result = command(*words, "--captioner", "openai:vlm")
    assert isinstance(load_loop(out / "loop.yaml"), Loop)
    kept = (out / "loop.yaml").read_text()
    result = command(*words, "--captioner", "openai:other")
    assert result.exit_code == 2
    assert "captions.model openai:vlm there, openai:other here" in result.output.replace("\n", " ")
    assert (out / "loop.yaml").read_text() == kept
    assert read_json(out / "loop.json").keys() >= {"captions", "qa"}


ROOT = Path(__file__).parents[2]


def test_the_four_lines_of_the_guide_run(
    videos: Path, vlm_server: VlmServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guide = (ROOT / "docs" / "datasets.md").read_text("utf-8")
    block = re.search(r"```\n(sharegptvideo build loop.*?)```", guide, re.DOTALL)
    assert block is not None
    lines = block[1].splitlines()
    assert len(lines) == 4
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_BASE_URL", vlm_server.url)
    videos.rename("my_clips")
    for line in lines:
        result = CliRunner().invoke(app, shlex.split(line, comments=True)[1:])
        assert result.exit_code == 0, f"{line}: {result.output}"
    card = (tmp_path / "out" / "captions" / "README.md").read_text("utf-8")
    assert "| captions | `openai:VISION` | `VISION-fake` | 4 | 0 |" in card
    assert "Rows: `cc-by-4.0`." in card
    pairs = (tmp_path / "out" / "preferences" / "README.md").read_text("utf-8")
    for stage in STAGES:
        assert f"| {stage} |" in pairs


def test_the_page_about_the_file_has_every_key(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "loop.md").read_text("utf-8")
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "loop.yaml").write_text(text)
    loop = load_loop(tmp_path / "loop.yaml")
    assert [*loop.steps] == [*STAGES]
    sections = {type(step): name for name, step in loop.steps.items()}
    for kind in (Loop, *sections):
        for key in kind.model_fields:
            assert f"`{key}`" in page, f"{sections.get(kind, 'loop')}: {key}"
