"""lmms-eval 0.7.3 on tasks of every form: an adapter that reads the answers off the documents.

Its own harness loads our files, asks, and hands the answers back; small files in the formats as
published, and for what a language model judges a server on loopback.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo._io import read_json, write_json, write_jsonl
from sharegptvideo.eval.lmms_eval_tasks import FIGURES, PREFIX, folder, kind_of
from sharegptvideo.eval.tasks import load_task
from tests.support import benchmark_files

pytestmark = pytest.mark.peers
pytest.importorskip("lmms_eval", reason="lmms-eval is not installed here (make test-peers)")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHAREGPTVIDEO_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("SHAREGPTVIDEO_OUT", str(tmp_path / "runs"))
    monkeypatch.setenv("LMMS_EVAL_DATASETS_CACHE", str(tmp_path / "cache"))
    for name in ("SHAREGPTVIDEO_MEDIA", "SHAREGPTVIDEO_JUDGE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def evaluate(task: str, *, right: bool = True) -> dict[str, float]:
    """The figures that lmms-eval shows, by name, for a model that is always right, or never."""
    from lmms_eval.api.model import lmms
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    class Recorded(lmms):
        """Gives the letter of the right option, the answer itself, or the next one to it."""

        is_simple = True

        def document(self, arguments: tuple[Any, ...]) -> dict[str, Any]:
            at, name, split = arguments[3:6]
            found: dict[str, Any] = self.task_dict[name][split][at]
            return found

        def generate_until(self, requests: list[Any]) -> list[str]:
            said = []
            for request in requests:
                doc = self.document(request.args)
                assert request.args[0] == doc["prompt"]
                answer = doc["answer"]
                if doc.get("options"):
                    at = doc["options"].index(answer)
                    answer = "ABCDE"[at if right else (at + 1) % len(doc["options"])]
                said.append(answer if right or doc.get("options") else "Perhaps.")
            return said

        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            same = (r.args[1].strip() == self.document(r.args)["answer"] for r in requests)
            return [(0.5 if each is right else 1.5, False) for each in same]

        def generate_until_multi_round(self, requests: list[Any]) -> list[str]:
            raise NotImplementedError

    manager = TaskManager(include_path=str(folder()), include_defaults=False)
    found = simple_evaluate(
        Recorded(), tasks=[PREFIX + task], task_manager=manager, batch_size=1, bootstrap_iters=0
    )
    shown = found["results"][PREFIX + task]
    return {name: shown[f"{name},none"] for name in FIGURES[kind_of(load_task(task))]}


@pytest.mark.parametrize(
    ("task", "make"),
    [
        ("nextqa", benchmark_files.nextqa),
        ("nextqa_likelihood", benchmark_files.nextqa),
        ("egoschema", benchmark_files.egoschema),
        ("tempcompass", benchmark_files.tempcompass),
    ],
)
def test_multiple_choice(home: Path, task: str, make: Any) -> None:
    make(home / "data")
    found = evaluate(task)
    assert (found["accuracy"], found["coverage"]) == (1.0, 1.0)
    assert 0 < found["chance"] < 1
    assert evaluate(task, right=False)["accuracy"] == 0.0
    about = read_json(home / "runs" / task / "run.json")
    assert about["tasks"][task]["judge"]["name"] == "choice"


def test_pairs_of_yes_and_no(home: Path) -> None:
    benchmark_files.videohallucer(home / "data")
    found = evaluate("videohallucer")
    assert (found["pair_accuracy"], found["accuracy"], found["yes_rate"]) == (1.0, 1.0, 0.5)


def test_descriptions_and_aspects(
    home: Path, chat_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All claims hold and half of the reference's are there: F1 2/3; aspects get a 3."""
    data = home / "data"
    captions = [{"video_name": f"c{at}.mp4", "detailed_caption": "A dog."} for at in (1, 2)]
    write_jsonl(data / "VDC_1k.jsonl", captions)
    asked = [{"Q": "What is it?", "A": "A dog.", "video_name": "c1"}]
    write_json(data / "generic_qa.json", asked)
    for at in (1, 2):
        (data / f"c{at}.mp4").write_bytes(b"never opened here")
    covered = [{"claim": "a", "covered": "yes"}, {"claim": "b", "covered": "no"}]
    claims = {"claims": [{"claim": "a", "supported": "yes"}], "reference_claims": covered}
    chat_server.models = ["m"]
    chat_server.answer = lambda body: (
        json.dumps(claims) if "claim by claim" in str(body) else '{"explanation": "", "score": 3}'
    )
    monkeypatch.setenv("SHAREGPTVIDEO_JUDGE", "openai:m")
    monkeypatch.setenv("OPENAI_BASE_URL", chat_server.url)
    found = evaluate("video_detailed_caption")
    assert (found["answers"], found["n"]) == (2, 2)
    assert found["f1"] == pytest.approx(2 / 3)
    for aspect in ("correctness", "detail", "context"):
        assert evaluate(f"video_chatgpt_{aspect}")["score"] == 3
