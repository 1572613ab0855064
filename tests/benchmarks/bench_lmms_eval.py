"""Questions a second: this harness against lmms-eval 0.7.3 on one small Video-LLaVA.

    make test-peers  # once, for the environment
    OMP_NUM_THREADS=2 .venv-peers/bin/python tests/benchmarks/bench_lmms_eval.py
    .venv-peers/bin/python tests/benchmarks/bench_lmms_eval.py --device cuda:0 --theirs 4

24 MSVD questions on each of the real clips, 8 frames, 2,056 video tokens, 16 new tokens, float32.
On a GPU the model has Video-LLaVA-7B's widths (--layers of its 32 layers) in bfloat16, where the
answers of the two may differ by a last bit's consequences.
lmms-eval's Video-LLaVA adapter is mended in this process (it raises a TypeError as it is) and told
our prompt, so that the answers can be compared. Rounds alternate: lmms-eval answers the questions
of one clip, then this harness all of them. Theirs is timed while it answers, nothing else; ours is
the whole run: loading the model, decoding, answering, judging, results.json. The ratio is told in
seconds of the clock and, since other programs may share the machine, of the processor too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
TASK = "msvd_qa_official"
GOAL = {"cpu": 10.0, "cuda": 15.0}


def open_theirs(model: Path, device: str) -> Any:
    """lmms-eval's adapter on a device, mended, with our prompt."""
    from lmms_eval.models.simple.video_llava import VideoLLaVA
    from lmms_eval_cli import mend_video_llava

    mend_video_llava()
    theirs = VideoLLaVA(
        pretrained=str(model),
        device=device,
        device_map="auto" if device == "cpu" else device,  # "auto" leaves it where it was loaded
    )
    theirs.prompt = "USER: <video>\n{} ASSISTANT:"
    return theirs


def requests(tokens: int) -> dict[str, list[Any]]:
    """The questions as lmms-eval builds them from our task, by video."""
    from lmms_eval.tasks import TaskManager, get_task_dict

    from sharegptvideo.eval.lmms_eval_tasks import folder as tasks_folder

    manager = TaskManager(include_path=str(tasks_folder()), include_defaults=False)
    task = get_task_dict([TASK], manager)[TASK]
    task.config.generation_kwargs["max_new_tokens"] = tokens
    task.build_all_requests()
    groups: dict[str, list[Any]] = {}
    for instance in task.instances:
        video = task.dataset["test"][instance.args[3]]["video"]
        groups.setdefault(video, []).append((task, instance))
    return groups


def time_theirs(theirs: Any, group: list[Any]) -> tuple[tuple[float, float], dict[str, str]]:
    """(seconds of clock and processor, answers by id)."""
    task = group[0][0]
    theirs.task_dict[TASK] = task.dataset
    start = time.perf_counter(), time.process_time()
    said = theirs.generate_until([instance for _, instance in group])
    seconds = time.perf_counter() - start[0], time.process_time() - start[1]
    ids = [task.dataset["test"][instance.args[3]]["id"] for _, instance in group]
    return seconds, dict(zip(ids, said, strict=True))


def time_ours(
    model: Path, folder: Path, out: Path, tokens: int, device: str
) -> tuple[tuple[float, float], dict[str, str]]:
    """(seconds of clock and processor, answers by id)."""
    from sharegptvideo.eval import run_evaluation
    from sharegptvideo.storage import read_jsonl

    start = time.perf_counter(), time.process_time()
    run_evaluation(
        f"hf:{model}",
        [TASK],
        "answer-match",
        out,
        data_dir=folder,
        media=folder / "clips",
        max_new_tokens=tokens,
        devices=[device],
    )
    seconds = time.perf_counter() - start[0], time.process_time() - start[1]
    rows = [row for _, row in read_jsonl(out / "predictions.jsonl")]
    return seconds, {row["id"]: row["prediction"] for row in rows}


