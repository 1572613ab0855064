"""The leaderboard: who may be ranked with whom, and the page."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo._io import read_json, read_jsonl, write_json, write_jsonl
from sharegptvideo.errors import UserError
from sharegptvideo.eval.score import score_task
from sharegptvideo.eval.submission import submitted_runs
from sharegptvideo.reports.estimates import format_estimate, markdown_table
from sharegptvideo.reports.leaderboard import collect_runs, render_page, write_leaderboard
from sharegptvideo.reports.leaderboard.judge_page import frontier
from sharegptvideo.reports.leaderboard.tables import board_latex, board_markdown
from tests.support.browser import CHROMIUM, Browser

ROOT = Path(__file__).parents[2]
RULES = {"name": "answer-match", "kind": "rules", "version": 1, "hash": "a" * 16}
ENDPOINT = {
    "name": "openai:gpt",
    "kind": "openai",
    "model": "gpt",
    "protocol": "official",
    "prompt_version": 1,
    "prompt_hash": "p",
    "endpoint": "http://one/v1",
}


def figures(right: int, n: int, *, unscored: int = 0, failed: int = 0) -> dict[str, Any]:
    """Figures of a task of `n` questions, three a video, the first `right` of them right."""
    rows = [{"id": str(i), "video": f"v{i // 3}"} for i in range(n)]
    predictions: dict[str, dict[str, Any]] = {str(i): {"status": "ok"} for i in range(n - failed)}
    verdicts = {
        str(i): {"status": "scored", "correct": i < right, "score": 5 if i < right else 1}
        for i in range(n - failed - unscored)
    }
    return score_task(rows, predictions, verdicts)


def make_run(
    path: Path,
    tasks: dict[str, dict[str, Any]],
    *,
    model: str = "m",
    judge: dict[str, Any] = RULES,
    version: int = 1,
    answered: str | None = None,
) -> Path:
    """A finished run folder with these figures."""
    about = {"version": version, "protocol": "official", "judge": judge}
    write_json(
        path / "run.json",
        {
            "model": {"spec": f"hf:/home/someone/{model}", "kind": "hf", "name": model},
            "judge": judge["name"],
            "tasks": dict.fromkeys(tasks, about),
        },
    )
    write_json(path / "results.json", {"model": model, "judge": judge["name"], "tasks": tasks})
    reported = {"answered_by": answered} if answered else {}
    write_jsonl(
        path / "judgements.jsonl",
        ({"id": "0", "task": name, "status": "unscored", "judge": reported} for name in tasks),
    )
    return path


def add_answers(run: Path, right: list[bool], *, task: str = "t") -> Path:
    """Give a run folder its answers, three a video."""
    rows = [{"id": str(i), "task": task} for i in range(len(right))]
    write_jsonl(
        run / "predictions.jsonl",
        [row | {"video": f"v{i // 3}", "prediction": "x", "status": "ok"}
         for i, row in enumerate(rows)],
    )  # fmt: skip
    write_jsonl(
        run / "judgements.jsonl",
        [row | {"status": "scored", "correct": one, "score": 5 if one else 1}
         for row, one in zip(rows, right, strict=True)],
    )  # fmt: skip
    return run


def submit(run: Path, **said: Any) -> Path:
    """Make a run folder a submission."""
    content = {
        "version": 1, "name": "m", "organisation": "O", "link": "https://x.org/m", "params": None,
        "licence": "MIT", "submitted": "2026-11-02", "package": "0.1.0", "judge": "answer-match",
        "task_versions": {"t": 1}, "judge_prompt_hashes": {"t": None}, "files": {},
    }  # fmt: skip
    write_json(run / "submission.json", content | said)
    return run


class Page(HTMLParser):
    """Counts tags and collects texts; finds what a page would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in {"meta", "link", "img", "br", "input"}:
            self.open.append(tag)
        self.loads += [v or "" for k, v in attrs if k == "src"]
        self.links += [v or "" for k, v in attrs if k == "href"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_better_runs_come_first_and_the_mean_counts_all_tasks(tmp_path: Path) -> None:
    low = make_run(tmp_path / "a", {"t": figures(30, 90), "u": figures(60, 90)}, model="low")
    high = make_run(tmp_path / "b", {"t": figures(60, 90), "u": figures(45, 90)}, model="high")
    (group,) = collect_runs([low, high])["groups"]
    assert [row["model"] for row in group["rows"]] == ["high", "low"]
    mean = group["rows"][0]["mean"]
    errors = [group["rows"][0]["cells"][name]["accuracy"]["se"] for name in ("t", "u")]
    assert mean["value"] == pytest.approx((60 / 90 + 45 / 90) / 2)
    assert mean["se"] == pytest.approx((errors[0] ** 2 + errors[1] ** 2) ** 0.5 / 2)


def test_judges_are_never_in_one_table(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "rules", {"t": figures(9, 30)}),
        make_run(tmp_path / "newer", {"t": figures(9, 30)}, judge={**RULES, "hash": "b" * 16}),
        make_run(tmp_path / "march", {"t": figures(9, 30)}, judge=ENDPOINT, answered="gpt-0301"),
        make_run(tmp_path / "june", {"t": figures(9, 30)}, judge=ENDPOINT, answered="gpt-0613"),
        make_run(
            tmp_path / "elsewhere",
            {"t": figures(9, 30)},
            judge={**ENDPOINT, "endpoint": "http://two/v1"},
            answered="gpt-0613",
        ),
    ]
    board = collect_runs(runs)
    named = [[row["run"] for row in group["rows"]] for group in board["groups"]]
    assert named == [["rules"], ["newer"], ["march"], ["june", "elsewhere"]]
    assert board["groups"][3]["judge"]["answered_by"] == ["gpt-0613"]
    assert "Figures of different judges are in tables of their own" in render_page(board)


