"""The page of two judges: its figures are those of agreement.json, and it loads nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from PIL import Image

from sharegptvideo._io import read_json
from sharegptvideo.eval.preferences import PreferenceAgreement
from sharegptvideo.reports.agreement import save_agreement, save_preferences


def _figure(value: float, low: float, high: float) -> dict[str, Any]:
    return {"value": value, "se": None, "ci95": [low, high]}


def _task(**more: Any) -> dict[str, Any]:
    return {
        "n": 20, "n_clusters": 10,
        "accuracy": [_figure(0.5, 0.4, 0.6), _figure(0.625, 0.5, 0.75)],
        "shift": _figure(0.125, -0.05, 0.3),
        "agreement": _figure(0.9, 0.8, 0.95),
        "kappa": {"value": 0.75, "ci95": None},
        "table": {"right right": 10, "right wrong": 0, "wrong right": 3, "wrong wrong": 7},
        **more,
    }  # fmt: skip


def _agreement(task: dict[str, Any]) -> dict[str, Any]:
    return {
        "first": {"run": "/home/someone/a", "judge": "exact"},
        "second": {"run": "/home/someone/b", "judge": "<openai:j>"},
        "n_shared": 20, "n_other_answer": 2, "n_only_first": 0, "n_only_second": 0,
        "n_unscored": {"first": 0, "second": 1},
        "scores": [[1.0, 5.0], [2.0, 4.0]], "between_raters": None,
        "all": task, "tasks": {"msvd_qa": task, "empty_qa": {"n": 0, "n_clusters": 0}},
    }  # fmt: skip


def test_the_page_has_the_figures_and_loads_nothing(tmp_path: Path) -> None:
    levels = [
        {"score": score, "n": n, "mean_score": _figure(mean, mean - 0.5, mean + 0.5),
         "share_right": _figure(0.5, 0.4, 0.6), "expected_score": mean}
        for score, n, mean in ((1.0, 12, 2.25), (5.0, 8, 4.0))
    ]  # fmt: skip
    task = _task(pearson=_figure(0.8, 0.7, 0.9), spearman=_figure(0.7, 0.6, 0.8))
    agreement = _agreement(task | {"calibration": levels})
    paths = save_agreement(agreement, tmp_path / "out")
    assert [path.name for path in paths] == ["agreement.json", "agreement.png", "index.html"]
    assert read_json(paths[0]) == agreement
    page = paths[2].read_text(encoding="utf-8")
    for text in ("50.0", "62.5", "+12.5", "(−5.0 to +30.0)", "90.0", "0.75", "n = 12", "2.25",
                 "(1.75 to 2.75)", "&lt;openai:j&gt;", "unscored by the second"):  # fmt: skip
        assert text in page
    assert page.count("<svg") == 2
    assert "judged by the first only" not in page
    assert "empty_qa" not in page
    assert "someone" not in page
    assert not re.search(r"https?:|@import|url\(|src=", page)
    with Image.open(paths[1]) as picture:
        wide = picture.size[0]
    again = save_agreement(agreement, tmp_path / "again")
    assert [a.read_bytes() for a in again] == [b.read_bytes() for b in paths]
    save_agreement(_agreement(_task()), tmp_path / "out")
    assert "One of the two judges gives no scores" in paths[2].read_text(encoding="utf-8")
    with Image.open(paths[1]) as picture:
        assert picture.size[0] < wide  # one chart, not two


def test_the_page_of_preferences_has_ties_cost_raters_and_runs(tmp_path: Path) -> None:
    share = {"n": 4, "n_clusters": 3, "agreement": _figure(0.5, 0.2, 0.8),
             "kappa": _figure(0.25, -0.1, 0.6)}  # fmt: skip
    empty = {"n": 0, "n_clusters": 0, "agreement": {"value": None, "ci95": None},
             "kappa": {"value": None, "ci95": None}}  # fmt: skip
    table = {f"{people} {judge}": 0 for people in ("a", "b", "tie") for judge in ("a", "b", "tie")}
    against = share | {"table": table | {"a b": 41}, "decided": empty}
    wins = {"n": 4, "first": 1, "second": 3, "tie": 0, "net": _figure(0.5, -0.25, 1.0)}
    runs = {"first": {"name": "sft", "model": "m"}, "second": {"name": "<dpo>", "model": "m"},
            "n_items": 3, "n_shared": 9, "n_same": 5, "people": wins, "judge": wins}  # fmt: skip
    figures = {
        "files": ["/home/someone/p.csv"], "judge": {"name": "exact"}, "n_items": 3, "n_votes": 5,
        "n_videos": 3, "n_raters": 2, "n_unscored": 1, "unscored": {"no reference": 2},
        "choices": {"people": {"a": 3, "b": 1, "tie": 1}, "judge": {"a": 1, "b": 0, "tie": 1}},
        "all": against, "raters": {"ann": against, "bob": against},
        "between_raters": share | {"n_items": 2, "pairs": []},
        "cost": {"n_verdicts": 4, "tokens": 100, "tokens_per_verdict": 25.0, "dollars": 1.0,
                 "dollars_per_verdict": 0.25},
        "runs": [runs],
    }  # fmt: skip
    votes = [{"id": "1", "rater": "=ann", "choice": "a", "judge": None}]
    paths = save_preferences(PreferenceAgreement(figures, votes), tmp_path / "out")
    assert [path.name for path in paths] == [
        "agreement.json", "agreement.csv", "votes.csv", "agreement.png", "index.html",
    ]  # fmt: skip
    assert read_json(paths[0]) == figures
    assert paths[2].read_text() == "id,rater,choice,judge\n1,'=ann,a,\n"  # no formula of a sheet
    page = paths[4].read_text(encoding="utf-8")
    for text in ("4 votes on 2 pairs", "1 of 5 votes by people, 1 of 2 pairs by the judge",
                 "4 verdicts, 100 tokens (25 a verdict), $1.00, $0.25 a verdict", "&lt;dpo&gt;",
                 "+50.0 points (−25.0 to +100.0)", "5 have the same answer in both", "no reference",
                 "(20.0 to 80.0)", ">41<"):  # fmt: skip
        assert text in page, text
    assert page.count("<svg") == 2
    assert "someone" not in page
    assert not re.search(r"https?:|@import|url\(|src=", page)
    lines = paths[1].read_text().splitlines()
    assert lines[1] == "judge with people,all,4,3,0.5,0.2,0.8,0.25,-0.1,0.6"
    assert lines[2] == "judge with people,without ties,0,0,,,,,,"
    assert [line.split(",")[0] for line in lines[3::2]] == ["ann", "bob", "between raters"]
