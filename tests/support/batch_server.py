"""A server on loopback with the part of the Batch API that is used: files, batches, completions."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

__all__ = ["BatchServer"]


def completion(text: str) -> dict[str, Any]:
    """A chat completion of 1,000 prompt and 100 answer tokens."""
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "m-1",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": text},
            }
        ],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
    }


class BatchServer:
    """Batches end with the first look at them; use as a context manager.

    Attributes:
        url: the base URL.
        batches: bodies of the batches that were made, by id.
        direct: bodies of the requests that did not come in a batch.
        outcome: what the next batches end as ("completed", "expired", "failed").
        answered: how many requests of a batch get an answer before it ends; None: all.
        refuse: fails a request of a batch, by its body.
        finish: the finish reason of an answer in a batch, by its request's body.
        cut_after_create: the connection breaks after a batch was made, before the answer.
        looks: how often a batch was looked at.
    """

    def __init__(self) -> None:
        self.batches: dict[str, dict[str, Any]] = {}
        self.direct: list[dict[str, Any]] = []
        self.outcome = "completed"
        self.answered: int | None = None
        self.refuse: Callable[[dict[str, Any]], bool] = lambda _body: False
        self.finish: Callable[[dict[str, Any]], str] = lambda _body: "stop"
        self.cut_after_create = 0
        self.looks = 0
        self.files: dict[str, str] = {}
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer._handle(self, b"")

            def do_POST(self) -> None:
                outer._handle(self, self.rfile.read(int(self.headers["Content-Length"])))

            def log_message(self, *_: object) -> None:
                """Keeps the tests quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/{id(self)}/v1"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}
        )

    def __enter__(self) -> BatchServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handle(self, handler: BaseHTTPRequestHandler, content: bytes) -> None:
        path = handler.path.split("/v1/", 1)[1].split("?")[0]
        with self._lock:
            found = self._respond(handler.command, path.split("/"), content)
        if found is None:
            handler.close_connection = True
            handler.connection.close()
            return
        status, body = found
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body.encode())))
        handler.end_headers()
        handler.wfile.write(body.encode())

    def _respond(self, method: str, path: list[str], content: bytes) -> tuple[int, str] | None:
        match (method, *path):
            case ("POST", "chat", "completions"):
                self.direct.append(json.loads(content))
                return 200, json.dumps(completion("direct"))
            case ("POST", "files"):
                name = f"file-{len(self.files)}"
                # The part of the form that holds the lines.
                text = content.decode()
                self.files[name] = text[text.index('{"custom_id"') : text.rindex("}\n") + 2]
                return 200, json.dumps(
                    {
                        "id": name,
                        "object": "file",
                        "bytes": 1,
                        "created_at": 0,
                        "filename": "x",
                        "purpose": "batch",
                        "status": "processed",
                    }
                )
            case ("POST", "batches"):
                asked = json.loads(content)
                name = f"batch_{len(self.batches)}"
                self.batches[name] = asked | {"id": name, "status": "in_progress"}
                if self.cut_after_create:
                    self.cut_after_create -= 1
                    return None
                return 200, json.dumps(self._about(name))
            case ("GET", "batches"):
                listed = [self._about(name) for name in reversed(self.batches)]
                return 200, json.dumps({"object": "list", "data": listed, "has_more": False})
            case ("GET", "batches", name) if name in self.batches:
                self.looks += 1
                found = self._about(name)
                self._end(name)
                return 200, json.dumps(found)
            case ("GET", "files", name, "content"):
                return 200, self.files[name]
        return 404, '{"error": {"message": "no such thing"}}'

    def _about(self, name: str) -> dict[str, Any]:
        batch = self.batches[name]
        return {
            "object": "batch",
            "created_at": 0,
            "request_counts": {"total": 1, "completed": 0, "failed": 0},
            **batch,
        }

    def _end(self, name: str) -> None:
        """Answer a batch: the next look sees it ended."""
        batch = self.batches[name]
        if batch["status"] != "in_progress":
            return
        lines = self.files[batch["input_file_id"]].splitlines()
        good, bad = [], []
        for line in lines[: self.answered]:
            row = json.loads(line)
            if self.refuse(row["body"]):
                response = {"status_code": 400, "body": {"error": {"message": "no"}}}
                bad.append(json.dumps({"custom_id": row["custom_id"], "response": response}))
            else:
                text = row["body"]["messages"][-1]["content"]
                body = completion(f"on {text}")
                body["choices"][0]["finish_reason"] = self.finish(row["body"])
                response = {"status_code": 200, "body": body}
                good.append(json.dumps({"custom_id": row["custom_id"], "response": response}))
        batch["status"] = self.outcome
        for key, answers in (("output_file_id", good), ("error_file_id", bad)):
            if answers:
                batch[key] = f"{key}-{name}"
                self.files[batch[key]] = "\n".join(answers) + "\n"
        if self.outcome == "failed":
            batch["errors"] = {"object": "list", "data": [{"message": "this model takes none"}]}
