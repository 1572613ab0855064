"""Which endpoint to talk to: from an option, or from the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from sharegptvideo.errors import UserError

__all__ = ["Endpoint", "find_endpoint", "hide_key"]

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
        UserError: neither an address nor a key is set; the address is not http(s)://HOST, or holds
            a password; the key cannot be sent. None of them shows the key.
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
    if any(not "!" <= character <= "~" for character in key):
        raise UserError("OPENAI_API_KEY holds a character that no key has; copy it again")
    try:
        parts = urlsplit(address)
        whole = parts.scheme in {"http", "https"} and bool(parts.hostname)
        secret = bool(parts.username or parts.password or parts.query or parts.fragment)
    except ValueError:  # a bracket that opens an IPv6 address and none that closes it
        whole = secret = False
    if secret:
        # The address is written into records; whatever is behind @ or ? may be a secret.
        raise UserError(
            "the endpoint's address holds more than http://HOST:PORT/v1; a key belongs into"
            " OPENAI_API_KEY"
        )
    if not whole:
        raise UserError(f"endpoint {address!r}: write it as http://HOST:PORT/v1")
    return Endpoint(address.rstrip("/"), key or _NO_KEY)


def hide_key(text: str, endpoint: Endpoint) -> str:
    """`text` without the endpoint's key.

    >>> hide_key("no key sk-123", Endpoint("http://a", "sk-123"))
    'no key (the key)'
    """
    key = endpoint.api_key
    return text if key == _NO_KEY else text.replace(key, "(the key)")
