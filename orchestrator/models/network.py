"""Local means local: enforced where sockets are made, not only where a policy is read.

Every connection of a served model is made by the connector below. For a local model it looks at the address itself,
after name resolution, at each new connection: a name that changes its mind later is refused too. No proxy from the
environment, no redirect followed, no resolver of its own.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from orchestrator.config import addresses
from orchestrator.errors import RequestRefused, ResidencyError

if TYPE_CHECKING:
    import aiohttp

KEEPALIVE_S = 4.0
"""Below the 5 s after which vLLM's server closes an idle connection, so that a request never meets a closing one."""


class AddressRefused(RequestRefused, ResidencyError):
    """A local model's endpoint resolved to an address that is not local. Nothing was sent; never retried."""

    hint = "correct the endpoint, or add its network to `local_networks:`"


class LocalOnly:
    """The addresses a local model may connect to: loopback, and `networks` (CIDR). Raises ConfigError on a bad one."""

    def __init__(self, networks: tuple[str, ...] = ()) -> None:
        self._networks = addresses.networks(networks)

    def allows(self, address: str) -> bool:
        """Whether a literal IP address is local. A name (but localhost) is none: it is resolved first."""
        return addresses.is_local(address.partition("%")[0], self._networks) is True

    def allows_host(self, host: str) -> bool:
        """Whether every address that `host` resolves to now is local; False where it resolves to none."""
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return False
        return bool(found) and all(self.allows(str(info[4][0])) for info in found)

    def open_socket(self, address: Any) -> socket.socket:
        """The connector's socket factory. Raises AddressRefused before a packet leaves."""
        family, kind, protocol, _, target = address
        if not self.allows(str(target[0])):
            raise AddressRefused(
                f"a model declared `location: local` resolved to {target[0]!r}, which is neither loopback nor in "
                "`local_networks`", sent=False,
            )
        return socket.socket(family=family, type=kind, proto=protocol)


def is_local(url_or_host: str, networks: tuple[str, ...] = ()) -> bool:
    """Whether a URL or host names loopback or an address in `networks`; names are resolved. Not known is not local."""
    if url_or_host.startswith("http+unix:"):
        return False
    try:
        host = urlsplit(url_or_host).hostname if "//" in url_or_host else urlsplit(f"//{url_or_host}").hostname
    except ValueError:
        return False
    if not host:
        return False
    allowed = LocalOnly(networks)
    return allowed.allows(host) or allowed.allows_host(host)


def open_session(*, local: bool, networks: tuple[str, ...] = ()) -> aiohttp.ClientSession:
    """A pooled session; the gate of the caller bounds what is in flight, so the pool itself has no limit.

    `local`: sockets only to local addresses, proxies and netrc ignored. Must be called within a running loop.
    """
    import aiohttp

    connector = aiohttp.TCPConnector(
        limit=0,
        keepalive_timeout=KEEPALIVE_S,
        resolver=aiohttp.ThreadedResolver(),  # the system's: aiodns would ask name servers by itself
        happy_eyeballs_delay=None,  # one address after the other, so that a refusal is what is reported
        socket_factory=LocalOnly(networks).open_socket if local else None,
    )
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=not local)
