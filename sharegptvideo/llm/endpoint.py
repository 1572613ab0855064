"""Which endpoint to talk to: from an option, or from the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from sharegptvideo.errors import UserError

__all__ = ["Endpoint", "find_endpoint"]

_OPENAI = "https://api.openai.com/v1"
# Local servers want no key, but the protocol wants the header.
_NO_KEY = "none"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A base URL and its key; the key never shows in a repr or a record."""

    base_url: str
    api_key: str = field(repr=False)


def find_endpoint(base_url: str | None = None) -> Endpoint:
    """The endpoint to use: `base_url`, else OPENAI_BASE_URL, else OpenAI's own with a key.

    Raises:
        UserError: neither an address nor a key is set, or the address is not http(s)://HOST.
    """
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    address = (base_url or os.environ.get("OPENAI_BASE_URL", "")).strip()
    if not address:
        if not key:
            raise UserError(
                "no endpoint: give --base-url or set OPENAI_BASE_URL (and OPENAI_API_KEY, if the"
                " server wants one)"
            )
        address = _OPENAI
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UserError(f"endpoint {address!r}: write it as http://HOST:PORT/v1")
    return Endpoint(address.rstrip("/"), key or _NO_KEY)