def measure(
    folder: Path, each: int, tokens: int, theirs_each: int, device: str, layers: int | None
) -> dict[str, Any]:
    """Alternate between both, a round for each clip."""
    import os

    import torch
    from small_video_llava import SIZE, build_large, build_small, write_questions

    rows = write_questions(SHARED, folder, each)
    if layers:
        model = build_large(rows, folder / "model", layers, device)
    else:
        model = build_small(rows, folder / "model")
    os.environ["SHAREGPTVIDEO_DATA_DIR"] = str(folder)
    os.environ["SHAREGPTVIDEO_MEDIA"] = str(folder / "clips")
    os.environ["HF_HOME"] = str(folder / "hf")
    theirs = open_theirs(model, device)
    groups = requests(tokens)
    # Imports and first calls are nobody's speed.
    time_theirs(theirs, next(iter(groups.values()))[:1])
    time_ours(model, folder, folder / "warm", tokens, device)
    theirs_per_s: list[tuple[float, float]] = []
    ours_per_s: list[tuple[float, float]] = []
    same = asked = 0
    for number, every in enumerate(groups.values()):
        group = every[:theirs_each]
        (clock, processor), their_answers = time_theirs(theirs, group)
        theirs_per_s.append((len(group) / clock, len(group) / processor))
        (clock, processor), ours = time_ours(model, folder, folder / f"run{number}", tokens, device)
        ours_per_s.append((len(rows) / clock, len(rows) / processor))
        same += sum(ours[key] == said for key, said in their_answers.items())
        asked += len(their_answers)
    medians = [
        [statistics.median(rate[which] for rate in rates) for which in (0, 1)]
        for rates in (theirs_per_s, ours_per_s)
    ]
    return {
        "clips": len(groups),
        "questions": len(rows),
        "video_tokens": SIZE.video_tokens,
        "new_tokens": tokens,
        "threads": torch.get_num_threads(),
        "lmms_eval_per_s": [round(rate, 3) for rate, _ in theirs_per_s],
        "ours_per_s": [round(rate, 3) for rate, _ in ours_per_s],
        "lmms_eval_median_per_s": round(medians[0][0], 3),
        "ours_median_per_s": round(medians[1][0], 3),
        "ratio": round(medians[1][0] / medians[0][0], 1),
        "ratio_by_processor_time": round(medians[1][1] / medians[0][1], 1),
        "device": device,
        "layers": layers or SIZE.text_layers,
        "goal": GOAL[device.partition(":")[0]],
        "answers_equal": f"{same} of {asked}",
        "different_answers": len(set(ours.values())),
    }


def main() -> int:
    """Measure, print, and say by the exit code whether the goal is met."""
    parser = argparse.ArgumentParser(description="Questions a second, against lmms-eval.")
    parser.add_argument("--each", type=int, default=24, help="questions on each clip")
    parser.add_argument(
        "--theirs",
        type=int,
        help="let lmms-eval answer the first N on each clip (it takes as long for each)",
    )
    parser.add_argument("--tokens", type=int, default=16, help="new tokens of an answer")
    parser.add_argument("--device", default="cpu", help="cpu, or a GPU as torch names it: cuda:0")
    parser.add_argument(
        "--layers", type=int, help="take a 7B's widths with so many layers (default on a GPU: 32)"
    )
    chosen = parser.parse_args()
    if chosen.device != "cpu" and chosen.layers is None:
        chosen.layers = 32
    try:
        import lmms_eval  # noqa: F401 - is it there?
    except ImportError:
        print("no lmms-eval here: make test-peers, then .venv-peers/bin/python", sys.argv[0])
        return 2
    if not SHARED.is_dir():
        print(f"no {SHARED.parent.name}/{SHARED.name} beside the project: no clips")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(
            Path(folder),
            chosen.each,
            chosen.tokens,
            chosen.theirs or chosen.each,
            chosen.device,
            chosen.layers,
        )
    print(json.dumps(figures, indent=2))
    return 0 if figures["ratio"] >= figures["goal"] else 1


if __name__ == "__main__":
    sys.exit(main())
