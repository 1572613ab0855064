"""All that is to be measured on a GPU, in one command and within a budget, most valuable first.

    python tests/benchmarks/bench_gpu.py [--budget 600] [--layers 16] [--parts dpo ...]
    python tests/benchmarks/bench_gpu.py --device cpu --shape tiny --budget 300    # a rehearsal
    python tests/benchmarks/bench_gpu.py --table LINES > table.md

At Video-LLaVA-7B's shape with random weights in bfloat16: DPO, SFT, candidates and evaluation, each
beside its peer (TRL, transformers' `generate`, lmms-eval where it is installed) on the same device;
then our own switches, features on disk, and the shipped recipes as `train run` does them. Each part
is a process of its own that ends before the next; it may take half of what is left of the budget,
or a minute where that is more, the last one all of it, and the budget is never exceeded.

Prints each figure as a line of JSON as soon as it is measured, so that a run that is cut keeps
what it has: `part`, `at` (seconds since the start), and what the part says of it. A part that
failed, was cut or left out ends with a line that has `failed`. `rate` is what a step reached as a
row for `MEASURED_RATES` (sharegptvideo/training/estimate.py), on a GPU whose peak is known.
`--table` makes the tables of docs/speed.md and docs/models.md of such lines, with the rows.
"""

from __future__ import annotations

import time

START = time.monotonic()  # imports are part of the budget

import argparse  # noqa: E402 - after the clock
import json  # noqa: E402
import os  # noqa: E402
import platform  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from importlib.metadata import PackageNotFoundError, version  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

ROOT = str(Path(__file__).parents[2])
sys.path.insert(0, ROOT)

from tests.support.child_runs import print_line, run_child  # noqa: E402

HERE = Path(__file__).parent
LEAST = 5.0  # seconds: in less, no part gets as far as its first figure
ENDING = 2.0  # seconds that stopping a part and the last lines may take
PAIRS, EPOCHS, GPUS = 17_000, 3, 8  # the paper's DPO

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """A script with its flags, or why it cannot run here."""

    name: str
    command: tuple[str, ...]
    lacks: str | None = None


def parts(options: Any, work: Path) -> list[Part]:
    """All of them, the most valuable first."""
    import bench_recipes

    shape: tuple[str, ...] = ("--device", options.device, "--shape", options.shape)
    if options.layers:
        shape += ("--layers", str(options.layers))
    media = ("--media", str(options.media)) if options.media else ()
    rounds = ("--rounds", str(options.rounds))

    def ours(name: str) -> Part:
        flags = (name, *shape, *media, *rounds, "--work", str(work))
        return Part(name, ("gpu_parts.py", *flags))

    def recipe(name: str, *more: str) -> Part:
        flags = ("--recipes", name, "--work", str(work), *more, *shape, *media)
        lacks = bench_recipes.no_8bit(options.device) if "adamw_8bit" in more else None
        title = " ".join(("recipe", name, *more[1:]))
        return Part(title, ("bench_recipes.py", *flags), lacks=lacks)

    return [
        *(ours(name) for name in ("dpo", "sft", "candidates", "evaluation", "ways", "fused")),
        Part("features", ("bench_features.py", *shape, *media, *rounds)),
        *(recipe(name) for name in bench_recipes.RECIPES),
        recipe("llava_hound/dpo", "--optimizer", "adamw_8bit"),
        recipe("llava_hound/sft", "--optimizer", "adamw_8bit"),
    ]


def versions() -> dict[str, str]:
    """Of Python and of the packages that are measured."""
    found = {"python": platform.python_version()}
    names = ("torch", "transformers", "trl", "peft", "liger-kernel", "bitsandbytes", "lmms-eval")
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def say(line: Line) -> None:
    """Print a line with the time."""
    part = {"part": line["part"], "at": round(time.monotonic() - START, 1)}
    print_line(part | line | rate_of(line))


def rate_of(line: Line) -> Line:
    """The row for `MEASURED_RATES` of one of our steps; nothing where a line is of something else.

    As MFU, it counts no recomputation.
    """
    if line.get("entry") != "ours" or line.get("mfu") is None:
        return {}
    from sharegptvideo.training.estimate import Rate
    from tests.support.gpu_figures import rate_row

    share, count = line["mfu"], line.get("pairs") or line["clips"]
    at_once = f"{count} {'pair' if line['part'] == 'dpo' else 'clip'}{'s' * (count > 1)}"
    source = f"bench_gpu.py, {line['dtype']}, random weights, {at_once}"
    parameters = line["parameters_millions"] * 1e6
    again = line["checkpointing"]
    rate = Rate(line["part"], line["gpu"], parameters, again, share, share, False, source)
    return {"rate": rate_row(rate)}