def test_another_task_version_or_prompt_is_another_column(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "one", {"t": figures(9, 30)}, judge=ENDPOINT),
        make_run(tmp_path / "two", {"t": figures(9, 30)}, judge=ENDPOINT, version=2),
        make_run(tmp_path / "three", {"t": figures(9, 30)}, judge={**ENDPOINT, "prompt_hash": "q"}),
    ]
    (group,) = collect_runs(runs)["groups"]
    assert [column["id"] for column in group["columns"]] == ["t", "t (2)", "t (3)"]
    assert [list(row["cells"]) for row in group["rows"]] == [["t"], ["t (2)"], ["t (3)"]]


def test_a_part_of_a_task_or_low_coverage_is_marked_and_not_ranked(tmp_path: Path) -> None:
    whole = make_run(tmp_path / "whole", {"t": figures(30, 300)}, model="whole")
    other = make_run(tmp_path / "other", {"t": figures(60, 300)}, model="other")
    part = make_run(tmp_path / "part", {"t": figures(29, 30)}, model="part")
    blind = make_run(tmp_path / "blind", {"t": figures(90, 300, unscored=100)}, model="blind")
    board = collect_runs([part, blind, whole, other])
    (group,) = board["groups"]
    assert [row["model"] for row in group["rows"]] == ["other", "whole", "part", "blind"]
    assert [row["cells"]["t"]["ranked"] for row in group["rows"]] == [True, True, False, False]
    page = render_page(board)
    assert "fewer questions: 30 of 300" in page
    assert "100 unscored: 30.0 to 63.3, coverage 66.7 %" in page
    assert page.count("Not ranked") == 1
    assert page.index("<b>20.0</b>") < page.index("Not ranked") < page.index("<b>96.7</b>")


def test_a_missing_task_leaves_no_mean(tmp_path: Path) -> None:
    both = make_run(tmp_path / "both", {"t": figures(9, 30), "u": figures(9, 30)})
    one = make_run(tmp_path / "one", {"t": figures(9, 30)})
    board = collect_runs([one, both])
    (group,) = board["groups"]
    assert [row["mean"] is None for row in group["rows"]] == [False, True]
    page = render_page(board)
    assert "not all tasks" in page
    assert "not run" in page


def test_the_page_loads_nothing_and_is_well_formed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"t": figures(9, 30, failed=4), "u": figures(0, 30)})
    write_leaderboard([run], tmp_path / "out")
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert page.loads == []
    assert all(each.startswith(("#", "judge-")) for each in page.links)
    assert page.tags.count("table") == 1
    policy = re.search(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", text)
    assert policy
    assert "http" not in re.sub(r"<!--.*?-->", "", text.replace(policy[0], ""))
    assert "@import" not in text
    assert "url(" not in text
    assert "someone" not in text
    (name,) = {each for each in page.links if each.startswith("judge-")}
    judge = Page((tmp_path / "out" / name).read_text(encoding="utf-8"))
    assert (judge.open, judge.loads) == ([], [])
    assert all(each.startswith(("index.html", "judge-", "#")) for each in judge.links)
    board = json.loads((tmp_path / "out" / "leaderboard.json").read_text(encoding="utf-8"))
    assert board == collect_runs([run])
    assert "someone" not in json.dumps(board)


def test_names_are_text_and_never_markup(tmp_path: Path) -> None:
    evil = '<script>alert("x")</script> & {{script}} {{'
    run = make_run(
        tmp_path / "run", {evil: figures(9, 30)}, model=evil, judge={**RULES, "name": evil}
    )
    text = render_page(collect_runs([run]))
    page = Page(text)
    assert page.tags.count("script") == 1
    assert text.count("{{script}}") >= 2
    assert any(evil in part for part in page.texts)


def test_a_link_of_another_kind_is_text_on_the_page(tmp_path: Path) -> None:
    """run.json may come from others."""
    run = make_run(tmp_path / "run", {"t": figures(9, 30)}, model="m")
    about = read_json(run / "run.json")
    about["model"] |= {"authors": "<i>A</i>", "link": "javascript:alert(1)"}
    write_json(run / "run.json", about)
    write_leaderboard([run], tmp_path / "out")
    text = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    assert not [each for each in Page(text).links if "javascript" in each]
    assert "m (javascript:alert(1))" in text
    assert "&lt;i&gt;A&lt;/i&gt;" in text
    assert "](" not in (tmp_path / "out/leaderboard.md").read_text(encoding="utf-8")
    assert "href" not in (tmp_path / "out/leaderboard.tex").read_text(encoding="utf-8")


def test_a_plain_http_link_and_a_date_that_is_none_are_not_shown_as_such(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"t": figures(9, 30)}, model="m")
    about = read_json(run / "run.json")
    about["model"]["link"] = "http://plain.example/m"
    write_json(run / "run.json", about | {"started": "<b>yesterday"})
    text = render_page(board := collect_runs([run]))
    assert not [each for each in Page(text).links if "plain.example" in each]
    assert "m (http://plain.example/m)" in text
    assert "yesterday" not in text
    assert board["groups"][0]["rows"][0]["date"] is None


