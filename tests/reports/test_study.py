"""The report of a study: verdicts after Holm, its files, and what it says of what was not run."""

from __future__ import annotations

import csv
import json
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from sharegptvideo._io import write_json
from sharegptvideo.data.load import read_rows
from sharegptvideo.errors import UserError
from sharegptvideo.reports.study import write_study
from tests.support.browser import CHROMIUM, Browser
from tests.support.study_results import (
    JUDGE_LEVELS,
    experiment,
    judge_quality,
    level,
    results,
    settings,
    write_results,
)

EVIL = '<img src=x onerror="document.title=1">|`x`'


def contrasts(study: Path, out: Path) -> dict[str, dict[str, Any]]:
    """The rows of contrasts.csv, by experiment."""
    write_study(study, out)
    with (out / "contrasts.csv").open(encoding="utf-8", newline="") as file:
        return {row["experiment"]: row for row in csv.DictReader(file)}


def one(name: str, number: int, expect: str = "less", **contrast: Any) -> dict[str, Any]:
    """Results whose contrast has such figures."""
    about = experiment(name, number)
    about["contrast"]["expect"] = expect
    return results(about, [level("a", 0.1, 0.02), level("b", 0.15, 0.02)], contrast)


def test_the_world_is_shown_where_the_study_kept_one(small_world: Path, tmp_path: Path) -> None:
    study = write_results(tmp_path / "study", judge_quality())
    world = study / "stages" / "world-0"
    shutil.copytree(small_world, world)
    write_json(world / "done.json", {"seconds": 1.0})
    write_study(study, tmp_path / "out")
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    files = re.findall(r'<video src="([^"]+)"', text)
    assert len(files) == 2
    for file in files:
        copy = tmp_path / "out" / file
        assert copy.read_bytes() == (world / "videos" / copy.name).read_bytes()
    first = next(iter(read_rows("synthetic_qa", data_dir=world, split="test")))
    for words in (first["question"], first["answer"], first["caption"]):
        assert words in text
    readme = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert f"[{Path(files[0]).stem}]({files[0]})" in readme


