"""What the environment says about networks: proxies, certificates, the Hub's address."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import ssl
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

from sharegptvideo.errors import UserError

__all__ = ["check_hub_variables", "check_network_variables", "is_this_machine", "proxy_of"]

_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")


def check_network_variables() -> None:
    """Check the variables that every HTTP client reads before it connects anywhere.

    Raises:
        UserError: a proxy or certificate variable that no client can be opened with; names it.
    """
    for variable, value in _proxies().values():
        _check_proxy(variable, value)
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file:
        try:
            ssl.create_default_context(cafile=file)
        except OSError as error:  # ssl.SSLError is one
            cause = "no certificates in it" if isinstance(error, ssl.SSLError) else "cannot be read"
            cause = cause if Path(file).exists() else "no such file"
            raise UserError(
                f"SSL_CERT_FILE={file}: {cause}; unset it, or name a file of certificates (PEM)"
            ) from error
    elif folder and not Path(folder).is_dir():
        raise UserError(
            f"SSL_CERT_DIR={folder}: no such folder; unset it, or name a folder of certificates"
        )


def check_hub_variables() -> None:
    """Check what the clients of the Hub read, unless HF_HUB_OFFLINE keeps them from connecting.

    Raises:
        UserError: HF_ENDPOINT is no address, or `check_network_variables` finds something.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return
    check_network_variables()
    address = os.environ.get("HF_ENDPOINT")
    if address and not _is_address(address):
        raise UserError(
            f"HF_ENDPOINT={_without_secret(address)}: no address; write it as https://HOST, or"
            " unset it"
        )


def proxy_of(url: str) -> str | None:
    """Return `HOST:PORT of VARIABLE` of the proxy that calls to a URL go through; None without one.

    >>> proxy_of("http://[") is None
    True
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return None
    proxies = _proxies()
    variable, value = proxies.get(parts.scheme) or proxies.get("all") or ("", "")
    if not value or proxy_bypass(host):
        return None
    return f"{_without_secret(value)} of {variable}"


def is_this_machine(host: str) -> bool:
    """Return whether a host name or address is of this machine, as localhost is."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")


def _proxies() -> dict[str, tuple[str, str]]:
    """Return variable and value by scheme: http, https, all; of two, the one in small letters."""
    no_proxy = os.environ.get("no_proxy", os.environ.get("NO_PROXY", ""))
    if "*" in (each.strip() for each in no_proxy.split(",")):
        return {}
    proxies = {}
    for scheme in ("http", "https", "all"):
        names = (f"{scheme}_proxy", f"{scheme}_proxy".upper())
        variable = next((name for name in names if name in os.environ), None)
        if variable is not None and os.environ[variable]:
            proxies[scheme] = (variable, os.environ[variable])
    return proxies


def _check_proxy(variable: str, value: str) -> None:
    place = f"{variable}={_without_secret(value)}"
    whole = value if "://" in value else f"http://{value}"
    if not _is_address(whole, _PROXY_SCHEMES):
        raise UserError(
            f"{place}: no proxy's address; write it as http://HOST:PORT (or socks5://), or unset it"
        )
    if whole.lower().startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise UserError(
            f"{place}: a SOCKS proxy needs the package socksio; install it (pip install socksio),"
            " or unset the variable"
        )


def _is_address(text: str, schemes: tuple[str, ...] = ("http", "https")) -> bool:
    try:
        parts = urlsplit(text.strip())
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a bracket that is not closed
        return False


def _without_secret(address: str) -> str:
    """Return a proxy's address without the name and password that may stand in it."""
    scheme, colon, rest = address.rpartition("://")
    return f"{scheme}{colon}{rest.rpartition('@')[2]}"