def test_one_video_has_a_figure_without_an_interval(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"t": figures(1, 3)})
    page = render_page(collect_runs([run]))
    assert "<b>33.3</b></div>" in page
    assert 'class="scale"' not in page


@pytest.mark.parametrize("what", ["none", "twice", "empty", "unfinished"])
def test_what_cannot_be_shown_is_said_before_anything_is_written(tmp_path: Path, what: str) -> None:
    run = make_run(tmp_path / "run", {"t": figures(9, 30)})
    (tmp_path / "empty").mkdir()
    unfinished = make_run(tmp_path / "unfinished", {"t": figures(9, 30)})
    (unfinished / "results.json").unlink()
    runs, message = {
        "none": ([], "no run given"),
        "twice": ([run, tmp_path / "empty" / ".." / "run"], "given twice"),
        "empty": ([run, tmp_path / "empty"], "no run folder"),
        "unfinished": ([run, unfinished], "finish it"),
    }[what]
    with pytest.raises(UserError, match=message):
        write_leaderboard(runs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_writes_the_page(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from sharegptvideo.cli import app

    run = make_run(tmp_path / "run", {"t": figures(9, 30)})
    out = tmp_path / "out"
    found = CliRunner().invoke(app, ["leaderboard", str(run), "--out", str(out)])
    assert found.exit_code == 0, found.output
    assert found.stdout.strip() == str(out / "index.html")
    found = CliRunner().invoke(app, ["leaderboard", str(run), "--out", str(out), "--json"])
    assert json.loads(found.stdout) == json.loads((out / "leaderboard.json").read_text())
    found = CliRunner().invoke(app, ["leaderboard", "--submitted", "--out", str(out), "--json"])
    rows = [row for group in json.loads(found.stdout)["groups"] for row in group["rows"]]
    assert sorted(row["run"] for row in rows) == [path.name for path in submitted_runs()] != []
    assert all(row["submitted"] and row["link"].startswith("https://") for row in rows)
    found = CliRunner().invoke(app, ["leaderboard", str(tmp_path), "--out", str(out)])
    assert found.exit_code == 2
    assert "no run folder" in found.stderr


def test_markdown_has_a_row_a_task_and_survives_odd_names() -> None:
    results = {
        "tasks": {"t": figures(9, 30), "u|v": figures(0, 3, unscored=3)},
    }
    text = markdown_table(results)
    lines = text.splitlines()
    assert lines[2].startswith("| t | 30 | 10 | 0 | 0 | 30.0 ± ")
    assert lines[3].startswith("| u\\|v | 3 | 1 | 0 | 3 | – | – | 0.0 to 100.0 | – |")
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1


def test_estimates_read_as_per_cent_or_score() -> None:
    assert format_estimate({"value": 0.4875, "se": 0.0123}, share=True) == "48.8 ± 1.2"
    assert format_estimate({"value": 3.456, "se": None}, share=False) == "3.46"
    assert format_estimate({"value": None, "se": None}, share=True) == "–"


def test_the_tables_have_the_page_s_groups_and_marks(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "a", {"t": figures(30, 90), "u": figures(60, 90)}, model="low_1"),
        make_run(tmp_path / "b", {"t": figures(60, 90), "u": figures(3, 9)}, model="x|y"),
        make_run(tmp_path / "c", {"t": figures(45, 90)}, judge=ENDPOINT, answered="gpt-0613"),
    ]
    out = tmp_path / "out"
    board = write_leaderboard(runs, out)
    rows = list(csv.DictReader((out / "leaderboard.csv").open(encoding="utf-8")))
    assert [(row["model"], row["task"], row["ranked"]) for row in rows] == [
        ("low_1", "t", "True"),
        ("low_1", "u", "True"),
        ("x|y", "t", "True"),
        ("x|y", "u", "False"),
        ("m", "t", "True"),
    ]
    assert float(rows[0]["accuracy"]) == pytest.approx(1 / 3)
    assert "answered by gpt-0613" in rows[4]["judge"]
    assert "answer-match" in rows[0]["judge"]
    text = (out / "leaderboard.md").read_text(encoding="utf-8")
    assert text.count("## Judge: ") == len(board["groups"]) == 2
    first, second = text.split("## Judge: ")[1:]
    assert "| low_1 | – | 33.3 ± " in first
    assert re.search(r"\| x\\\|y \| – \| 66\.7 ± \S+ \| 33\.3 ± \S+\* \| – \|", first)
    assert "| m | – | 50.0 ± " in second
    tex = (out / "leaderboard.tex").read_text(encoding="utf-8")
    assert tex.count("\\begin{table}") == tex.count("\\end{table}") == 2
    assert "low\\_1 & -- & $33.3 \\pm " in tex
    assert "Model & Tier & t & u & Mean \\\\" in tex
    assert "Judge: openai:gpt · answered by gpt-0613" in tex


def test_the_published_table_stands_beside_the_runs_and_is_never_ranked(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"msvd_qa_official": figures(9, 30, failed=10)})
    out = tmp_path / "out"
    board = write_leaderboard([run], out, published=True)
    assert board["groups"] == collect_runs([run])["groups"]
    published = board["published"]
    assert [len(group["rows"]) for group in published["judges"]] == [7, 7, 7]
    row = published["judges"][1]["rows"][-1]
    assert (row["model"], row["mean"]) == ("LLaVA-Hound-DPO 7B", 0.7075)
    assert row["cells"]["tgif_qa_official"] == {"accuracy": 0.6138, "score": 3.46}
    rows = list(csv.DictReader((out / "leaderboard.csv").open(encoding="utf-8")))
    assert len(rows) == 1 + 3 * 7 * 3
    assert float(rows[0]["paper_accuracy"]) == pytest.approx(9 / 20)
    assert {each["ranked"] for each in rows[1:]} == {"False"}
    assert {each["accuracy"] for each in rows[1:]} == {""}  # not counted as ours are
    last = rows[-1]
    assert (last["judge"], last["paper_accuracy"], last["paper_score"]) == (
        "gpt-3.5-turbo-1106", "0.7002", "3.71",
    )  # fmt: skip
    assert last["published_in"].startswith("arXiv 2404.01258")
    text = (out / "index.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.tags.count("table") == 4
    assert text.count("Never ranked with runs") == 1
    assert text.count('class="figure best"') == 0
    (judge,) = out.glob("judge-*.html")
    assert "45.00 / " in judge.read_text(encoding="utf-8")  # by the paper's counting
    drift = Page((out / "drift.html").read_text(encoding="utf-8"))
    assert (drift.open, drift.loads) == ([], [])
    assert {"74.8", "62.6", "12.2"} <= set(drift.texts)  # LLaVA-Hound-SFT, and its range
    assert "0.59" in drift.texts  # tau of MSRVTT by 0301 and 0613: 12 / √(21 · 20)
    study = csv.DictReader((ROOT / "docs/study/judge_drift.csv").open(encoding="utf-8"))
    assert {row["level"] for row in study} <= set(drift.texts)
    markdown = (out / "leaderboard.md").read_text(encoding="utf-8")
    assert "| LLaVA-Hound-SFT 7B | 85.65 / 4.10 | 73.85 / 3.62 | 64.98 / 3.65 | 74.83 |" in markdown
    tex = (out / "leaderboard.tex").read_text(encoding="utf-8")
    assert tex.count("\\begin{table}") == tex.count("\\end{table}") == 4
    assert "published" not in write_leaderboard([run], out)
    assert not (out / "drift.html").exists()


def test_runs_of_earlier_versions_have_no_paper_score(tmp_path: Path) -> None:
    old = figures(9, 30)
    del old["paper_score"], old["paper_n"]
    board = write_leaderboard(
        [make_run(tmp_path / "r", {"t": old})], tmp_path / "o", published=True
    )
    assert board["groups"][0]["rows"][0]["cells"]["t"]["paper_score"] is None


def test_a_panel_s_members_are_named_one_by_one(tmp_path: Path) -> None:
    members = [{"name": "openai:a"}, {"name": "exact"}]
    judge = {"name": "panel:openai:a,exact", "kind": "panel", "members": members}
    run = make_run(tmp_path / "run", {"t": figures(9, 30)}, judge=judge)
    reported = [
        {"name": "openai:a", "judge": {"answered_by": f"a-{n}"}} | {"status": "scored"}
        for n in (2, 1)
    ]
    write_jsonl(
        run / "judgements.jsonl",
        (
            {
                "id": str(n),
                "task": "t",
                "status": "unscored",
                "judge": {"answered_by": "a, exact", "members": [member]},
            }
            for n, member in enumerate(reported)
        ),
    )
    (group,) = collect_runs([run])["groups"]
    assert group["judge"]["answered_by"] == ["a-1", "a-2"]
    page = render_page({"groups": [group]})
    assert "members openai:a, exact" in page


def test_none_right_is_told_with_its_interval(tmp_path: Path) -> None:
    """0 of 18 on six videos: no spread was seen, so an interval stands for the error."""
    run = make_run(tmp_path / "a", {"t": figures(0, 18)}, model="wrong")
    board = collect_runs([run])
    (row,) = board["groups"][0]["rows"]
    low, high = row["cells"]["t"]["accuracy"]["ci95"]
    assert (low, f"{100 * high:.1f}") == (0, "52.4")
    assert "| wrong | – | 0.0 (0.0 to 52.4) |" in board_markdown(board)
    assert "wrong & -- & 0.0 (0.0--52.4)" in board_latex(board)
    assert "0.0 to 52.4" in render_page(board)


def test_a_changed_task_file_has_a_column_of_its_own(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, {"t": figures(9, 30)}, model=name) for name in ("a", "b")]
    about = read_json(runs[1] / "run.json")
    about["tasks"]["t"]["task_hash"] = "other"
    write_json(runs[1] / "run.json", about)
    (group,) = collect_runs(runs)["groups"]
    assert [column["id"] for column in group["columns"]] == ["t", "t (2)"]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_index_sorts_filters_and_keeps_both_in_its_address(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "a", {"t": figures(60, 90)}, model="best"),
        make_run(tmp_path / "b", {"t": figures(30, 90)}, model="worst"),
        make_run(tmp_path / "c", {"u": figures(45, 90)}, model="absent"),
        make_run(tmp_path / "d", {"t": figures(50, 90)}, model="other", judge=ENDPOINT),
    ]
    submit(runs[1], organisation="Two Labs", params=7 * 10**9, licence="closed", name="worst")
    index = tmp_path / "out" / "index.html"
    write_leaderboard(runs, index.parent)
    rows = (
        "[...document.querySelectorAll('tbody tr')].filter((row) => row.offsetParent)"
        ".map((row) => row.cells[0].dataset.value)"
    )

    with Browser(tmp_path / "profile") as browser:

        def heads(number: int) -> str:
            head = f"document.querySelectorAll('thead th')[{number}]"
            browser.run(f"{head}.querySelector('button').focus()")
            browser.press("\r")
            return str(browser.run(f"{head}.getAttribute('aria-sort')"))

        def choose(name: str, value: str) -> list[str]:
            field = f"document.forms.filters.elements.namedItem('{name}')"
            browser.run(f"{field}.value = '{value}'")
            browser.run(f"{field}.dispatchEvent(new Event('input', {{bubbles: true}}))")
            return list(browser.run(rows))

        browser.open(index)
        assert browser.run(rows) == ["best", "worst", "absent", "other"]
        t = browser.run("[...document.querySelectorAll('thead th')].findIndex("
                        "(head) => head.innerText.startsWith('t'))")  # fmt: skip
        assert (heads(t), heads(t)) == ("descending", "ascending")
        assert browser.run(rows) == ["worst", "best", "absent", "other"]
        assert choose("task", "u") == ["absent"]
        hidden = "[...document.querySelectorAll('thead th')].filter((head) => head.hidden).length"
        assert browser.run(hidden) == 2  # of t, in both tables
        assert choose("task", "") == ["worst", "best", "absent", "other"]
        assert choose("licence", "closed") == ["worst"]
        assert browser.run("document.getElementById('count').textContent") == "1 of 4 rows"
        assert choose("licence", "not stated") == ["best", "absent", "other"]
        assert choose("words", "OTHER m") == []
        assert choose("words", "run  d") == ["other"]
        query = browser.run("location.search")
        assert query == f"?licence=not+stated&words=run++d&sort=0.{t}.ascending"
        browser.open(index, query + "#answer-match")
        assert browser.run(rows) == ["other"]
        browser.run("document.forms.filters.reset()")
        browser.wait(f"{rows}.length === 4")
        assert browser.run(rows) == ["worst", "best", "absent", "other"]
        browser.resize(400, 800)
        for page in ("index.html", *(each.name for each in index.parent.glob("judge-*.html"))):
            browser.open(index.parent / page)
            assert browser.run("document.documentElement.scrollWidth <= innerWidth"), page
        assert browser.problems == []


