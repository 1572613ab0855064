"""Results as the paper's programs leave them: answers and replies of two models, with every flaw.

The clips, questions and references are those of `small_release`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.archives import tar_gz

__all__ = ["FILES", "answers", "jsonl", "replies", "write_archive", "write_files"]

Row = dict[str, Any]

_ASKED = {"0": "What colour fills it?", "1": "Is it red?"}
_REFERENCES = {"a_0": "red", "a_1": "yes", "b_0": "green", "b_1": "no", "c_0": "blue", "c_1": "no"}
IDS = tuple(_REFERENCES)


def answers(texts: Sequence[str | None]) -> list[Row]:
    """A row for each text; None is an answer that failed."""
    return [
        {
            "id": key,
            "modal_path": f"/mnt/elsewhere/frames/test/msvd/{key[0]}",
            "query": _ASKED[key[2]],
            "answer": _REFERENCES[key],
            "modal_type": "VIDEO",
            "model_prediction": (
                {"status": "error", "message": "CUDA error:\nout of memory"}
                if text is None
                else {"status": "success", "message": text}
            ),
        }
        for key, text in zip(IDS, texts, strict=True)
    ]


def replies(texts: Sequence[str]) -> list[Row]:
    """A row for each reply, in the order of the answers."""
    return [{"id": key, "response": text} for key, text in zip(IDS, texts, strict=False)]


def jsonl(rows: Sequence[Row | str]) -> bytes:
    """Rows as lines; a string is a line as it stands."""
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    return "".join(f"{line}\n" for line in lines).encode()


_DPO = answers(["It is red.", "Yes.", "It is green.", "No.", "Blue.", None])
_SFT = answers(["It is red.", "Yes.", "Red.", "Yes.", "Red.", "No."])
_BY_0301 = replies(
    [
        "{'pred': 'yes', 'score': 5}",
        "{'pred': 'no', 'score': 4.8}",
        "Yes: {'pred': 'yes', 'score': 3}",
        "{'pred': 'no', 'score': 0}",
        "I cannot tell.",
    ]
)


def _verdicts(*pairs: tuple[str, int]) -> list[Row]:
    return replies([f"{{'pred': '{said}', 'score': {score}}}" for said, score in pairs])


_BY_0613 = _verdicts(("yes", 5), ("yes", 4), ("yes", 4), ("no", 1), ("no", 2))
_SFT_BY_0301 = _verdicts(("yes", 5), ("yes", 5), ("no", 0), ("no", 0), ("no", 1), ("yes", 4))
_GRADES = replies(
    [
        "Explanation: It says so.\nScore: 4",
        "Explanation: 3 of 3 are there.\nScore: 2",
        "Score: 4.5",
        "No number here.",
        "3, or 3, or 5.",
    ]
)
FILES: Mapping[str, bytes] = {
    "test_result/msvd/inference_test_official/dpo.jsonl": jsonl([*_DPO, "{torn"]),
    "test_result/msvd/inference_test_official/sft/2_0.jsonl": jsonl(_SFT[:3]),
    "test_result/msvd/inference_test_official/sft/2_1.jsonl": jsonl(_SFT[3:]),
    "test_result/msvd/eval_test_official_gpt-3.5-turbo-0301/dpo.jsonl": jsonl(
        [*_BY_0301, {"id": "z_9", "response": "yes"}, {"id": "a_0", "verdict": "right"}]
    ),
    "test_result/msvd/eval_test_official_gpt-3.5-turbo-0613/dpo.jsonl": jsonl(_BY_0613),
    "test_result/msvd/eval_test_official_gpt-3.5-turbo-0301/sft.jsonl": jsonl(_SFT_BY_0301),
    "test_result/msvd/inference_test/dpo.jsonl": jsonl(_DPO),
    "test_result/msvd/eval_test/dpo.jsonl": jsonl(_GRADES),
    "test_result/eval_results_official.jsonl": jsonl(
        [
            {"result": result, "name_or_path": f"/mnt/elsewhere/test_result/msvd/{place}.jsonl"}
            for result, place in (
                ("39.00/2.00", "eval_test_official_gpt-3.5-turbo-0301/dpo"),
                ("40.00/3.00", "eval_test_official_gpt-3.5-turbo-0301/dpo"),
                ("61.00/3.20", "eval_test_official_gpt-3.5-turbo-0613/dpo"),
                ("60.00/2.90", "eval_test/dpo"),
                ("60.00/2.90", "eval_test/other"),
            )
        ]
    ),
    "test_result/plot.png": b"\x89PNG",
    "test_result/settings.json": b'{"temperature": 0}',
}
"""By path; what each gives is worked out in tests/eval/test_imported.py."""


def write_archive(path: Path, files: Mapping[str, bytes] = FILES) -> Path:
    """The files as a .tar.gz."""
    path.write_bytes(tar_gz(files))
    return path


def write_files(folder: Path, files: Mapping[str, bytes] = FILES) -> Path:
    """The files in a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder
