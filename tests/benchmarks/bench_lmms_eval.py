"""Questions a second: this harness against lmms-eval 0.7.3 on one small Video-LLaVA.

    make test-peers  # once, for the environment
    OMP_NUM_THREADS=2 .venv-peers/bin/python tests/benchmarks/bench_lmms_eval.py
    .venv-peers/bin/python tests/benchmarks/bench_lmms_eval.py --device cuda:0 --theirs 4

24 MSVD questions on each of the real clips, 8 frames, 2,056 video tokens, 16 new tokens, float32.
On a GPU the model has Video-LLaVA-7B's widths (--layers of its 32 layers) in bfloat16, where the
answers of the two may differ by a last bit's consequences.
lmms-eval's Video-LLaVA adapter is fixed in this process (it raises a TypeError as it is) and given
our prompt, so that the answers can be compared. Each harness runs in a process of its own, which
ends before the other begins: lmms-eval answers the questions on one clip a round, this harness all
of them in every round. Theirs is timed while it answers, nothing else; ours is the whole run:
loading the model, decoding, answering, judging, results.json.

Prints a line of JSON for each harness as it ends: questions a second in each round and peak memory.
Then a line that compares: the ratio in seconds of the clock and, since other programs may share the
machine, of the processor, and how many answers are equal.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.child_runs import print_line, run_child, run_ways

WAYS = ["theirs", "ours"]
SHARED = Path(__file__).parents[2].parent / "shared" / "data"
TASK = "msvd_qa_official"
GOAL = {"cpu": 10.0, "cuda": 15.0}


def open_theirs(model: Path, device: str) -> Any:
    """lmms-eval's adapter on a device, fixed, with our prompt."""
    from lmms_eval.models.simple.video_llava import VideoLLaVA

    from tests.support.lmms_eval_cli import fix_video_llava

    fix_video_llava()
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
    from sharegptvideo._io import read_jsonl
    from sharegptvideo.eval import run_evaluation

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


def build(folder: Path, each: int, device: str, layers: int | None) -> None:
    """Write the questions and the model that both harnesses take."""
    from tests.support.small_video_llava import build_large, build_small, write_questions

    rows = write_questions(SHARED, folder, each)
    if layers:
        build_large(rows, folder / "model", layers, device)
    else:
        build_small(rows, folder / "model")


def one(way: str, options: Any) -> dict[str, Any]:
    """Measure one harness in this process, a round for each clip."""
    import torch

    from tests.support.child_runs import Peak

    import_module("transformers.models.video_llava.modeling_video_llava")  # before the baseline

    folder, device, model = options.work, options.device, options.work / "model"
    peak = Peak(torch.device(device))
    os.environ["SHAREGPTVIDEO_DATA_DIR"] = str(folder)
    os.environ["SHAREGPTVIDEO_MEDIA"] = str(folder / "clips")
    os.environ["HF_HOME"] = str(folder / "hf")
    rates: list[tuple[float, float]] = []
    answers: dict[str, str] = {}

    def took(count: int, spent: tuple[float, float]) -> None:
        rates.append((count / spent[0], count / spent[1]))

    if way == "theirs":
        theirs, groups = open_theirs(model, device), requests(options.tokens)
        # Imports and first calls are nobody's speed.
        time_theirs(theirs, next(iter(groups.values()))[:1])
        peak.restart()
        for every in groups.values():
            group = every[: options.theirs or options.each]
            spent, said = time_theirs(theirs, group)
            took(len(group), spent)
            answers |= said
    else:
        time_ours(model, folder, folder / "warm", options.tokens, device)
        peak.restart()
        for number in range(len(list((folder / "clips").iterdir()))):
            out = folder / f"run{number}"
            spent, answers = time_ours(model, folder, out, options.tokens, device)
            took(len(answers), spent)
    return {
        "way": way,
        "device": device,
        "threads": torch.get_num_threads(),
        "rounds": len(rates),
        "per_s": [round(rate, 3) for rate, _ in rates],
        "median_per_s": round(statistics.median(rate for rate, _ in rates), 4),
        "median_per_processor_s": round(statistics.median(rate for _, rate in rates), 4),
        **peak.figures(),
        "different_answers": len(set(answers.values())),
        "answers": answers,
    }


def compared(found: dict[str, dict[str, Any]], device: str) -> dict[str, Any]:
    """The ratio, and how many answers are equal, where both harnesses were measured."""
    if set(WAYS) - set(found):
        return {"ways": list(found)}
    theirs, ours = found["theirs"], found["ours"]
    said = theirs["answers"].items()
    ratio = ours["median_per_s"] / theirs["median_per_s"]
    processor = ours["median_per_processor_s"] / theirs["median_per_processor_s"]
    goal = GOAL[device.partition(":")[0]]
    return {
        "lmms_eval_median_per_s": theirs["median_per_s"],
        "ours_median_per_s": ours["median_per_s"],
        "ratio": round(ratio, 1),
        "ratio_by_processor_time": round(processor, 1),
        "goal": goal,
        "goal_met": ratio >= goal,
        "peak_mib": {way: each["peak_mib"] for way, each in found.items()},
        "answers_equal": f"{sum(ours['answers'][key] == one for key, one in said)} of {len(said)}",
        "different_answers": ours["different_answers"],
    }


def measure(options: Any) -> int:
    """Build what both take, run them, print; 1 where one of them failed."""
    flags = [*sys.argv[1:], "--work", str(options.work)]
    made = run_child([__file__, "--way", "build", *flags])
    if made.failed:
        print_line({"way": "build", "failed": made.failed})
        return 1
    found = run_ways(__file__, WAYS, flags)
    print_line(compared(found, options.device))
    return len(found) < len(WAYS)


def main() -> int:
    """Measure and print."""
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
    parser.add_argument("--way", choices=[*WAYS, "build"], help="one harness, in this process")
    parser.add_argument("--work", type=Path, help="with --way: the folder of questions and model")
    chosen = parser.parse_args()
    if chosen.device != "cpu" and chosen.layers is None:
        chosen.layers = 32
    if chosen.way == "build":
        build(chosen.work, chosen.each, chosen.device, chosen.layers)
        return 0
    if chosen.way:
        print_line(one(chosen.way, chosen))
        return 0
    if find_spec("lmms_eval") is None:
        print("no lmms-eval here: make test-peers, then .venv-peers/bin/python", sys.argv[0])
        return 2
    if not SHARED.is_dir():
        print(f"no {SHARED.parent.name}/{SHARED.name} beside the project: no clips")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        chosen.work = Path(folder)
        return measure(chosen)


if __name__ == "__main__":
    sys.exit(main())