def test_a_run_with_a_limit_is_a_part_and_never_ranked(tmp_path: Path) -> None:
    """Even alone in its column, where no other run shows that there are more questions."""
    runs = [make_run(tmp_path / name, {"t": figures(9, 9)}) for name in ("old", "new", "drawn")]
    for path, data, task, seeds in (
        (runs[0], {"limit": 9}, {}, {}),
        (runs[1], {"limit": None}, {"limit": 9}, {}),
        (runs[2], {}, {"limit": 9}, {"questions": 1}),
    ):
        about = read_json(path / "run.json")
        about |= {"data": data, "seeds": seeds}
        about["tasks"]["t"] |= task
        write_json(path / "run.json", about)
    board = write_leaderboard(runs, tmp_path / "board")
    (group,) = board["groups"]
    parts = {row["run"]: row["cells"]["t"] for row in group["rows"]}
    assert not any(cell["ranked"] for cell in parts.values())
    assert parts["old"]["part"] == parts["new"]["part"]
    assert parts["old"]["part"] == "a part of the task: the first 9 questions (--limit)"
    assert parts["drawn"]["part"] == "a part of the task: 9 questions drawn (--limit)"
    page = (tmp_path / "board/index.html").read_text(encoding="utf-8")
    assert page.count("a part of the task: the first 9 questions") == 2
    assert "Content-Security-Policy" in page
    rows = list(csv.DictReader((tmp_path / "board/leaderboard.csv").open(encoding="utf-8")))
    assert {row["ranked"] for row in rows} == {"False"}
    # A limit above what the task has cut nothing.
    whole = make_run(tmp_path / "whole", {"t": figures(9, 9)})
    write_json(whole / "run.json", read_json(whole / "run.json") | {"data": {"limit": 10}})
    (group,) = collect_runs([whole])["groups"]
    assert group["rows"][0]["cells"]["t"]["ranked"]