def run(part: Part, left: float, *, last: bool = False) -> None:
    """Run a part, and print what it prints; then how it ended."""
    if part.lacks or left < LEAST:
        reason = part.lacks or f"left out: {max(left, 0):.0f} s are left of the budget"
        say({"part": part.name, "failed": reason})
        return
    outcome = run_child(
        [str(HERE / part.command[0]), *part.command[1:]],
        limit=left if last else min(left, max(60.0, left / 2)),
        on_line=lambda found: say({"part": part.name, **found}),
    )
    if outcome.figures:
        say({"part": part.name, **outcome.figures})
    end: Line = {"part": part.name, "ended": True, "seconds": outcome.seconds}
    say(end | ({"failed": outcome.failed} if outcome.failed else {}))


# Tables


def read_lines(path: Path) -> list[Line]:
    """The lines of an earlier call; the last may be half, of a run that was cut."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return [line for line in found if isinstance(line, dict)]


def pick(lines: list[Line], part: str, entry: str, **about: Any) -> Line:
    """The figures of an entry; empty where it was not measured."""
    wanted = {"part": part, "entry": entry, **about}
    for line in lines:
        if "failed" not in line and all(line.get(key) == each for key, each in wanted.items()):
            return line
    return {}


def ratio(ours: Line, theirs: Line, key: str) -> str:
    """How many times faster ours is by seconds, or by a rate."""
    if key not in ours or key not in theirs:
        return "–"
    found = theirs[key] / ours[key] if key.startswith("seconds") else ours[key] / theirs[key]
    return f"{found:.2f}"


def shown(line: Line, key: str, form: str = "{:.3g}") -> str:
    """A figure as people read it."""
    value = line.get(key)
    return "–" if value is None else form.format(value)


def both(key: str, form: str, *lines: Line) -> str:
    """A figure of ours and theirs."""
    return " / ".join(shown(line, key, form) for line in lines)


def training_rows(lines: list[Line]) -> Iterator[str]:
    """A row for each kind of step."""
    yield (
        "| a step | ours, s | first call, s | TRL, s | times TRL | reference given: TRL, s | times "
        "TRL | MFU, ours / TRL | launches, ours / TRL | peak GiB, ours / TRL |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for part, count, name in (("dpo", "pairs", "pairs"), ("sft", "clips", "clips of 3 questions")):
        for number, checkpointing in ((1, True), (4, True), (1, False), (4, False)):
            about = {count: number, "checkpointing": checkpointing}
            ours = pick(lines, part, "ours", **about)
            trl = pick(lines, part, "trl", **about)
            given = pick(lines, part, "trl_precomputed", **about)
            if not ours and not trl:
                continue
            step = "seconds_a_step"
            peaks = [{"gib": each["peak_mib"] / 1024} if each else {} for each in (ours, trl)]
            kept = "recomputed" if checkpointing else "kept"
            cells = (
                f"{part.upper()}, {number} {name}, {kept}",
                shown(ours, step),
                shown(ours, "first_call_seconds"),
                shown(trl, step),
                ratio(ours, trl, step),
                shown(given, step),
                ratio(ours, given, step),
                both("mfu", "{:.0%}", ours, trl),
                both("launches", "{:,}", ours, trl),
                both("gib", "{:.1f}", *peaks),
            )
            yield f"| {' | '.join(cells)} |"


def answer_rows(lines: list[Line]) -> Iterator[str]:
    """A row for each kind of answering."""
    yield (
        "| work | ours, answers/s | first call, s | theirs, answers/s | times | "
        "launches an answer, ours / theirs | peak GiB, ours / theirs |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    theirs = pick(lines, "candidates", "theirs")
    many = [line for line in lines if line["part"] == "candidates" and line.get("entry") == "ours"]
    rows = [(f"candidates, clips at once: {line.get('clips')}", line, theirs) for line in many]
    generate = pick(lines, "evaluation", "generating, theirs")
    rows.append(("evaluation, generating", pick(lines, "evaluation", "generating, ours"), generate))
    for name, ours, other in rows:
        if "failed" in ours or not ours:
            continue
        each = [
            {"n": one.get("launches", 0) / one["answers"], "gib": one["peak_mib"] / 1024}
            if one
            else {}
            for one in (ours, other)
        ]
        yield (
            f"| {name} | {shown(ours, 'answers_per_s')} | {shown(ours, 'first_call_seconds')} | "
            f"{shown(other, 'answers_per_s')} | {ratio(ours, other, 'answers_per_s')} | "
            f"{both('n', '{:,.0f}', *each)} | {both('gib', '{:.1f}', *each)} |"
        )
    lmms = pick(lines, "evaluation", "lmms-eval")
    peer = {"per_s": lmms.get("median_per_s")} if lmms else {"per_s": generate.get("answers_per_s")}
    peer = {key: value for key, value in peer.items() if value is not None}
    for which in ("first", "second"):
        ours = pick(lines, "evaluation", f"whole run, {which}")
        if ours:
            name = "lmms-eval" if lmms else "`generate`"
            yield (
                f"| evaluation, whole run, {which} time, against {name} | {shown(ours, 'per_s')} | "
                f"– | {shown(peer, 'per_s')} | {ratio(ours, peer, 'per_s')} | – | – |"
            )


def switch_rows(lines: list[Line]) -> Iterator[str]:
    """A row for each of our own switches, at four pairs, or clips where it is SFT."""
    yield "| DPO, 4 pairs | s a step | first call, s | MFU | launches | peak GiB |"
    yield "| --- | --- | --- | --- | --- | --- |"
    found = [
        (
            f"all layers {'again' if again else 'kept'}",
            pick(lines, "dpo", "ours", pairs=4, checkpointing=again),
        )
        for again in (True, False)
    ]
    own = ("ways", "fused")
    found += [(line.get("entry"), line) for line in lines if line["part"] in own]
    for name, line in found:
        if "seconds_a_step" in line:
            gib = {"gib": line["peak_mib"] / 1024}
            yield (
                f"| {name} ({line['attention'].removeprefix('shared_clip_')}) | "
                f"{shown(line, 'seconds_a_step')} | {shown(line, 'first_call_seconds')} | "
                f"{shown(line, 'mfu', '{:.0%}')} | {shown(line, 'launches', '{:,}')} | "
                f"{shown(gib, 'gib', '{:.1f}')} |"
            )


def recipe_rows(lines: list[Line]) -> Iterator[str]:
    """A row for each recipe: measured, and by what `--dry-run` says."""
    yield "| recipe | layers | s a step | of the peak | measured by predicted: s, memory |"
    yield "| --- | --- | --- | --- | --- |"
    for line in lines:
        if "recipe" in line and "measured" in line:
            found = {**line, "s": line["measured"]["seconds_a_step"]}
            parts = ("seconds_measured_by_predicted", "memory_measured_by_predicted")
            yield (
                f"| {line['recipe']}, {line['optimizer']} | {line['layers']} | "
                f"{shown(found, 's')} | "
                f"{shown(found, 'utilisation_reached', '{:.0%}')} | "
                f"{', '.join(shown(found, part) for part in parts)} |"
            )


def remarks(lines: list[Line]) -> Iterator[str]:
    """What stands below the tables: exactness, start, hours, and what is missing."""
    for line in lines:
        if line.get("entry") == "log-probabilities" and "failed" not in line:
            errors = [f"plain rows {line['plain_rows_error_nats']}"]
            errors += [
                f"{key.removesuffix('_error_nats')} {value}"
                + ("" if line[f"{key.removesuffix('_error_nats')}_within_twice"] else " (too much)")
                for key, value in line.items()
                if key.endswith("_error_nats") and key != "plain_rows_error_nats"
            ]
            yield (
                f"- {line['part']}: log-probabilities of {line['answers']} whole answers (spread "
                f"{line['spread_nats']} nats) are from float32's by at most, in nats: "
                f"{', '.join(errors)}."
            )
        if line.get("entry") == "greedy answers" and "failed" not in line:
            judged = line["by_float32"]
            yield (
                f"- {line['part']}: {line['equal']} of {line['answers']} greedy answers equal; by "
                f"float32, token for token, an answer of ours gives away "
                f"{judged['ours']['gap_nats']} nats, of `generate` {judged['theirs']['gap_nats']}"
                f" ({'within' if line['within_twice'] else 'NOT within'} twice)."
            )
    start = pick(lines, "evaluation", "identity")
    if start:
        loading = pick(lines, "evaluation", "loading")
        yield (
            f"- start: identity of the weights {shown(start, 'first_seconds')} s the first time, "
            f"{shown(start, 'second_seconds')} s the second; loading {shown(loading, 'seconds')} s."
        )
    ours = pick(lines, "dpo", "ours", pairs=4, checkpointing=True)
    if ours and ours.get("parameters_millions", 0) > 6000:
        from sharegptvideo.training.estimate import projected_hours

        hours = projected_hours(PAIRS, EPOCHS, 4 / ours["seconds_a_step"], GPUS)
        yield (
            f"- the paper's DPO ({PAIRS:,} pairs, {EPOCHS} epochs) at that rate on {GPUS} such "
            f"devices, their exchange not counted: {hours:.2g} hours."
        )
    for line in lines:
        if "remark" in line:
            yield f"- {line['part']}: {line['remark']}"
        entry = f", {line['entry']}" if "entry" in line else ""
        for said in line.get("warnings", []):
            yield f"- warned of in {line['part']}{entry}: {said}"
        if "failed" in line:
            yield f"- not measured: {line['part']}{entry}: {line['failed']}"
    for line in lines:
        if line.get("entry") == "ours" and "top_ten" in line:
            top = ", ".join(f"{one['name']} {one['share']:.0%}" for one in line["top_ten"])
            about = ", ".join(
                f"{key} {line[key]}" for key in ("pairs", "clips", "checkpointing") if key in line
            )
            yield f"- where the time goes, {line['part']} ({about}): {top}"


def table(lines: list[Line]) -> str:
    """The Markdown of both pages."""
    about: Line = next((line for line in lines if line["part"] == "about"), {})
    devices = {str(line["device"]) for line in lines if line.get("entry") and "device" in line}
    packages = ", ".join(f"{name} {each}" for name, each in about.get("versions", {}).items())
    where = " and ".join(sorted(devices)) or "no device"
    return "\n".join(
        [
            f"{where}, shape {about.get('shape')}; {packages}. MFU counts no recomputation, of the "
            "device's peak in bf16; launches are calls that start a kernel or a graph (on a CPU: "
            "operations of aten); layers are recomputed in the backward pass or kept.",
            "",
            *training_rows(lines),
            "",
            *answer_rows(lines),
            "",
            *switch_rows(lines),
            "",
            *recipe_rows(lines),
            "",
            *remarks(lines),
            "",
            *rate_rows(lines),
        ]
    )


def rate_rows(lines: list[Line]) -> Iterator[str]:
    """The rows for `MEASURED_RATES`, or why there are none."""
    rows = [line["rate"] for line in lines if line.get("rate")]
    if not rows:
        yield "No rows for `MEASURED_RATES`: no step was measured on a GPU whose peak is known."
        return
    yield from ("Rows for `MEASURED_RATES` (sharegptvideo/training/estimate.py):", "", "```python")
    yield from rows
    yield "```"


def main() -> int:
    """Run all and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=float, default=600, help="seconds for all parts")
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--shape", choices=["tiny", "small", "7b"], help="default: 7b on a GPU, else small"
    )
    parser.add_argument("--layers", type=int, help="of the shape's language model, at most")
    parser.add_argument("--media", type=Path, help="a folder of clips; default: the shared data")
    parser.add_argument("--rounds", type=int, default=3, help="measured, after a first one")
    parser.add_argument("--parts", nargs="+", help="only those whose names begin so")
    parser.add_argument("--table", type=Path, help="of the lines in this file, and nothing else")
    options = parser.parse_args()
    if options.table:
        if not options.table.is_file():
            parser.error(f"--table {options.table}: no such file")
        print(table(read_lines(options.table)))
        return 0
    import bench_recipes
    import torch

    options.shape = options.shape or ("7b" if options.device.startswith("cuda") else "small")
    if options.device != "cpu" and not torch.cuda.is_available():
        print("no CUDA device here; --device cpu --shape tiny rehearses all of it")
        return 0
    # For children and theirs, where the package is not installed.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")]))
    end = START + options.budget - ENDING
    say({"part": "about", "shape": options.shape, "device": options.device,
         "budget": options.budget, "versions": versions()})  # fmt: skip
    with tempfile.TemporaryDirectory(dir=bench_recipes.roomiest()) as name:
        chosen = [
            part
            for part in parts(options, Path(name))
            if not options.parts or part.name.startswith(tuple(options.parts))
        ]
        for part in chosen:
            run(part, end - time.monotonic(), last=part is chosen[-1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
