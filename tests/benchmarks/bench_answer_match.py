"""How long `answer-match` takes for a full test set: all 13,157 MSVD-QA questions, one process.

    python tests/benchmarks/bench_answer_match.py [FILE]

FILE: the question file of MSVD-QA in its original form; default: the one in shared/data. The
predictions are sentences made from each question's own and another question's answer, so that all
rules are reached. Prints one JSON object; exits with 1 if it took 5 s or more.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path

from sharegptvideo.judges import AnswerMatch, JudgeItem

LIMIT_S = 5.0
DEFAULT = (
    Path(__file__).parents[2].parent / "shared" / "data" / "annotations" / "msvd_qa_test_qa.json"
)


def items_of(file: Path) -> list[JudgeItem]:
    """One item a question; every second prediction has another question's answer."""
    rows = json.loads(file.read_text(encoding="utf-8"))
    items = []
    for index, row in enumerate(rows):
        answer = row["answer"] if index % 2 else rows[index - 1]["answer"]
        said = f"In the video it is the {answer}, number {index}, near a wall in the morning light."
        items.append(
            JudgeItem(
                str(row["id"]),
                "msvd_qa_official",
                f"vid{row['video_id']}",
                row["question"],
                row["answer"],
                said,
            )
        )
    return items


def main() -> int:
    """Measure, print, and say by the exit code whether the limit holds."""
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    if not file.is_file():
        print(f"{file.name} is not there; give the file as argument", file=sys.stderr)
        return 2
    items = items_of(file)
    start = time.perf_counter()
    verdicts = list(AnswerMatch().judge(items))
    seconds = time.perf_counter() - start
    scores = Counter(int(v.score) for v in verdicts if v.score is not None)
    figures = {
        "n": len(items),
        "seconds": round(seconds, 3),
        "items_per_second": round(len(items) / seconds),
        "limit_seconds": LIMIT_S,
        "scores": dict(sorted(scores.items())),
    }
    print(json.dumps(figures))
    return 0 if seconds < LIMIT_S else 1


if __name__ == "__main__":
    sys.exit(main())
