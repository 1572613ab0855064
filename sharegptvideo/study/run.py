"""Run experiments: make what they need, in as many processes as there are cores, and analyse it."""

from __future__ import annotations

import functools
import os
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from sharegptvideo._io import os_errors, write_json
from sharegptvideo._runs import check_place, folder_lock
from sharegptvideo._shipped import __version__
from sharegptvideo.errors import UserError
from sharegptvideo.eval.run_dir import package_versions
from sharegptvideo.study.catalogue import KINDS, all_stages, load_experiment
from sharegptvideo.study.crew import Crew, make
from sharegptvideo.study.experiment import Experiment
from sharegptvideo.study.kind import Done
from sharegptvideo.study.node import Node, read_done, with_ancestors
from sharegptvideo.study.scales import StudyScale, scale_named

__all__ = ["Outlook", "Watcher", "run_study", "study_outlook"]

_TICK_S = 1.0

Plan = dict[tuple[str, int], dict[str, Node]]


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is done and what is ahead.

    Attributes:
        done: pieces of work that are finished.
        total: all pieces.
        seconds: estimate of what is left, by what such pieces have taken here so far.
    """

    done: int
    total: int
    seconds: float


class Watcher(Protocol):
    """A display of a study; a piece of work is known by its label."""

    def begins(self, label: str, outlook: Outlook) -> None:
        """Show that a piece of work starts."""
        ...

    def progress(self, label: str, done: int, total: int, what: str) -> None:
        """Show how far one is; a total of 0 means unknown."""
        ...

    def ended(self, label: str, seconds: float, outlook: Outlook) -> None:
        """Show that one is done."""
        ...

    def concluded(self, name: str, file: Path) -> None:
        """Show that an experiment's result is in a file."""
        ...


class _Silent:
    """No display."""

    def begins(self, label: str, outlook: Outlook) -> None: ...

    def progress(self, label: str, done: int, total: int, what: str) -> None: ...

    def ended(self, label: str, seconds: float, outlook: Outlook) -> None: ...

    def concluded(self, name: str, file: Path) -> None: ...


def run_study(
    names: Sequence[str],
    out: Path,
    *,
    scale: str = "small",
    seeds: int | None = None,
    processes: int = 2,
    watcher: Watcher | None = None,
) -> dict[str, dict[str, Any]]:
    """Run experiments, and return the results by name.

    Pieces of work lie in `out/stages`, by the hash of their settings: experiments share them, and
    what is there is never done again. Results are in `out/results/NAME.json`: the contents of
    `Result`, and `experiment`, `scale`, `seeds`, `state` ("part" at `tiny` or with fewer seeds than
    the experiment's file asks for, else "complete"), `seconds` by stage, `machine`, `version`,
    `versions` of packages and `commit` (of a checkout; with "-dirty" where its files differ).
    Interrupted at any moment, the same call goes on.

    Args:
        names: of experiments, or paths of files of one's own.
        out: the folder of the study.
        scale: `tiny` or `small`.
        seeds: so many, instead of each experiment's own number and of the scale's.
        processes: how many at a time; 1: in this process.
        watcher: a display.

    Raises:
        UserError: an unknown name or scale, a broken file, an `out` that another process uses, or
            work that fails.
    """
    watcher = watcher or _Silent()
    sized = scale_named(scale)
    experiments = [load_experiment(name) for name in dict.fromkeys(names)]
    plans = [_plan(experiment, sized, seeds) for experiment in experiments]
    check_place(out)
    with os_errors(out, "give another --out", action="made"):
        out.mkdir(parents=True, exist_ok=True)
    busy = f"{out}: another process is running this study; wait for it, or give another --out"
    results = {}
    with folder_lock(out / ".lock", busy):
        # One experiment after the other: what is asked for first is there first.
        for experiment, plan in zip(experiments, plans, strict=True):
            _make_all(plan, out / "stages", sized, processes, watcher)
            result = _analysed(experiment, plan, out, sized, seeds)
            with os_errors(out, "free some space and run the same command again"):
                write_json(out / "results" / f"{experiment.name}.json", result)
            results[experiment.name] = result
            watcher.concluded(experiment.name, out / "results" / f"{experiment.name}.json")
    return results


def study_outlook(
    names: Sequence[str],
    out: Path,
    *,
    scale: str = "small",
    seeds: int | None = None,
    processes: int = 2,
) -> Outlook:
    """Return what a run of these experiments has to do, without doing anything.

    Raises:
        UserError: an unknown name or scale, or a broken file.
    """
    sized = scale_named(scale)
    nodes: list[Node] = []
    for name in dict.fromkeys(names):
        plan = _plan(load_experiment(name), sized, seeds)
        nodes += [node for wanted in plan.values() for node in wanted.values()]
    return _Work(list(with_ancestors(nodes)), out / "stages", sized, processes).outlook()


def _plan(experiment: Experiment, scale: StudyScale, seeds: int | None) -> Plan:
    plan = KINDS[experiment.kind].plan(experiment, scale, _seeds(experiment, scale, seeds))
    return {
        (level, seed): {
            name: replace(node, label=f"{experiment.name}, {level}, seed {seed}: {node.stage}")
            for name, node in nodes.items()
        }
        for (level, seed), nodes in plan.items()
    }


def _seeds(experiment: Experiment, scale: StudyScale, asked: int | None) -> list[int]:
    if asked is not None:
        return list(range(asked))
    return list(range(min(experiment.seeds, scale.seeds or experiment.seeds)))