def test_accuracy_by_question_type_is_on_the_page(tmp_path: Path) -> None:
    rows = [{"id": str(i), "video": f"v{i}", "type": "what" if i < 4 else "who"} for i in range(6)]
    ok = {str(i): {"status": "ok"} for i in range(6)}
    verdicts = {str(i): {"status": "scored", "correct": i < 3, "score": 3} for i in range(6)}
    scored = score_task(rows, ok, verdicts)
    kinds = scored["by_question_type"]
    assert {kind: one["n"] for kind, one in kinds.items()} == {"what": 4, "who": 2}
    assert [kinds[kind]["accuracy"]["value"] for kind in ("what", "who")] == [0.75, 0.0]
    write_leaderboard([make_run(tmp_path / "run", {"t": scored})], tmp_path / "out")
    (judge,) = (tmp_path / "out").glob("judge-*.html")
    texts = [text.strip() for text in Page(judge.read_text(encoding="utf-8")).texts]
    assert texts.index("what") < texts.index("who") < texts.index("75.0") < texts.index("0.0")


def ranked_runs(folder: Path) -> list[Path]:
    """Three runs on eight videos, three questions each: right on all, on five videos, on none."""
    return [
        add_answers(
            make_run(folder / name, {"t": figures(right, 24)}, model=name),
            [n < right for n in range(24)],
        )
        for name, right in (("a", 24), ("c", 15), ("b", 0))
    ]


