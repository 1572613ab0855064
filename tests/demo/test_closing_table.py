"""The table that the demo ends with fits a terminal of 80 columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sharegptvideo.cli import demo


def _figures(clips: int, questions: int) -> dict[str, Any]:
    return {
        "n_videos": clips,
        "n_questions": questions,
        "sft": {"accuracy": 0.4875, "se": 0.0112},
        "dpo": {"accuracy": 0.6012, "se": 0.0109},
        "delta": 0.1137,
        "delta_ci95": [0.0912, 0.1362],
        "p_value": 1.2e-10,
        "gained": {"n": 500, "share": 0.125},
        "lost": {"n": 45, "share": 0.0113},
        "contradictions": {"sft": 0.0, "dpo": 0.1834},
    }


def test_closing_table_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    figures = _figures(1000, 4000)
    summary = {
        "test": {**figures, "judged": figures},
        "out_of_domain": {**figures, "judged": _figures(999, 3990)},
        "judge_agreement": 0.9712,
        "seconds": {"total": 512.3},
    }
    demo._print_result(tmp_path, summary)
    shown = capsys.readouterr().out
    table = shown.partition("The judge agrees")[0]
    assert all(len(line) <= 80 for line in table.splitlines())
    assert "…" not in table
    assert "Test: DPO gained 12.5 % of the questions and lost 1.1 %;" in shown
    assert shown.count("answers that contradict themselves: SFT 0.0 %, DPO 18.3 %.") == 2
    assert table.count("48.8 ± 1.1") == table.count("+11.4 (+9.1 to +13.6)") == 4
    assert table.count("< 0.0001") == 4
    assert "out of domain, judge" in table
    assert "  999 clips" in table
    assert "  3,990 questions" in table
