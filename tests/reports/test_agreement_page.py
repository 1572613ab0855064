"""The page of two judges: its figures are those of agreement.json, and it loads nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from PIL import Image

from sharegptvideo._io import read_json
from sharegptvideo.reports.agreement import save_agreement


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
