"""A headless Chromium that opens a page from the disk, driven through a pipe."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["CHROMIUM", "Browser"]

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
_SECONDS = 60.0


class Browser:
    """One tab. `problems` are errors and refusals that pages wrote to the console."""

    def __init__(self, profile: Path, width: int = 1400, height: int = 1000) -> None:
        assert CHROMIUM is not None
        self.problems: list[str] = []
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()

        def place() -> None:  # Chromium reads from 3 and writes to 4
            held = os.dup(to_read), os.dup(to_write)
            os.dup2(held[0], 3)
            os.dup2(held[1], 4)

        self._process = subprocess.Popen(
            [
                CHROMIUM,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--remote-debugging-pipe",
                f"--user-data-dir={profile}",
                f"--window-size={width},{height}",
                "about:blank",
            ],
            preexec_fn=place,
            close_fds=False,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._waiting = b""
        self._replies: dict[int, dict[str, Any]] = {}
        self._number = 0
        self._loaded = False
        self._session: str | None = None
        pages = self._ask("Target.getTargets")["targetInfos"]
        page = next(each["targetId"] for each in pages if each["type"] == "page")
        self._session = self._ask("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._ask(f"{domain}.enable")
        self.resize(width, height)

    def resize(self, width: int, height: int) -> None:
        self._ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def dark(self) -> None:
        feature = {"name": "prefers-color-scheme", "value": "dark"}
        self._ask("Emulation.setEmulatedMedia", features=[feature])

    def open(self, page: Path, fragment: str = "") -> None:
        """Load a file, and wait for all that its HTML names."""
        # By way of an empty page: another fragment of the same address would load nothing anew.
        for url in ("about:blank", page.resolve().as_uri() + fragment):
            self._loaded = False
            self._ask("Page.navigate", url=url)
            self._until(lambda: self._loaded)

    def run(self, expression: str) -> Any:
        """The value of an expression of JavaScript; a promise is waited for."""
        found = self._ask(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until an expression is true, looking at every picture that is drawn."""
        self.run(
            "new Promise((done) => { const look = () =>"
            f" ({expression}) ? done() : requestAnimationFrame(look); look(); }})"
        )

    def press(self, key: str) -> None:
        """Press a key that types itself, or one with a name, such as ArrowRight."""
        for kind in ("keyDown", "keyUp"):
            text = {"text": key} if kind == "keyDown" and len(key) == 1 else {}
            self._ask("Input.dispatchKeyEvent", type=kind, key=key, **text)

    def saved(self, folder: Path) -> None:
        """Have what pages save put into a folder."""
        self._ask("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def picture(self, file: Path) -> None:
        """Save what the window shows as a PNG."""
        data = self._ask("Page.captureScreenshot", format="png")["data"]
        file.write_bytes(base64.b64decode(data))

    def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        self._until(lambda: number in self._replies)
        found = self._replies.pop(number)
        assert "error" not in found, found["error"]
        result: dict[str, Any] = found["result"]
        return result

    def _until(self, true: Any) -> None:
        end = time.monotonic() + _SECONDS
        while not true():
            ready, _, _ = select.select([self._read], [], [], max(end - time.monotonic(), 0))
            assert ready, "the browser says nothing"
            self._waiting += os.read(self._read, 1 << 16)
            *messages, self._waiting = self._waiting.split(b"\0")
            for message in messages:
                self._take(json.loads(message))

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._replies[message["id"]] = message
        method, params = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Runtime.exceptionThrown":
            self.problems.append(str(params["exceptionDetails"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(params["entry"]["text"])

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait(_SECONDS)
        os.close(self._write)
        os.close(self._read)
