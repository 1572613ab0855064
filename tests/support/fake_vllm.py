"""A stand-in for the command `vllm`: it knows `--version` and `serve`, and serves a fake model."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["FakeVllm", "main"]

ROOT = Path(__file__).parents[2]
_SCRIPT = """#!{python}
import sys
sys.path.insert(0, {root!r})
from tests.support.fake_vllm import main
main({folder!r})
"""


@dataclass(frozen=True)
class FakeVllm:
    """The command `vllm` in `folder / "bin"`, and what it was started with and has answered."""

    folder: Path

    @classmethod
    def install(cls, folder: Path, version: str = "0.33.0", dies: str = "", **settings: Any) -> Any:
        """Write the command.

        Args:
            folder: for it and what it notes.
            version: that it gives.
            dies: what `serve` says before it fails; "": it serves.
            settings: of the fake model.
        """
        for name in ("bin", "begun", "answered"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        command = folder / "bin" / "vllm"
        words = {"python": sys.executable, "root": str(ROOT), "folder": str(folder)}
        command.write_text(_SCRIPT.format(**words))
        command.chmod(0o755)
        made = cls(folder)
        made.change(version=version, dies=dies, settings=settings)
        return made

    def change(self, **behaviour: Any) -> None:
        """Change how it behaves from the next start on; the arguments of `install`."""
        file = self.folder / "behaviour.json"
        before = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(before | behaviour))

    @property
    def servers(self) -> dict[int, dict[str, Any]]:
        """Process ids of all servers that were started: `arguments` and `variables` of each."""
        files = (self.folder / "begun").glob("*.json")
        return {int(file.stem): json.loads(file.read_text()) for file in files}

    @property
    def alive(self) -> list[int]:
        """Process ids of the servers that have not ended."""
        return [pid for pid in self.servers if _is_alive(pid)]

    @property
    def paid(self) -> Counter[str]:
        """Whole answers by request, of all servers that have ended by a signal to do so."""
        files = (self.folder / "answered").glob("*.json")
        return sum((Counter(json.loads(file.read_text())["paid"]) for file in files), Counter())


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def main(folder: str) -> None:
    """Be `vllm`."""
    place = Path(folder)
    behaviour = json.loads((place / "behaviour.json").read_text())
    print("INFO 11-01 09:25:04 [__init__.py:241] a line of the log")
    if sys.argv[1:] == ["--version"]:
        print(behaviour["version"])
        return
    if sys.argv[1] != "serve":
        raise SystemExit(f"vllm: error: argument subparser: invalid choice: {sys.argv[1]!r}")
    _write(
        place / "begun" / f"{os.getpid()}.json",
        {"arguments": sys.argv[2:], "variables": dict(os.environ)},
    )
    if behaviour["dies"]:
        print(behaviour["dies"], file=sys.stderr)
        raise SystemExit(1)
    from tests.support.vlm_server import VlmSettings, serve_in_thread

    options = dict(zip(sys.argv[3::2], sys.argv[4::2], strict=True))
    settings = VlmSettings(model=options["--served-model-name"], **behaviour["settings"])
    port, report = serve_in_thread(settings, int(options["--port"]))
    assert str(port) == options["--port"]

    def end(_number: int, _frame: FrameType | None) -> None:
        _write(place / "answered" / f"{os.getpid()}.json", report())
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    while True:
        time.sleep(60)


def _write(file: Path, contents: Any) -> None:
    """Write a file whole: it is read by others meanwhile."""
    torn = file.with_suffix(".torn")
    torn.write_text(json.dumps(contents))
    torn.replace(file)
