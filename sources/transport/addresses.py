"""Where calls may go: never to an address inside the firm unless the settings list it, whatever a host's name stands for.

The check is made on the addresses that the connection is then made to, so a name that changes its meaning in between
(DNS rebinding) gains nothing.
"""

import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

_TRANSLATED = IPv6Network("64:ff9b::/96")
"""IPv4 addresses as a NAT64 gateway writes them (RFC 6052)."""


class AddressNotAllowed(OSError):
    """A host stands for an address that is not public and not listed."""


class Addresses:
    """Public ones, and the private ones that are listed. Raises ValueError for what is no address or network."""

    def __init__(self, private: Iterable[str] = ()) -> None:
        self._private = [ip_network(entry, strict=False) for entry in private]

    def allow(self, address: str) -> bool:
        """May this IP address be connected to?"""
        ip = ip_address(address.partition("%")[0])
        return _is_public(ip) or any(ip in network for network in self._private)

    def allow_url(self, url: str) -> bool:
        """False for a URL whose host is itself an address that may not be connected to; names are looked up later."""
        host = urlsplit(url).hostname or ""
        try:
            return self.allow(host)
        except ValueError:
            return True

    def connector(self) -> aiohttp.TCPConnector:
        """Connects to allowed addresses only."""
        return aiohttp.TCPConnector(limit=0, keepalive_timeout=30, resolver=_Resolver(self))


class _Resolver(AbstractResolver):
    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        self._inner: AbstractResolver = aiohttp.DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        # One bad address condemns the name: an honest one does not stand for both sides.
        if not all(self._addresses.allow(one["host"]) for one in found):
            raise AddressNotAllowed(f"{host} stands for a private address")
        return found

    async def close(self) -> None:
        await self._inner.close()


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    if isinstance(ip, IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1])
        if inner is None and ip in _TRANSLATED:
            inner = IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return _is_public(inner)
    return ip.is_global and not ip.is_multicast
