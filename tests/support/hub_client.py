"""Lets the `huggingface_hub` and `datasets` of this process take another server for the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.hub_server import HubServer

__all__ = ["use_hub"]


def use_hub(hub: HubServer, patch: pytest.MonkeyPatch) -> None:
    """Set the environment, and what both libraries have read from it when they were imported.

    Tokens are read from the environment at each call; endpoint and folders are not.
    """
    import datasets.config
    import huggingface_hub.hf_api
    from huggingface_hub import HfFileSystem, constants

    for name, value in hub.environment().items():
        patch.setenv(name, value)
    hub_values: dict[str, object] = {
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HOME": str(hub.home),
        "HF_HUB_CACHE": str(hub.home / "hub"),
        "HF_ASSETS_CACHE": str(hub.home / "assets"),
        "HF_TOKEN_PATH": str(hub.home / "token"),
        "HF_STORED_TOKENS_PATH": str(hub.home / "stored_tokens"),
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DISABLE_TELEMETRY": True,
        "HF_HUB_OFFLINE": False,
    }
    for name, found in hub_values.items():
        patch.setattr(constants, name, found)
    # The functions of the package are methods of this one instance.
    patch.setattr(huggingface_hub.hf_api.api, "endpoint", hub.url)
    data_values: dict[str, object] = {
        "HF_ENDPOINT": hub.url,
        "HUB_DATASETS_URL": hub.url + "/datasets/{repo_id}/resolve/{revision}/{path}",
        "HF_CACHE_HOME": str(hub.home),
        "HF_DATASETS_CACHE": hub.home / "datasets",
        "DOWNLOADED_DATASETS_PATH": Path(hub.home / "datasets" / "downloads"),
        "HF_HUB_OFFLINE": False,
        "HF_DATASETS_OFFLINE": False,
    }
    for name, found in data_values.items():
        patch.setattr(datasets.config, name, found)
    HfFileSystem.clear_instance_cache()  # a port may come back, with other files behind it