def test_tiers_are_in_every_file(tmp_path: Path) -> None:
    """As in `test_tiers_by_hand`: p by signs 1/128, 1/4 and 1/16, after Holm 3/128, 1/4, 1/8."""
    board = write_leaderboard(ranked_runs(tmp_path), tmp_path / "out")
    (group,) = board["groups"]
    assert [(row["model"], row["tier"]) for row in group["rows"]] == [
        ("a", {"number": 1, "reach": [1, 1]}),
        ("c", {"number": 1, "reach": [1, 2]}),
        ("b", {"number": 2, "reach": [1, 2]}),
    ]
    p_holm = {(pair["first"], pair["second"]): pair["p_holm"] for pair in group["pairs"]["t"]}
    assert p_holm == pytest.approx({("a", "b"): 3 / 128, ("a", "c"): 1 / 4, ("c", "b"): 1 / 8})
    page = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    cells = re.findall(
        r'<b>(\d)</b>(?: <span class="se">([^<]*)</span>)?</td>'
        r'<td data-value="[0-9.]+"><div class="figure( best)?">',
        page,
    )
    assert cells == [("1", "", " best"), ("1", "(1 to 2)", " best"), ("2", "(1 to 2)", "")]
    rows = list(csv.DictReader((tmp_path / "out/leaderboard.csv").open(encoding="utf-8")))
    assert [(row["model"], row["tier"], row["tier_from"]) for row in rows] == [
        ("a", "1", "1"), ("c", "1", "1"), ("b", "2", "1"),
    ]  # fmt: skip
    # Five of eight videos: squares 15/8, se² = 8/7 · 15/8 / 8²
    assert "| c | 1 (1 to 2) | 62.5 ± 18.3 |" in (tmp_path / "out/leaderboard.md").read_text(
        "utf-8"
    )
    tex = (tmp_path / "out/leaderboard.tex").read_text("utf-8")
    assert "c & 1 (1 to 2) & $62.5 \\pm 18.3$" in tex
    (judge,) = (tmp_path / "out").glob("judge-*.html")
    assert "t: 1 of 3 pairs differ" in judge.read_text(encoding="utf-8")


