"""What runs in processes with Ray in them: the pipeline of a stage, its workers, what they share.

`drive` is the main function of a process that `ray.py` starts. It reads a `Job` from stdin, ends
when stdin closes, and prints reports as lines of JSON.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharegptvideo._concurrency import available_cores
from sharegptvideo._io import dumps, parse_json
from sharegptvideo._text import plural
from sharegptvideo.build.engines.local import run_units
from sharegptvideo.build.engines.vllm import Checkpoint, VllmServer, choose_vllm, installed_vllm
from sharegptvideo.build.stage import Context, EngineOptions, OpenStage, Row
from sharegptvideo.endpoint import EndpointOptions
from sharegptvideo.endpoint.limits import LimitRules, RemoteLimits, SharedLimits
from sharegptvideo.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["BLOCK", "REMOVAL", "Job", "Opening", "Room", "drive", "room_for"]

BLOCK = 64
"""Units in a block: what an actor is given at once, and what is written at once."""

REMOVAL = """
import pathlib, shutil, sys, time
for _ in range(50):
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    time.sleep(0.2)
    if not pathlib.Path(sys.argv[1]).exists():
        break
"""
"""Removes a folder to which Ray's processes write to the last moment; for a process of its own."""

_TASK_CPUS = 0.25  # of a task that reads or writes
# What these take beside the actors; one that divides into blocks takes a whole CPU. With less, each
# could wait for what another one holds.
_BESIDE = 1 + 2 * _TASK_CPUS
_SHARED = "shared"
# What workers on other machines need of the caller's environment, by how the names begin.
_ENVIRONMENT = ("OPENAI_", "SHAREGPTVIDEO_", "HF_", "SSL_CERT_")
_MOST_STARTS = 12  # of workers beyond their number, without a finished block in between
_PATIENCE_S = 30.0  # for an answer from the cluster
_POLL_S = 0.5
_OBJECT_STORE = 256 << 20  # bytes of memory that Ray holds blocks in: they are texts
_LANES = 8  # at most
_LEAST_CPUS = 2
_MOST_PER_CPU = 8  # actors: each is a process, with room for hundreds of calls


@dataclass(frozen=True, slots=True)
class Opening:
    """What a worker opens the stage with.

    Attributes:
        path: where modules are searched.
        stage: pickled: the settings, and the options of the endpoint that are plain values.
        engine: of the context.
        recorded: settings of the results, for `OpenStage.go_on`.
    """

    path: list[str]
    stage: bytes
    engine: EngineOptions
    recorded: Row | None


@dataclass(frozen=True, slots=True)
class Job:
    """The work of the process with Ray.

    Attributes:
        engine: where Ray runs, and how many workers.
        opening: of the stage.
        rules: that all workers keep to together.
        spent: US dollars that were spent of them before.
        batched: whether the model is in the worker, and answers in batches.
        folder: with `units`, for `blocks`.
        blocks: how many there are.
        checkpoint: of the model, where it is an hf: model.
    """

    engine: EngineOptions
    opening: Opening
    rules: LimitRules
    spent: float
    batched: bool
    folder: Path
    blocks: int
    checkpoint: Checkpoint | None


@dataclass(frozen=True, slots=True)
class Room:
    """The workers that a cluster is asked for: their number, and cores and GPUs of each."""

    workers: int
    cpus: float
    gpus: int


