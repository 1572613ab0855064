"""vLLM in the workers of Ray: whether it answers for an hf: model, and one server for each worker.

A stage is an async function that may ask twice about a row, and its replies go to the store as they
come. Ray's own vLLM processor has a column of prompts and one of answers, so a stage does not fit
into it. Here each worker starts `vllm serve` as a child and asks it as any served model.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sharegptvideo._io import read_json_object
from sharegptvideo._text import duration, shortened
from sharegptvideo.build.stage import OwnServer, Row
from sharegptvideo.errors import UserError
from sharegptvideo.models.base import short_hash

__all__ = ["Checkpoint", "VllmServer", "choose_vllm", "installed_vllm", "vllm_checkpoint"]

_OLDEST = "0.33"  # whose arguments and architectures these are
_ARCHITECTURES = frozenset(
    {
        "InternVLForConditionalGeneration",
        "LlavaNextVideoForConditionalGeneration",
        "LlavaOnevisionForConditionalGeneration",
        "Qwen2VLForConditionalGeneration",
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen3VLForConditionalGeneration",
        "Qwen3VLMoeForConditionalGeneration",
    }
)
"""Of our engine's architectures, those that vLLM shows videos to.

It has none of LLaVA-Hound, Video-LLaVA and VideoLLaMA 3, and shows SmolVLM pictures alone
(`_MULTIMODAL_MODELS` in its models/registry.py, `get_supported_mm_limits` in each model's file).
"""

_PENALTY = "repetition_penalty"
_LONGEST_START_S = 3600.0
_LONGEST_CAUSE = 300
_TAIL = 64 << 10  # bytes of a log in which the cause is looked for
# Ends the server when stdin closes, which it does with the worker, however that ends; and what the
# server has started, when the server ends. Process group 0 is this process's own. It is no child of
# the worker: Ray kills a worker's children, and theirs, such as the server, would go on.
_SUPERVISION = """
import os, signal, subprocess, sys, threading
if os.fork():
    os._exit(0)
server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=sys.stderr)
def end_with_caller():
    sys.stdin.buffer.read()
    server.terminate()
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        pass
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=end_with_caller, daemon=True).start()
server.wait()
os.killpg(0, signal.SIGKILL)
"""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint of an hf: model, as vLLM needs it.

    Attributes:
        path: folder or Hub id.
        kind: its model type.
        digest: 16 hex digits that stand for its weights and settings.
        penalty: its repetition penalty; None: none.
        obstacle: why vLLM cannot answer for it; None: it can.
    """

    path: str
    kind: str
    digest: str
    penalty: float | None
    obstacle: str | None


def vllm_checkpoint(path: str, settings: Row) -> Checkpoint:
    """Return what vLLM needs of a checkpoint, and whether it can answer for our engine.

    Args:
        path: a folder, or a Hub id.
        settings: of the results, with hashes of its weights and settings.

    Raises:
        UserError: no checkpoint there.
    """
    from sharegptvideo.models.checkpoints import checkpoint_folder

    folder = checkpoint_folder(path)
    config = read_json_object(folder / "config.json")
    named = [str(name) for name in config.get("architectures") or ()]
    hashes = [str(settings.get(name)) for name in ("weights_sha256", "settings_hash")]
    obstacle, penalty = None, None
    if not _ARCHITECTURES.intersection(named):
        what = ", ".join(named) or f"models of the type {config.get('model_type')!r}"
        obstacle = f"vLLM has no {what} for videos"
    elif (folder / "generation_config.json").is_file():
        from transformers import GenerationConfig

        from sharegptvideo.models.processor import generation_rules

        rules = generation_rules(GenerationConfig.from_pretrained(folder))
        penalty = rules.pop(_PENALTY, None)
        if rules:
            obstacle = f"vLLM has no {', '.join(rules)}, which its generation_config.json asks for"
    digest = short_hash(" ".join(hashes))
    path = str(folder.absolute()) if folder == Path(path) else path  # workers are elsewhere
    return Checkpoint(path, str(config.get("model_type")), digest, penalty, obstacle)


def choose_vllm(
    checkpoint: Checkpoint,
    *,
    wanted: bool,
    gpus: int,
    installed: Callable[[], tuple[str | None, str]],
) -> tuple[bool, str]:
    """Return whether vLLM answers for a checkpoint, and a line that says which engine does and why.

    Args:
        checkpoint: what is asked.
        wanted: False: the user wants our engine.
        gpus: of each worker.
        installed: returns what `installed_vllm` does where workers run; called last.
    """
    cause = checkpoint.obstacle
    if not wanted:
        cause = "as asked for (--no-vllm)"
    elif cause is None and not gpus:
        cause = "the Ray cluster has no GPU for vLLM"
    if cause is None:
        version, lack = installed()
        if version is not None:
            line = f"served by vLLM {version}, a server in each actor (--no-vllm: our own engine)"
            return True, f"hf:{checkpoint.path}: {line}"
        cause = lack
    return False, f"hf:{checkpoint.path}: answered by our own engine in each actor; {cause}"