def test_bars_lie_on_one_axis_a_column(tmp_path: Path) -> None:
    """40 and 60 of 100 on many videos: the axis ends where round ticks enclose the intervals."""
    runs = [make_run(tmp_path / str(n), {"t": figures(n, 300)}) for n in (120, 180)]
    ends = [
        end
        for row in collect_runs(runs)["groups"][0]["rows"]
        for end in row["cells"]["t"]["figure"]["ci95"]
    ]
    assert 0.3 < min(ends) < max(ends) < 0.7
    page = render_page(collect_runs(runs))
    axis = re.search(r'class="axis-ends" aria-hidden="true">(.*?)</span>', page)
    assert axis is not None
    assert re.findall(r">([0-9.]+)<", axis[1]) == ["30.0", "50.0", "70.0"]
    # 0.6 and 0.4 on an axis from 0.3 to 0.7
    assert re.findall(r'<u style="left:([0-9.]+)%">', page) == ["75.00", "25.00"]


def test_what_is_withdrawn_or_under_other_settings_stays_unranked(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, {"t": figures(n, 9)}, model=name)
            for name, n in (("own", 3), ("gone", 9), ("changed", 8))]  # fmt: skip
    submit(runs[1], name="gone", withdrawn={"date": "2026-11-03", "reason": "wrong weights"},
           contamination="12 test videos of MSVD")  # fmt: skip
    about = read_json(runs[2] / "run.json")
    about["tasks"]["t"]["settings_changed"] = {"frames": [8, 32]}
    write_json(runs[2] / "run.json", about | {"started": "2026-10-01T10:00:00+00:00"})
    board = write_leaderboard(runs, tmp_path / "out")
    (group,) = board["groups"]
    rows = {row["model"]: row for row in group["rows"]}
    assert [row["ranked"] for row in rows.values()] == [True, False, False]
    assert rows["gone"]["cells"]["t"]["apart"] == "withdrawn: 2026-11-03, wrong weights"
    assert rows["changed"]["cells"]["t"]["apart"] == (
        "other settings than the task's: frames 32 (the task's: 8)"
    )
    assert (rows["changed"]["date"], rows["gone"]["date"]) == ("2026-10-01", "2026-11-02")
    page = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    assert page.index("own") < page.index("Not ranked") < page.index("wrong weights")
    (judge,) = (tmp_path / "out").glob("judge-*.html")
    text = judge.read_text(encoding="utf-8")
    assert "12 test videos of MSVD" in text
    assert "Of 2 rows it is not known whether test videos were in training." in text


def test_history_says_since_when_a_row_is_the_best(tmp_path: Path) -> None:
    runs = []
    for name, right, date in (("d", 50, "2026-04-01"), ("a", 30, "2026-01-01"),
                              ("c", 40, "2026-03-01"), ("b", 45, "2026-02-01")):  # fmt: skip
        run = make_run(tmp_path / name, {"t": figures(right, 90)}, model=name)
        runs.append(submit(run, name=name, submitted=date))
    (group,) = collect_runs(runs)["groups"]
    assert [(entry["date"], entry["row"]) for entry in group["best"]["t"]] == [
        ("2026-01-01", "a"), ("2026-02-01", "b"), ("2026-04-01", "d"),
    ]  # fmt: skip