def room_for(
    engine: EngineOptions, nodes: list[Mapping[str, float]], *, batched: bool, blocks: int
) -> Room:
    """Return the workers for a cluster of these nodes, given by their resources.

    A model that answers in batches gets a GPU for each worker where there are any, else a worker a
    node. Others get a core each, less where there are more workers than cores. What reads, divides
    and writes needs one and a half beside them.

    Raises:
        UserError: so many workers, or of so many cores, leave none for what reads and writes.
    """
    cores = sum(node.get("CPU", 0.0) for node in nodes)
    gpus = int(sum(node.get("GPU", 0.0) for node in nodes))
    if cores < _LEAST_CPUS:
        raise UserError(
            f"the Ray cluster has {plural_cpus(cores)}, and {_LEAST_CPUS} are the least that work"
            f" needs: start it with --num-cpus {_LEAST_CPUS} or more",
            exit_code=1,
        )
    per_gpu = 1 if batched and gpus else 0
    room = cores - _BESIDE
    if engine.actors is not None:
        workers = engine.actors
    elif batched:
        workers = gpus or len(nodes)
    else:
        workers = max(1, int(cores) - 1)
    workers = max(1, min(workers, blocks)) if engine.actors is None else workers
    if workers > _MOST_PER_CPU * cores:
        raise UserError(
            f"--actors {workers}: {plural_cpus(cores)} cannot run so many processes; give --actors"
            f" {int(_MOST_PER_CPU * cores)} or fewer"
        )
    if per_gpu and workers > gpus:
        raise UserError(
            f"--actors {workers}: each takes a GPU, and the Ray cluster has {gpus}; give --actors"
            f" {gpus}"
        )
    share = min(1.0, int(10_000 * room / workers) / 10_000)
    cpus = share if engine.actor_cpus is None else engine.actor_cpus
    most = max(node.get("CPU", 0.0) for node in nodes)
    if workers * cpus > room or cpus > most:
        fit = sum(int((node.get("CPU", 0.0)) / cpus) for node in nodes)
        while fit and fit * cpus > room:
            fit -= 1
        fix = f"--actors {fit} or " if fit else ""
        raise UserError(
            f"{plural(workers, 'actor')} of {plural_cpus(cpus)} would leave too few of the"
            f" {plural_cpus(cores)} of the Ray cluster: what reads and writes beside them needs"
            f" {_BESIDE:g}, and would wait for ever: give {fix}--actor-cpus {share:g}"
        )
    return Room(workers, cpus, per_gpu)


def plural_cpus(count: float) -> str:
    """Return a number of cores in words, such as "0.5 CPUs"."""
    return f"{count:g} CPU" if count == 1 else f"{count:g} CPUs"


def drive() -> None:
    """Run a job to its end, and report; see the module."""
    job, temp = pickle.load(sys.stdin.buffer)
    reports = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what Ray prints goes to the log
    threading.Thread(target=_end_with_caller, args=(temp,), daemon=True).start()

    def report(**event: Any) -> None:
        with contextlib.suppress(OSError):
            reports.write(json.dumps(event) + "\n")
            reports.flush()

    try:
        _run(job, temp, report)
    except UserError as error:
        report(**_reported(error))
    except BaseException as error:  # noqa: BLE001 - of Ray, in as many forms as it has parts
        traceback.print_exc()
        report(message=f"Ray: {_first_line(error)}; what is done is kept", exit_code=1)
    sys.stderr.flush()
    os._exit(0)  # Ray's own way out takes seconds; its processes go with this one


def _end_with_caller(temp: str) -> None:
    """Wait until the caller is gone or asks for the end, which closes stdin; then end at once."""
    sys.stdin.buffer.read()
    subprocess.Popen(
        [sys.executable, "-c", REMOVAL, temp],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.killpg(0, signal.SIGKILL)  # this process too, and all of a Ray that it started


def _reported(error: Exception) -> dict[str, Any]:
    """Return an error as a report."""
    if isinstance(error, UserError):
        return {"message": str(error), "exit_code": error.exit_code}
    traceback.print_exc()
    return {"message": _first_line(error), "exit_code": 1}


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:300]