class Page(HTMLParser):
    """The ids, links and elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id" and value:
                self.ids.append(value)
            if name in {"href", "src"} and value:
                self.links.append(value)


def test_holm_over_all_declared_contrasts(tmp_path: Path) -> None:
    # Of 0.01, 0.02, 0.04: 3 · 0.01 = 0.03, 2 · 0.02 = 0.04, 1 · 0.04 = 0.04. Equivalence: of
    # 0.6, 0.9, 0.02: 3 · 0.02 = 0.06, 2 · 0.6 = 1.2, so 1, and 1.
    study = write_results(
        tmp_path / "study",
        one("first", 1, p_value=0.01, p_equivalence=0.6, value=-0.05),
        one("second", 2, "more", p_value=0.02, p_equivalence=0.9, value=-0.07),
        one("third", 3, "no_effect", p_value=0.04, p_equivalence=0.02, value=-0.01),
    )
    rows = contrasts(study, tmp_path / "out")
    assert [float(row["p_holm"]) for row in rows.values()] == pytest.approx([0.03, 0.04, 0.04])
    equal = [float(row["p_equivalence_holm"]) for row in rows.values()]
    assert equal == pytest.approx([1.0, 1.0, 0.06])
    # Less was declared and is; more was declared and it is less; a difference where none was.
    assert [row["verdict"] for row in rows.values()] == ["supported", "refuted", "refuted"]
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    # Before the correction the third is within 3 points.
    assert text.count("Without the correction it would be supported.") == 1


@pytest.mark.parametrize(
    ("expect", "figures", "verdict"),
    [
        ("less", {"p_value": 0.2, "p_equivalence": 0.3}, "open"),
        ("less", {"p_value": 0.2, "p_equivalence": 0.01, "value": -0.01}, "refuted"),
        ("more", {"p_value": 0.001, "value": 0.05}, "supported"),
        ("more", {"p_value": 0.001, "p_equivalence": 0.01, "value": 0.01}, "supported"),
        ("no_effect", {"p_value": 0.001, "p_equivalence": 0.01, "value": 0.01}, "supported"),
        ("no_effect", {"p_value": 0.3, "p_equivalence": 0.2}, "open"),
        ("less", {"p_value": None, "p_equivalence": None, "holds": None}, "open"),
        ("less", {"p_value": None, "p_equivalence": None, "holds": False}, "refuted"),
    ],
)
def test_verdicts_of_one_contrast(
    tmp_path: Path, expect: str, figures: dict[str, Any], verdict: str
) -> None:
    study = write_results(tmp_path / "study", one("it", 1, expect, **figures))
    assert contrasts(study, tmp_path / "out")["it"]["verdict"] == verdict
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    small = expect == "more" and "p_equivalence" in figures
    assert ("shown to be smaller than 3 points" in text) == small


def test_more_declared_contrasts_leave_one_open(tmp_path: Path) -> None:
    study = tmp_path / "study"
    write_results(study, one("first", 1, p_value=0.03))
    assert contrasts(study, tmp_path / "out")["first"]["verdict"] == "supported"
    write_results(study, one("second", 2, p_value=0.5))
    row = contrasts(study, tmp_path / "out")["first"]
    assert (row["p_value"], row["p_holm"], row["verdict"]) == ("0.03", "0.06", "open")


def test_the_files_and_what_they_hold(tmp_path: Path) -> None:
    study = write_results(tmp_path / "study", judge_quality(), settings())
    write_json(study / "stages" / "dpo-1" / "done.json", {"seconds": 3600.0})
    write_json(study / "stages" / "dpo-2" / "done.json", {"seconds": 5400.0})
    out = tmp_path / "out"
    (out / "mine").mkdir(parents=True)
    write_study(study, out)
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert files == {
        "README.md", "breaks.csv", "contrasts.csv", "figures/breaks.svg",
        "figures/judge_quality.svg", "figures/settings.svg", "index.html",
        "judge_quality.by_kind.csv", "judge_quality.csv", "settings.csv", "study.json",
    }  # fmt: skip
    assert (out / "mine").is_dir()
    lines = (out / "judge_quality.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "level,group,kappa,n_seeds,gain,low,high,gains"
    assert (
        lines[2]
        == '10 % of verdicts flipped,flipped evenly,0.68,5,0.118,0.088,0.148,"[0.118, 0.118]"'
    )
    assert len(lines) == 1 + len(JUDGE_LEVELS)
    breaks = (out / "breaks.csv").read_text(encoding="utf-8").splitlines()
    assert breaks[0] == "number,experiment,title,level,kappa,gain,low,high"
    assert breaks[14].startswith(
        '14,judge_quality,How good must the judge be?,"SmolLM2-135M, 60 questions",0.02,-0.008,'
    )
    kept = json.loads((out / "study.json").read_text(encoding="utf-8"))
    assert [each["name"] for each in kept["experiments"]] == ["judge_quality", "settings"]
    assert kept["work"] == {"pieces": 2, "seconds": 9000.0}
    assert "keeps 2 pieces of work; together, each once, they took 2.50 hours" in (
        out / "README.md"
    ).read_text(encoding="utf-8")


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    study = write_results(tmp_path / "study", judge_quality(), settings())
    for name in ("one", "two"):  # apart: pages beside each other lead to one another
        write_study(study, tmp_path / name / "report")
    files = sorted(path for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) == 11
    for file in files:
        other = tmp_path / "two" / file.relative_to(tmp_path / "one")
        assert file.read_bytes() == other.read_bytes(), file


def test_links_lead_somewhere_and_the_limits_come_first(tmp_path: Path) -> None:
    study = write_results(tmp_path / "study", judge_quality(), settings())
    write_study(study, tmp_path / "out", [experiment("later", 7)])
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    assert len(page.links) >= 8
    markdown = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    links = page.links + Page(markdown).links + re.findall(r"\]\(([^)]+)\)", markdown)
    assert {"#judge_quality", "#later", "figures/breaks.svg", "settings.csv"} <= set(links)
    for link in links:
        if link.startswith("#"):
            assert link[1:] in page.ids
            assert f'<a id="{link[1:]}">' in markdown
        else:
            assert (tmp_path / "out" / link).is_file(), link
    first = re.search(r'<p class="lead">(.*?)</p>', text)
    assert first
    assert first[1].startswith("These experiments are about the mechanism, in a rendered world")
    assert markdown.splitlines()[2].startswith("These experiments are about the mechanism")


def test_every_drawing_is_a_file_of_its_own(tmp_path: Path) -> None:
    study = write_results(tmp_path / "study", judge_quality(), settings())
    write_study(study, tmp_path / "out")
    drawings = {}
    for file in sorted((tmp_path / "out" / "figures").glob("*.svg")):
        root = ElementTree.fromstring(file.read_text(encoding="utf-8"))
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        drawings[file.stem] = list(root.itertext())
    assert "captions lie" in drawings["judge_quality"]  # in the legend
    # One number a condition in the figure of all of them.
    numbers = {text for text in drawings["breaks"] if re.fullmatch(r"\d+", text)}
    assert {str(place) for place in range(1, 15)} <= numbers
    assert "2e-5, beta 0.1" in drawings["settings"]


def test_what_was_not_run_or_in_part_says_so(tmp_path: Path) -> None:
    part = one("part", 2) | {"seeds": [0, 1, 2], "state": "part"}
    part["contrast"] |= {"n_seeds": 3}
    alone = one("alone", 3, p_value=None, p_equivalence=None, seeds_needed=None, ci95=None,
                holds=None, n_seeds=1, seed_sd=None)  # fmt: skip
    alone |= {"seeds": [0], "scale": "tiny", "table": [level("a", 0.1, None)]}
    costs = results(experiment("costs", 4, seeds=1), [{"level": "a", "gain": 1, "low": None,
                    "high": None}], None)  # fmt: skip
    study = write_results(tmp_path / "study", part, alone, costs)
    changed = experiment("part", 2)
    changed["contrast"] = changed["contrast"] | {"expect": "more"}
    whole = write_study(study, tmp_path / "out", [experiment("never", 1), changed])
    assert {each["name"]: each["state"] for each in whole["experiments"]} == {
        "never": "not run",
        "part": "3 of 5 seeds",
        "alone": "1 of 5 seeds, scale tiny",
        "costs": "1 seed",
    }
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    sections = {match[1]: match[0] for match in re.finditer(r"## \d\. Title of (\w+).*?(?=\n## )",
                text, re.DOTALL)}  # fmt: skip
    assert "<b>State:</b> not run." in sections["never"]
    assert "3 of 5 seeds" in sections["part"]
    assert "has come to declare another comparison" in sections["part"]
    assert "no test: it takes two seeds" in sections["alone"]
    assert "No intervals: they take two seeds that differ." in sections["alone"]
    assert "no comparison over seeds" in sections["costs"]
    assert "study run part --out STUDY --seeds 3" in text
    assert "study run alone --out STUDY --scale tiny --seeds 1" in text


def test_names_of_others_are_no_markup(tmp_path: Path) -> None:
    about = experiment("it", 1, title=EVIL, question=EVIL, figure=EVIL, notes=[EVIL])
    about["contrast"] = {"of": EVIL, "against": "", "expect": "less", "refuted_by": EVIL}
    breaks = [{"level": EVIL, "kappa": 0.5, "gain": 0.1, "low": None, "high": None}]
    made = results(about, [level(EVIL, 0.1, 0.02, group=EVIL)], {}, chart={"series": "group"},
                   says=[EVIL, EVIL], breaks=breaks, tables={"more": [{EVIL: EVIL}]})  # fmt: skip
    study = write_results(tmp_path / "study", made)
    write_study(study, tmp_path / "out")
    assert "img" not in Page((tmp_path / "out" / "index.html").read_text(encoding="utf-8")).tags
    markdown = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "img" not in Page(markdown).tags
    for line in markdown.splitlines():
        if line.startswith("| ") and "onerror" in line and "1. " not in line:
            assert len(re.findall(r"(?<!\\)\|", line)) in {2, 6, 8, 9}, line


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "it.json:1: not JSON"),
        ("[]", "it.json: "),
        ('{"table": []}', "experiment: Field required"),
        ({"seeds": "x"}, "it.json: seeds"),
        ({"charts": [{"form": "pie", "x": "level", "y": "gain"}]}, "charts.0.form"),
        ({"charts": [{"form": "points", "x": "level", "y": "gone"}]}, "column gone"),
        ({"charts": [{"form": "points", "x": "level", "y": "level"}]}, "must be a number"),
        ({"breaks": [{"level": "a", "kappa": 0.5}]}, "gain of breaks is missing"),
        ({"tables": {"../up": []}}, "tables"),
        ({"experiment": experiment("other", 1)}, "the results of other"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path: Path, content: Any, problem: str) -> None:
    folder = tmp_path / "study" / "results"
    folder.mkdir(parents=True)
    if isinstance(content, str):
        (folder / "it.json").write_text(content, encoding="utf-8")
    else:
        write_json(folder / "it.json", one("it", 1) | content)
    with pytest.raises(UserError) as raised:
        write_study(tmp_path / "study", tmp_path / "out")
    assert problem in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_no_study_and_no_results(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        write_study(tmp_path / "none", tmp_path / "out")
    with pytest.raises(UserError, match="first run sharegptvideo study run NAME --out"):
        write_study(tmp_path, tmp_path / "out")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_it_fits_a_phone(tmp_path: Path) -> None:
    study = write_results(tmp_path / "study", judge_quality(), settings())
    write_study(study, tmp_path / "out")
    with Browser(tmp_path / "profile", width=400) as browser:
        browser.open(tmp_path / "out" / "index.html")
        assert browser.run("document.documentElement.scrollWidth") <= 400
        # No two labels of rows meet, and none leaves the page.
        boxes = browser.run(
            "[...document.querySelectorAll('#judge_quality svg .name')].map((name) => {"
            " const box = name.getBoundingClientRect(); return [box.left, box.top, box.bottom]; })"
        )
        assert len(boxes) > 14
        assert all(left >= 0 for left, _, _ in boxes)
        tops = sorted((top, bottom) for _, top, bottom in boxes)
        assert all(below[0] - above[0] > 8 for above, below in pairwise(tops))
        assert browser.problems == []


def test_a_training_that_two_experiments_share_is_one_point(tmp_path: Path) -> None:
    point = {"level": "as it is", "kappa": 0.9, "gain": 0.3, "low": 0.2, "high": 0.4}
    for name, number, breaks in (
        ("first", 1, [point, {**point, "level": "worse", "gain": 0.1}]),
        ("second", 2, [{**point, "level": "the clip itself"}]),
    ):
        about = experiment(name, number)
        table = [level("a", 0.1, 0.02), level("b", 0.15, 0.02)]
        write_results(tmp_path / "study", results(about, table, {}, breaks=breaks))
    write_study(tmp_path / "study", tmp_path / "out")
    with (tmp_path / "out" / "breaks.csv").open(encoding="utf-8", newline="") as file:
        rows = [(row["experiment"], row["level"]) for row in csv.DictReader(file)]
    assert rows == [("first", "as it is"), ("first", "worse")]