def test_cost_is_per_question_at_list_prices(tmp_path: Path) -> None:
    """4 answers of 2,000 + 100 tokens at 2.50 and 10 dollars per million: 0.006 each."""
    scored = figures(3, 6) | {"usage": {"n": 4, "prompt_tokens": 8000, "completion_tokens": 400}}
    run = make_run(tmp_path / "run", {"t": scored})
    about = read_json(run / "run.json")
    about["model"] = {"spec": "openai:gpt-4o", "name": "gpt-4o",
                      "endpoint": "https://api.openai.com/v1"}  # fmt: skip
    about["tasks"]["t"]["frames"] = 16
    write_json(run / "run.json", about)
    other = make_run(tmp_path / "other", {"t": figures(2, 6)})
    write_leaderboard([run, other], tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out/leaderboard.csv").open(encoding="utf-8")))
    assert (rows[0]["frames"], rows[0]["tokens_per_question"]) == ("16", "2100.0")
    assert float(rows[0]["dollars_per_question"]) == pytest.approx(0.006)
    assert (rows[1]["frames"], rows[1]["dollars_per_question"]) == ("", "")
    (judge,) = (tmp_path / "out").glob("judge-*.html")
    assert "$6.00" in judge.read_text(encoding="utf-8")


def test_a_row_is_efficient_where_none_has_more_for_no_more() -> None:
    points = [(8, 0.5), (4, 0.4), (16, 0.5), (8, 0.3), (32, 0.9), (4, 0.4)]
    assert frontier(points) == [1, 5, 0, 4]


def test_latex_escapes_all_that_is_the_submitters(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"t": figures(9, 30)})
    submit(run, name="50% & more_{\\}#$~^", organisation="A_B", link="https://x.org/~a_b#c%20d")
    tex = board_latex(collect_runs([run]))
    assert (
        r"\href{https://x.org/\%7Ea\_b\#c\%20d}"
        r"{50\% \& more\_\{\textbackslash{}\}\#\$\textasciitilde{}\textasciicircum{}}, A\_B & -- & "
    ) in tex


def test_pairs_have_tiers_of_their_own(tmp_path: Path) -> None:
    """24 pairs on eight videos, both answers right in 24, 15 and none of them: as the rows of
    `test_tiers_are_in_every_file`, though all have at least one answer of each pair right.
    """
    runs = []
    for name, both in (("a", range(24)), ("c", range(15)), ("b", range(0))):
        right = [n % 2 == 0 or n // 2 in both for n in range(48)]
        scored = figures(sum(right), 48)
        pairs = {"value": len(both) / 24, "se": None, "ci95": None, "n": 24}
        scored |= {"headline": "pair_accuracy", "pair_accuracy": pairs, "chance": 0.25}
        run = add_answers(make_run(tmp_path / name, {"t": scored}, model=name), right)
        rows = [row for _, row in read_jsonl(run / "predictions.jsonl")]
        paired = [row | {"pair": str(n // 2), "video": f"v{n // 6}"} for n, row in enumerate(rows)]
        write_jsonl(run / "predictions.jsonl", paired)
        runs.append(run)
    board = write_leaderboard(runs, tmp_path / "out")
    (group,) = board["groups"]
    (column,) = group["columns"]
    assert (column["headline"], column["chance"]) == ("pair_accuracy", 0.25)
    assert [(row["model"], row["tier"]["number"]) for row in group["rows"]] == [
        ("a", 1), ("c", 1), ("b", 2),
    ]  # fmt: skip
    assert {pair["n"] for pair in group["pairs"]["t"]} == {24}
    page = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    assert "pairs right · 48 questions · official · v1 · chance 25.0 %" in page
    assert "| t, pairs right (48) |" in (tmp_path / "out/leaderboard.md").read_text("utf-8")


@pytest.mark.parametrize(("key", "scale", "text"), [("score", 5, "3.75"), ("f1", 1, "75.0")])
def test_scores_and_f1_have_tiers(tmp_path: Path, key: str, scale: int, text: str) -> None:
    """Eight videos: a has 3/4 of the scale on all, c 1/2 on three of them, b 1/4 on all."""
    runs = []
    for name, values in (("a", [0.75] * 8), ("c", [0.75] * 5 + [0.5] * 3), ("b", [0.25] * 8)):
        scores = [scale * value for value in values for _ in range(3)]
        figure = {"value": sum(scores) / 24, "se": 0.1, "ci95": None, "n": 24}
        scored = figures(24, 24) | {"headline": key, key: figure, "chance": None}
        run = add_answers(make_run(tmp_path / name, {"t": scored}, model=name), [True] * 24)
        rows = [row for _, row in read_jsonl(run / "judgements.jsonl")]
        given = [row | {"score": score} for row, score in zip(rows, scores, strict=True)]
        write_jsonl(run / "judgements.jsonl", given)
        runs.append(run)
    (group,) = write_leaderboard(runs, tmp_path / "out")["groups"]
    assert [(row["model"], row["tier"]["number"]) for row in group["rows"]] == [
        ("a", 1), ("c", 1), ("b", 2),
    ]  # fmt: skip
    assert f"<b>{text}</b>" in (tmp_path / "out/index.html").read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
def test_latex_is_compiled(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"t_1": figures(9, 30)})
    submit(run, name="50% & more_{\\}#$~^ é \\input{x} --", organisation="A_B ± – … “q” · |",
           link="https://x.org/~a_b#c%20d")  # fmt: skip
    write_leaderboard([run], tmp_path / "out", published=True)
    text = (tmp_path / "out/leaderboard.tex").read_text(encoding="utf-8")
    (tmp_path / "page.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs,hyperref}\\begin{document}\n"
        f"{text}\\end{{document}}\n",
        encoding="utf-8",
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-draftmode", "page.tex"]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout[-2000:]