def _run(job: Job, temp: str, report: Any) -> None:
    import ray
    import ray.data

    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    _connect(job.engine, temp)
    listed: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call] # Ray's own
    nodes = [node["Resources"] for node in listed if node["Alive"]]
    room = room_for(job.engine, nodes, batched=job.batched, blocks=job.blocks)
    checkpoint = _checkpoint_to_serve(job, room, report)
    shared = _start_shared(job)
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(shared, room, report, done), daemon=True)
    watcher.start()
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    lanes = 1
    if checkpoint is not None or not job.batched:
        # Twice as many units as there may be calls, as the local engine has. A server of a
        # worker's own has all of these to itself.
        sharing = 1 if checkpoint is not None else room.workers
        lanes = 1 + -(-2 * job.rules.concurrency // (BLOCK * sharing))
        lanes = min(max(2, lanes), _LANES)
    units = ray.data.read_parquet(str(job.folder / "units"), num_cpus=_TASK_CPUS)
    made = units.repartition(target_num_rows_per_block=BLOCK).map_batches(
        _Worker,
        fn_constructor_args=(ray.get_runtime_context().namespace, lanes, checkpoint, job.folder),
        batch_size=BLOCK if room.gpus else None,  # Ray takes no None beside GPUs
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(
            size=room.workers,
            max_tasks_in_flight_per_actor=lanes + 1,
            max_concurrent_calls_per_actor=lanes,
            enable_true_multi_threading=True,
        ),
        num_cpus=room.cpus,
        num_gpus=room.gpus or None,
    )
    try:
        made.write_parquet(str(job.folder / "blocks"), ray_remote_args={"num_cpus": _TASK_CPUS})
    except Exception:  # whatever Ray makes of an error in a worker
        error = ray.get(shared.state.remote(), timeout=_PATIENCE_S)["error"]
        if error is None:
            raise
        traceback.print_exc()
        raise UserError(error["message"], exit_code=error["exit_code"]) from None
    done.set()
    watcher.join()


def _checkpoint_to_serve(job: Job, room: Room, report: Any) -> Checkpoint | None:
    """Return the checkpoint that vLLM serves in each worker; None: what answers is opened there."""
    import ray

    if job.checkpoint is None:
        return None

    def where_workers_run() -> tuple[str | None, str]:
        asked = ray.remote(installed_vllm).options(num_cpus=0, num_gpus=room.gpus).remote()
        installed: tuple[str | None, str] = ray.get(asked)
        return installed

    serves, line = choose_vllm(
        job.checkpoint, wanted=job.engine.vllm, gpus=room.gpus, installed=where_workers_run
    )
    report(line=line)
    return job.checkpoint if serves else None


def _connect(engine: EngineOptions, temp: str) -> None:
    """Start a Ray of this machine, or join the one at the address."""
    import ray

    common: dict[str, Any] = {
        "namespace": f"sharegptvideo-{os.urandom(6).hex()}",
        "log_to_driver": False,
        "logging_level": logging.ERROR,
    }
    if engine.ray_address is None:
        ray.init(
            num_cpus=max(_LEAST_CPUS, available_cores()),
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE,
            _temp_dir=f"{temp}/ray",  # which Ray opens to all users
            _node_ip_address="127.0.0.1",
            **common,
        )
        return
    try:
        ray.init(address=engine.ray_address, **common)
    except (ConnectionError, RuntimeError, ValueError) as error:
        traceback.print_exc()
        raise UserError(
            f"--ray-address {engine.ray_address}: {_first_line(error)}; is this machine a node of"
            " that cluster, with the same versions of Python and Ray, and its token, if it has one"
            " (RAY_AUTH_MODE=token)?",
            exit_code=1,
        ) from error


def _start_shared(job: Job) -> Any:
    """Start the one actor that all workers share, on this machine."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = ray.get_runtime_context().get_node_id()
    environment = {
        name: value for name, value in os.environ.items() if name.startswith(_ENVIRONMENT)
    }
    return (
        ray.remote(_Shared)
        .options(
            name=_SHARED,
            num_cpus=0,
            max_concurrency=100_000,  # each call that waits for its turn is one
            scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False),
        )
        .remote(job.opening, job.rules, job.spent, environment)
    )


def _watch(shared: Any, room: Room, report: Any, done: threading.Event) -> None:
    """Report errors of workers as they come, and what was spent at the end; end where all is lost.

    After an error, blocks under way are finished: their calls are paid for.
    """
    import ray

    begun = finished = 0
    while True:
        ending = done.wait(_POLL_S)
        try:
            state = ray.get(shared.state.remote(), timeout=_PATIENCE_S)
        except Exception:  # noqa: BLE001 - in whatever way the cluster went away
            traceback.print_exc()
            os._exit(1)
        if state["finished"] > finished:
            begun, finished = state["started"], state["finished"]
        error = state["error"]
        if error is None and state["started"] - begun > room.workers + _MOST_STARTS:
            error = {
                "message": "workers on Ray die again and again, with no block finished in between:"
                " out of memory, or a clip or model that ends the process; give fewer --actors",
                "exit_code": 1,
            }
        if error is not None:
            report(**error)
        if error is not None and not state["under_way"] and not ending:
            ending = done.wait(5)  # for what is done to be written
            state = ray.get(shared.state.remote(), timeout=_PATIENCE_S)
            ending = True
        if ending:
            report(spent=state["spent"])
            if not done.is_set():
                os._exit(0)
            return


class _Shared:
    """What all workers share: limits and money, how to open the stage, and the end of the work."""

    def __init__(
        self, opening: Opening, rules: LimitRules, spent: float, environment: dict[str, str]
    ) -> None:
        self._opening, self._environment = opening, environment
        self._limits = SharedLimits(rules, spent=spent)
        self._error: dict[str, Any] | None = None
        self._workers: dict[str, str] = {}
        self._callers: set[str] = set()
        self._under_way: dict[str, int] = {}
        self._started = self._finished = 0

    async def start(self, actor: str, process: str) -> tuple[Opening, dict[str, str]]:
        """Note a worker, and drop the calls of the process that it is in place of."""
        self._started += 1
        before = self._workers.get(actor)
        self._workers[actor], self._under_way[actor] = process, 0
        if before is not None:
            gone = {name for name in self._callers if name.startswith(f"{before}-")}
            for name in gone:
                await self._limits.drop(name)
            self._callers -= gone
        return self._opening, self._environment

    async def begin(self, actor: str) -> bool:
        """Note that a block is begun, and return whether it should be."""
        if self._error is not None:
            return False
        self._under_way[actor] += 1
        return True

    async def finish(self, actor: str, error: dict[str, Any] | None) -> None:
        """Note that a block is done, or why it is not."""
        self._under_way[actor] -= 1
        self._finished += 1
        self._error = self._error or error

    async def fail(self, error: dict[str, Any]) -> None:
        """Note why a worker cannot begin."""
        self._error = self._error or error

    async def limits(self, method: str, *arguments: Any) -> Any:
        """Call a method of `SharedLimits`."""
        if method == "begin":
            self._callers.add(arguments[1].worker)
        return await getattr(self._limits, method)(*arguments)

    async def state(self) -> dict[str, Any]:
        """Return what the watcher reports."""
        return {
            "error": self._error,
            "started": self._started,
            "finished": self._finished,
            "under_way": sum(self._under_way.values()),
            "spent": await self._limits.figures(),
        }


class _Worker:
    """An actor: makes of each block of units what the local engine makes of them."""

    def __init__(
        self, namespace: str, lanes: int, checkpoint: Checkpoint | None, folder: Path
    ) -> None:
        import ray

        self._shared = ray.get_actor(_SHARED, namespace)
        self._actor = ray.get_runtime_context().get_actor_id()
        process = f"{socket.gethostname()}-{os.getpid()}"
        given: Any = ray.get(self._shared.start.remote(self._actor, process))
        opening: Opening = given[0]
        os.environ.update(given[1])
        sys.path += [each for each in opening.path if each not in sys.path]
        stage, options = pickle.loads(opening.stage)
        limits = functools.partial(RemoteLimits, self._call)
        context = Context(EndpointOptions(**options, limits=limits), opening.engine)
        self._lanes: queue.SimpleQueue[OpenStage] = queue.SimpleQueue()
        try:
            if checkpoint is not None:
                vllm = VllmServer(checkpoint, folder)
                vllm.end_process_with_it()
                endpoint = replace(context.endpoint, known_as=vllm.known_as)
                context = replace(context, endpoint=endpoint, server=vllm.server)
            for _ in range(lanes):
                opened = stage.open(context)
                if opening.recorded is not None:
                    opened.go_on(opening.recorded)
                self._lanes.put(opened)
        except Exception as error:
            ray.get(self._shared.fail.remote(_reported(error)))
            raise

    async def _call(self, method: str, *arguments: Any) -> Any:
        return await self._shared.limits.remote(method, *arguments)

    def __call__(self, block: pa.Table) -> pa.Table:
        """Return place and rows of each unit; of those that were made, if the work has to end."""
        import pyarrow as pa
        import ray

        made: dict[int, str] = {}
        if ray.get(self._shared.begin.remote(self._actor)):
            units = zip(*(block[name].to_pylist() for name in ("place", "unit")), strict=True)
            error = self._make({place: parse_json(text) for place, text in units}, made)
            ray.get(self._shared.finish.remote(self._actor, error))
        places = pa.array(made.keys(), pa.int64())
        return pa.table({"place": places, "made": pa.array(made.values(), pa.large_string())})

    def _make(self, units: dict[int, list[Row]], made: dict[int, str]) -> dict[str, Any] | None:
        """Fill `made` with rows by place; return the error that ended it."""
        places = {rows[0]["id"]: place for place, rows in units.items()}
        opened = self._lanes.get()
        try:
            for rows in run_units(opened, units.values()):
                made[places[rows[0]["id"]]] = dumps(rows)
        except Exception as error:  # noqa: BLE001 - of the user's function too
            return _reported(error)
        finally:
            self._lanes.put(opened)
        return None
