"""Run a stage on Ray Data: on the cores of this machine, or on a cluster.

read_parquet, blocks of 64 units, actors that each open the same stage, write_parquet: all in
`OUT/ray/STAGE`, which every machine of the cluster has to see, as it has to see OUT and the clips.
What an actor makes of a block is what the local engine would make of it. The blocks that are
written are taken into the stage's log as they come, and go; what a killed run left of them is taken
in by the next one. A block that was not written is made again, with the replies that
are in the store.

Ray runs in a process of its own. It prints to the terminal, takes signals, and ends the process
that it runs in where a cluster goes away: none of that reaches the caller.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import math
import os
import pickle
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharegptvideo._concurrency import available_cores
from sharegptvideo._install import install_line
from sharegptvideo._io import dumps, making, os_errors, parse_json
from sharegptvideo._runs import folder_lock
from sharegptvideo.build.engines.ray_workers import BLOCK, REMOVAL, Job, Opening, drive, room_for
from sharegptvideo.build.engines.vllm import vllm_checkpoint
from sharegptvideo.build.stage import Context, EngineOptions, OpenStage, Row, Stage, recorded
from sharegptvideo.endpoint import EndpointOptions
from sharegptvideo.endpoint.limits import LimitRules
from sharegptvideo.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["check_ray", "left_rows", "run_on_ray"]

_OLDEST = "2.60"
_LONGEST_PLACE, _SHORT_PLACE = 24, Path("/tmp")
_PATIENCE_S = 60.0  # for blocks under way, once there is an error


def check_ray(options: EngineOptions) -> None:
    """Check that Ray is installed, and can be reached where it should run.

    Raises:
        UserError: it is not, or is too old, there is none at the address, or this machine has too
            few cores for the actors.
    """
    from packaging.version import Version

    try:
        version = importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError:
        raise UserError(f"--engine ray needs Ray: {install_line('ray')}") from None
    if Version(version) < Version(_OLDEST):
        raise UserError(
            f"--engine ray needs Ray {_OLDEST} or newer, not {version}: {install_line('ray')}"
        )
    address = options.ray_address
    if address is None:
        here = {"CPU": max(2, available_cores())}
        room_for(options, [here], batched=False, blocks=options.actors or 1)
    if address is None or address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if "://" in address or not (host and colon and port.isdigit()):
        raise UserError(
            f"--ray-address {address}: must be HOST:PORT of the cluster's head, such as "
            "10.0.0.1:6379, or auto; run the command on a machine of the cluster"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--ray-address {address}: no Ray there ({error}); start one with `ray start --head`",
            exit_code=1,
        ) from None


def left_rows(out: Path, stage: str) -> Iterator[Row]:
    """Yield the rows of the log that a run on Ray left when it was killed, and remove them."""
    folder = _folder(out, stage)
    if (folder / "blocks").is_dir():
        with _locked(folder):
            for rows in _Blocks(folder / "blocks").new():
                yield from rows


def _locked(folder: Path) -> contextlib.AbstractContextManager[None]:
    busy = f"{folder}: another run is at work there; wait for its end, or give another --out"
    return folder_lock(folder / ".lock", busy)


def run_on_ray(
    stage: Stage,
    opened: OpenStage,
    context: Context,
    units: Iterable[Sequence[Row]],
    out: Path,
) -> Generator[list[Row]]:
    """Yield the rows that a stage makes of each unit, as their blocks are done.

    Where the money is spent or nothing more can be made, or Ray goes away, what is done comes out
    first; then the error is raised.

    Args:
        stage: the settings.
        opened: the stage, as it was opened here.
        context: of the stage; its engine says where Ray runs.
        units: what the stage takes at once; read once, and written to `out`.
        out: the folder of the results.

    Raises:
        UserError: what a worker raised, too few cores for the workers, or a cluster that is gone.
    """
    folder = _folder(out, stage.name)
    with making(folder), _locked(folder), contextlib.ExitStack() as stack:
        blocks = _Blocks(folder / "blocks")
        shutil.rmtree(blocks.folder, ignore_errors=True)  # what a killed run tore off
        stack.callback(shutil.rmtree, folder / "units", ignore_errors=True)
        with os_errors(folder, "free some space"):
            count = _write_units(folder / "units", units)
        job = _job(stage, opened, context, folder, count)
        with _RayProcess(job, folder / "ray.log", context.endpoint.report) as process:
            try:
                while process.is_at_work():
                    yield from blocks.new()
            except GeneratorExit:
                raise
            except BaseException:  # Ctrl-C too: what was made is given, then it is raised on
                process.end()
                yield from blocks.new()
                raise
            yield from blocks.new()
            process.count_spent(context.endpoint)
            if process.error is not None:
                raise process.error
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # of another stage too
        folder.parent.rmdir()


def _folder(out: Path, stage: str) -> Path:
    return out / "ray" / stage


def _write_units(folder: Path, units: Iterable[Sequence[Row]]) -> int:
    """Write units with their places into a Parquet file, and return how many there are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    schema = pa.schema({"place": pa.int64(), "unit": pa.large_string()})
    source, count = enumerate(units), 0
    with pq.ParquetWriter(folder / "units.parquet", schema, compression="zstd") as file:
        while group := [each for _, each in zip(range(4096), source, strict=False)]:
            texts = [dumps(list(rows)) for _, rows in group]
            file.write_table(pa.table([[place for place, _ in group], texts], schema=schema))
            count += len(group)
    return count