def installed_vllm() -> tuple[str | None, str]:
    """Return the version of vLLM on this machine and its command; or None and why there is none.

    The command `vllm` may be of another environment than this one's.
    """
    from packaging.version import InvalidVersion, Version

    places = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    command = shutil.which("vllm", path=os.pathsep.join(places))
    if command is None:
        return None, "vLLM is not installed (no command vllm on the PATH)"
    try:
        answer = subprocess.run(
            [command, "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=300,
            env=_environment(),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"{command} --version fails: {shortened(str(error), _LONGEST_CAUSE)}"
    if answer.returncode:
        return None, f"{command} --version fails: {_cause_in(answer.stderr or answer.stdout)}"
    version = (answer.stdout.split() or [""])[-1]
    try:
        if Version(version) < Version(_OLDEST):
            return None, f"vLLM {version} is too old, {_OLDEST} or newer is needed"
    except InvalidVersion:
        return None, f"{command} --version gives no version: {shortened(version, 80)!r}"
    return version, command


class VllmServer:
    """`vllm serve` for one checkpoint, on this process's GPU, which ends with this process.

    Attributes:
        known_as: what stands for its address, which is another one each time.
        server: how it is asked.
    """

    known_as = "vllm"

    def __init__(self, checkpoint: Checkpoint, logs: Path) -> None:
        """Start it, and wait until it can be asked: as long as it takes to load the weights.

        Its key becomes this process's OPENAI_API_KEY.

        Args:
            checkpoint: what it serves.
            logs: the folder for what it says.

        Raises:
            UserError: there is no vLLM on this machine, or it has ended.
        """
        from sharegptvideo.models.checkpoints import checkpoint_folder

        version, command = installed_vllm()
        machine = socket.gethostname()
        if version is None:
            raise UserError(
                f"machine {machine}: {command}, and other machines of the cluster have it; install"
                " the same version on all, or give --no-vllm",
                exit_code=1,
            )
        self._what = f"hf:{checkpoint.path}: vLLM {version} on {machine}"
        self._log = logs / f"vllm-{machine}-{os.getpid()}.log"
        name = f"{checkpoint.kind} {checkpoint.digest} (vLLM {version})"
        port, key = _free_port(), secrets.token_hex(16)
        self.server = OwnServer(name, f"http://127.0.0.1:{port}/v1")
        folder = checkpoint_folder(checkpoint.path)
        arguments = [
            *("--host", "127.0.0.1", "--port", str(port), "--served-model-name", name),
            # One clip a request, and as long a prompt as the GPU's memory has room for.
            *("--limit-mm-per-prompt", json.dumps({"image": 0, "video": 1})),
            *("--max-model-len", "auto", "--uvicorn-log-level", "warning"),
            # Requests say how tokens are drawn. What else the checkpoint says of it, our engine
            # keeps to as well: its repetition penalty.
            *("--generation-config", "vllm"),
        ]
        if checkpoint.penalty is not None:
            rules = json.dumps({_PENALTY: checkpoint.penalty})
            arguments += ["--override-generation-config", rules]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _SUPERVISION, command, "serve", str(folder), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,  # which closes when the server has ended
                stderr=log,
                env=_environment() | {"VLLM_API_KEY": key},
                start_new_session=True,
            )
        self._ended = threading.Event()
        threading.Thread(target=self._listen, name="vllm", daemon=True).start()
        self._wait(port)
        os.environ["OPENAI_API_KEY"] = key
        for variable in ("NO_PROXY", "no_proxy"):
            others = os.environ.get(variable)
            os.environ[variable] = f"{others},127.0.0.1" if others else "127.0.0.1"

    def _listen(self) -> None:
        assert self._process.stdout is not None
        self._process.wait()
        self._process.stdout.read()
        self._ended.set()

    def _wait(self, port: int) -> None:
        """Wait until it answers.

        Raises:
            UserError: it has ended, or takes too long.
        """
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        end = time.monotonic() + _LONGEST_START_S
        while time.monotonic() < end:
            if self._ended.is_set():
                tail = self._log.read_bytes()[-_TAIL:].decode(errors="replace")
                raise UserError(
                    f"{self._what} ended before it could be asked: {_cause_in(tail)}; {self._log}"
                    " has all that it said; --no-vllm takes our own engine",
                    exit_code=1,
                )
            try:
                direct.open(f"http://127.0.0.1:{port}/health", timeout=10).close()
                return
            except (OSError, http.client.HTTPException):
                time.sleep(0.2)
        self.close()
        raise UserError(
            f"{self._what} could not be asked within {duration(_LONGEST_START_S)}; {self._log}"
            " has what it said; --no-vllm takes our own engine",
            exit_code=1,
        )

    def end_process_with_it(self) -> None:
        """From now on, end this process where the server ends: another one takes its place."""

        def wait() -> None:
            self._ended.wait()
            os._exit(1)

        threading.Thread(target=wait, name="vllm end", daemon=True).start()

    def close(self) -> None:
        """End the server."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._ended.wait()


def _environment() -> dict[str, str]:
    """Return the variables for `vllm`, which may be of another environment than this process."""
    ours = ("PYTHONPATH", "PYTHONHOME", "OPENAI_API_KEY")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return kept | {"VLLM_NO_USAGE_STATS": "1"}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def _cause_in(said: str) -> str:
    """Return, of what a program said before it ended, the line that most likely says why."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [
        match.group()
        for line in lines
        if (match := re.search(r"\b\w*(Error|Exception|error): \S.*", line))
        and "root cause above" not in line
    ]
    return shortened((errors or lines or ["it said nothing"])[-1], _LONGEST_CAUSE)
