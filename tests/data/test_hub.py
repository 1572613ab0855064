"""`source=None` against a Hub on loopback: real HTTP, the real client, only the files needed."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote

import pytest

from sharegptvideo import read_rows
from sharegptvideo.sources import DataWarning
from sharegptvideo.storage import sha256_file, sha256_text

Python = Callable[..., str]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class _Hub(BaseHTTPRequestHandler):
    """As much of the Hub's API as downloading and streaming files of a dataset need."""

    root: ClassVar[Path]
    fetched: ClassVar[list[str]]
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Stay quiet."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        asked = json.loads(self.rfile.read(length) or b"{}")
        match = re.fullmatch(r"/api/datasets/(\w+/\w+)/paths-info/(\w+)", self.path)
        if match and match[2] in {"main", COMMIT}:
            paths = [path for path in asked["paths"] if (self.root / path).exists()]
            return self._json([self._entry(self.root / path) for path in paths])
        return self._nothing("EntryNotFound")

    def _answer(self, *, body: bool) -> None:
        path = unquote(self.path).split("?")[0]
        if match := re.fullmatch(r"/api/datasets/ShareGPTVideo/\w+(?:/revision/(\w+))?", path):
            if match[1] not in {None, "main", COMMIT}:
                return self._nothing("RevisionNotFound")
            return self._json({"id": "x", "sha": COMMIT, "siblings": []})
        if match := re.fullmatch(r"/api/datasets/ShareGPTVideo/\w+/tree/(\w+)/?(.*)", path):
            folder = self.root / match[2]
            deep = "recursive=True" in self.path or "recursive=true" in self.path
            found = folder.rglob("*") if deep else folder.glob("*")
            return self._json([self._entry(item) for item in sorted(found)])
        if match := re.fullmatch(r"/datasets/ShareGPTVideo/\w+/resolve/(\w+)/(.+)", path):
            return self._file(match[2], body=body)
        return self._nothing("RepoNotFound")

    def _entry(self, item: Path) -> dict[str, Any]:
        name = item.relative_to(self.root).as_posix()
        if item.is_dir():
            return {"type": "directory", "path": name, "oid": sha256_text(name)[:40]}
        oid = sha256_file(item)[:40]
        return {"type": "file", "path": name, "oid": oid, "size": item.stat().st_size}

    def _file(self, name: str, *, body: bool) -> None:
        path = self.root / name
        if not path.is_file():
            return self._nothing("EntryNotFound")
        content = path.read_bytes()
        self.send_response(200)
        self.send_header("ETag", f'"{sha256_file(path)[:40]}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.fetched.append(name)
            self.wfile.write(content)
        return None

    def _json(self, value: Any) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _nothing(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def hub(shared_data: Path) -> Iterator[tuple[str, list[str]]]:
    """The shared release as both repositories: the endpoint, and the files fetched from it."""
    fetched: list[str] = []
    handler = type("Hub", (_Hub,), {"root": shared_data / "release", "fetched": fetched})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", fetched
        server.shutdown()


READ = """
import json, warnings
warnings.simplefilter("ignore")
from sharegptvideo import load_dataset, read_rows
"""


def test_downloads_only_what_is_asked_for_and_then_works_offline(
    hub: tuple[str, list[str]], shared_data: Path, python: Python
) -> None:
    endpoint, fetched = hub
    code = READ + 'print(json.dumps([list(read_rows("qa")), list(load_dataset("qa"))]))'
    expected = list(read_rows("qa", shared_data / "release"))
    assert json.loads(python(code, HF_ENDPOINT=endpoint)) == [expected, expected]
    assert fetched == ["video_instruction/train/qa/video_qa.jsonl"]
    dead = "http://127.0.0.1:9"
    assert json.loads(python(code, HF_ENDPOINT=dead)) == [expected, expected]
    assert json.loads(python(code, HF_ENDPOINT=endpoint, HF_HUB_OFFLINE="1"))[0] == expected


def test_streams_without_keeping_files(
    hub: tuple[str, list[str]], shared_data: Path, python: Python, tmp_path: Path
) -> None:
    endpoint, fetched = hub
    code = READ + 'print(json.dumps(list(load_dataset("sft", streaming=True, revision="main"))))'
    with pytest.warns(DataWarning):
        expected = list(read_rows("sft", shared_data / "release"))
    assert json.loads(python(code, HF_ENDPOINT=endpoint)) == expected
    assert sorted(set(fetched)) == [
        "video_instruction/train/sft/video_240k_caption_15k.jsonl",
        "video_instruction/train/sft/video_caption_300k.jsonl",
    ]
    assert not list(tmp_path.rglob("*.jsonl"))


def test_registered_name_without_a_folder_reads_the_hub(
    hub: tuple[str, list[str]], shared_data: Path, python: Python
) -> None:
    code = READ + (
        "import datasets\n"
        'rows = datasets.load_dataset("sharegptvideo", "tgif_qa", split="test", streaming=True)\n'
        "print(json.dumps(list(rows)))"
    )
    expected = list(read_rows("tgif_qa", shared_data / "release", "test"))
    assert json.loads(python(code, HF_ENDPOINT=hub[0])) == expected


ERRORS = (
    READ
    + """
from sharegptvideo.errors import UserError
for streaming in (False, True):
    for name, revision in (("qa", None), ("qa", "nosuch"), ("msvd_qa", None)):
        split = "test" if name == "msvd_qa" else "train"
        try:
            list(load_dataset(name, split, revision=revision, streaming=streaming))
        except UserError as error:
            assert error.exit_code in (1, 2) and "\\n" not in str(error)
            print(error)
        else:
            print("read")
"""
)


def test_unknown_revision_and_file(hub: tuple[str, list[str]], python: Python) -> None:
    lines = python(ERRORS, HF_ENDPOINT=hub[0]).splitlines()
    assert lines[0] == lines[3] == "read"
    gone = "ShareGPTVideo/train_video_and_instruction: no revision 'nosuch' on the Hub"
    assert lines[1] == lines[4] == gone
    assert all("no video_instruction/test/msvd.qa.jsonl" in line for line in (lines[2], lines[5]))


def test_no_network_is_one_line_with_the_fix(python: Python) -> None:
    lines = python(ERRORS, HF_ENDPOINT="http://127.0.0.1:9").splitlines()
    assert len(lines) == 6
    for line in lines:
        assert re.match(r"ShareGPTVideo/\w+: the Hub cannot be reached \(ConnectError\)", line)
        assert line.endswith(
            'pass source=PATH to a local copy of the release, or source="synthetic"'
        )
