"""A Hub id without a network: what is cached is taken, the rest is one quick line."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

_CODE = """
import sys
from sharegptvideo.errors import UserError
from sharegptvideo.models import checkpoint_folder
for name in sys.argv[1:]:
    try:
        print(checkpoint_folder(name))
    except UserError as error:
        print(error)
"""


def _folders(cache: Path, *names: str) -> list[str]:
    """What `checkpoint_folder` gives or says where the Hub refuses connections."""
    with socket.socket() as closed:  # bound and not listening: the port stays refused
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
        result = subprocess.run(
            [sys.executable, "-c", _CODE, *names],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ
            | {"HF_ENDPOINT": endpoint, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "0"},
        )
    assert result.stderr == ""
    return result.stdout.splitlines()


def test_a_hub_id_without_a_network(tmp_path: Path) -> None:
    repository = tmp_path / "models--some--cached"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    cached, unknown, impossible, folder = _folders(
        tmp_path, "some/cached", "some/model", "/no/such/folder", str(tmp_path)
    )
    assert Path(cached) == snapshot
    assert unknown == (
        "model some/model: no checkpoint there; it is no folder, "
        "and the Hub cannot be reached (ConnectError)"
    )
    assert impossible == (
        "model /no/such/folder: no checkpoint there; it is no folder and cannot be a Hub id"
    )
    assert Path(folder) == tmp_path