class _Work:
    """The pieces of one experiment: which are done, which can be begun, how long the rest takes."""

    def __init__(
        self, nodes: Sequence[Node], stages: Path, scale: StudyScale, processes: int
    ) -> None:
        self.nodes = {node.key: node for node in nodes}
        self._processes, self._pace, self._stages = processes, scale.pace, all_stages()
        self.done: set[str] = set()
        self._took: dict[str, list[float]] = {}
        for node in nodes:
            done = read_done(stages / node.key)
            if done is not None:
                self.finished(node, float(done["seconds"]))
        self.begun = set(self.done)

    def finished(self, node: Node, seconds: float) -> None:
        self.done.add(node.key)
        self._took.setdefault(node.stage, []).append(seconds)

    def ready(self) -> Node | None:
        """Return the next piece whose parents are all done."""
        for key, node in self.nodes.items():
            if key not in self.begun and all(
                parent.key in self.done for parent in node.parents.values()
            ):
                return node
        return None

    def outlook(self) -> Outlook:
        ahead = [node for key, node in self.nodes.items() if key not in self.done]
        seconds = sum(self._seconds(node.stage) for node in ahead) / self._processes
        return Outlook(len(self.done), len(self.nodes), seconds)

    def _seconds(self, stage: str) -> float:
        took = self._took.get(stage)
        return statistics.median(took) if took else self._stages[stage].seconds * self._pace


def _make_all(
    plan: Plan, stages: Path, scale: StudyScale, processes: int, watcher: Watcher
) -> None:
    wanted = [node for nodes in plan.values() for node in nodes.values()]
    work = _Work(_labelled(wanted), stages, scale, processes)
    if processes == 1:
        _make_here(work, stages, watcher)
        return

    def reports(node: Node, done: int, total: int, what: str) -> None:
        watcher.progress(node.label, done, total, what)

    with Crew(stages, processes, reports) as crew:
        while len(work.done) < len(work.nodes):
            while crew.free and (node := work.ready()) is not None:
                work.begun.add(node.key)
                watcher.begins(node.label, work.outlook())
                crew.begin(node)
            for node, outcome in crew.wait(_TICK_S):
                if isinstance(outcome, UserError):
                    raise _of(node, outcome) from outcome
                if isinstance(outcome, Exception):
                    raise outcome
                work.finished(node, float(outcome["seconds"]))
                watcher.ended(node.label, float(outcome["seconds"]), work.outlook())


def _make_here(work: _Work, stages: Path, watcher: Watcher) -> None:
    """Make all pieces in this process, one after the other."""
    known = all_stages()
    while (node := work.ready()) is not None:
        work.begun.add(node.key)
        watcher.begins(node.label, work.outlook())
        reports = functools.partial(watcher.progress, node.label)
        try:
            done = make(node, stages, known[node.stage], reports)
        except UserError as error:
            raise _of(node, error) from error
        work.finished(node, float(done["seconds"]))
        watcher.ended(node.label, float(done["seconds"]), work.outlook())


def _of(node: Node, error: UserError) -> UserError:
    return UserError(f"{node.label}: {error}", exit_code=1)


def _labelled(wanted: Sequence[Node]) -> list[Node]:
    """Return nodes and what they build on, each with the label of the first that wants it."""
    labelled: dict[str, Node] = {}
    for node in wanted:
        where = node.label.rpartition(": ")[0]
        for each in with_ancestors([node]):
            labelled.setdefault(each.key, replace(each, label=f"{where}: {each.stage}"))
    return list(labelled.values())


def _analysed(
    experiment: Experiment, plan: Plan, out: Path, scale: StudyScale, seeds: int | None
) -> dict[str, Any]:
    done: dict[tuple[str, int], dict[str, Done]] = {}
    seconds: dict[str, dict[str, float]] = {}
    for where, nodes in plan.items():
        done[where] = {}
        for name, node in nodes.items():
            folder = out / "stages" / node.key
            kept = read_done(folder)
            assert kept is not None, "all of the plan was made"
            done[where][name] = Done(folder, kept["findings"], float(kept["seconds"]))
    for node in with_ancestors(node for nodes in plan.values() for node in nodes.values()):
        kept = read_done(out / "stages" / node.key)
        assert kept is not None, "all of the plan was made"
        seconds.setdefault(node.stage, {})[node.key] = float(kept["seconds"])
    result = asdict(KINDS[experiment.kind].analyse(experiment, done))
    used = _seeds(experiment, scale, seeds)
    return {
        **result,
        "experiment": experiment.model_dump(mode="json"),
        "scale": scale.name,
        "seeds": used,
        "state": "complete" if scale.seeds is None and len(used) >= experiment.seeds else "part",
        "seconds": {stage: round(sum(each.values()), 1) for stage, each in seconds.items()},
        "pieces": {stage: len(each) for stage, each in seconds.items()},
        "machine": {"cores": os.cpu_count()},
        "version": __version__,
        "versions": package_versions(),
        "commit": _commit(),
    }


def _commit() -> str | None:
    """Return the commit of the checkout that this file is of; None where it is of none."""
    here = Path(__file__)
    stdout = ""
    for command in (
        ["ls-files", "--error-unmatch", here.name],
        ["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
    ):
        try:
            done = subprocess.run(
                ["git", "-C", str(here.parent), *command],
                capture_output=True,
                text=True,
                check=True,
            )
        except (OSError, subprocess.CalledProcessError):
            return None
        stdout = done.stdout
    return stdout.strip()