class _Blocks:
    """The files of finished blocks, with the rows that were made of each unit, by its place."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seen = bytearray()  # a byte for each place

    def new(self) -> Iterator[list[Row]]:
        """Yield the rows of each unit that has come; a file goes when all of it was taken.

        A block comes twice where its worker died after it was written.
        """
        if not self.folder.is_dir():
            return
        for path in sorted(self.folder.rglob("*.parquet")):
            table = _finished_table(path)
            if table is None:  # it is being written
                continue
            for place, made in zip(*(each.to_pylist() for each in table.columns), strict=True):
                self._seen.extend(bytes(max(0, place + 1 - len(self._seen))))
                if not self._seen[place]:
                    yield parse_json(made)
                    self._seen[place] = 1
            path.unlink(missing_ok=True)


def _finished_table(path: Path) -> pa.Table | None:
    """Return places and rows in a Parquet file, None where it is torn or gone."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, columns=["place", "made"], partitioning=None)
    except (pa.ArrowException, OSError):
        return None


def _job(stage: Stage, opened: OpenStage, context: Context, folder: Path, count: int) -> Job:
    """Return the work of the process with Ray; keys stay in the environment."""
    options = context.endpoint
    settings = recorded(folder.parents[1] / f"{stage.name}.json")
    spec = "" if opened.model is None else opened.model.spec
    checkpoint = None
    if spec.startswith("hf:"):
        checkpoint = vllm_checkpoint(spec.removeprefix("hf:"), settings or {})
    apart = ("confirm", "report", "budget", "clock", "limits")
    plain = {
        each.name: getattr(options, each.name) for each in fields(options) if each.name not in apart
    }
    return Job(
        engine=context.engine,
        opening=Opening(
            path=[each or str(Path.cwd()) for each in sys.path],
            stage=pickle.dumps((stage, plain)),
            engine=context.engine,
            recorded=settings,
        ),
        rules=LimitRules(options.concurrency, options.rpm, options.tpm, options.max_cost),
        spent=options.budget.spent,
        batched=opened.step > 1,
        folder=folder.absolute(),
        blocks=math.ceil(count / BLOCK),
        checkpoint=checkpoint,
    )


class _RayProcess:
    """The process that has Ray in it, and what it reports."""

    def __init__(self, job: Job, log: Path, show: Callable[[str], None] | None) -> None:
        self.error: UserError | None = None
        self._log, self._engine, self._show = log, job.engine, show
        self._spent: dict[str, float] | None = None
        self._spent_before = job.spent
        self._events: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._ended = False
        self._deadline = math.inf
        # Sockets lie there, whose paths may have 107 characters, most of which Ray needs.
        place = Path(tempfile.gettempdir())
        if len(str(place)) > _LONGEST_PLACE and _SHORT_PLACE.is_dir():
            place = _SHORT_PLACE
        self._temp = Path(tempfile.mkdtemp(prefix="sgv-ray-", dir=place))
        environment = os.environ | {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            "PYTHONPATH": os.pathsep.join(each for each in sys.path if each),
        }
        with log.open("wb") as lines:
            # A session of its own: Ctrl-C at the terminal comes to this process alone.
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"from {drive.__module__} import drive; drive()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=lines,
                env=environment,
                start_new_session=True,
            )
        threading.Thread(target=self._listen, daemon=True).start()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, which is said elsewhere
            pickle.dump((job, str(self._temp)), self._process.stdin)
            self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(ValueError):
                self._events.put(json.loads(line))
        self._events.put(None)

    def is_at_work(self) -> bool:
        """Wait a moment for a report, and return whether more can come."""
        with contextlib.suppress(queue.Empty):
            event = self._events.get(timeout=0.1)
            if event is None:
                if not self._ended and self.error is None:
                    self.error = self._gone()
                return False
            self._ended |= "spent" in event
            self._spent = event.get("spent", self._spent)
            if "line" in event and self._show is not None:
                self._show(event["line"])
            if "message" in event and self.error is None:
                self.error = UserError(event["message"], exit_code=event["exit_code"])
                self._deadline = time.monotonic() + _PATIENCE_S
        return time.monotonic() < self._deadline

    def _gone(self) -> UserError:
        address = self._engine.ray_address
        what = "Ray has ended" if address is None else f"the Ray cluster at {address} is gone"
        return UserError(
            f"{what}; what is done is kept: run the same command again to go on. {self._log} has "
            "Ray's last words",
            exit_code=1,
        )

    def count_spent(self, options: EndpointOptions) -> None:
        """Count in the caller's budget what the workers spent."""
        if self._spent:
            dollars = self._spent["spent"] - self._spent_before
            tokens, requests = self._spent["tokens"], self._spent["requests"]
            options.budget.commit(None, dollars, int(tokens), requests=int(requests))

    def end(self) -> None:
        """End the process and its Ray; calls under way are lost."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # what its Ray has left

    def __enter__(self) -> _RayProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        subprocess.run([sys.executable, "-c", REMOVAL, str(self._temp)], check=False)
