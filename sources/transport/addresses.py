"""Where calls may go: never to an address inside the firm unless the settings list it, whatever a host's name stands for.

The check is made on the addresses that the connection is then made to, so a name that changes its meaning in between
(DNS rebinding) gains nothing.
"""

import socket
import ssl
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

_TRANSLATED = IPv6Network("64:ff9b::/96")
"""IPv4 addresses as a NAT64 gateway writes them (RFC 6052)."""


_GLOBAL_UNICAST = IPv6Network("2000::/3")
"""All that IANA has given out; what lies outside is for uses of its own, some of which lead to IPv4 addresses within."""
_EXAMPLES = IPv6Network("3fff::/20")
"""RFC 9637."""


class AddressNotAllowed(OSError):
    """A host stands for an address that is not public and not listed."""


class Addresses:
    """Public ones, and the private ones that are listed. Raises ValueError for what is no address or network, and for a
    ``ca_file`` that cannot be read: authorities that are believed besides the system's."""

    def __init__(self, private: Iterable[str] = (), ca_file: str | None = None) -> None:
        self._private = [ip_network(entry, strict=False) for entry in private]
        self._believed: ssl.SSLContext | bool = True if ca_file is None else _believing(ca_file)

    def allow(self, address: str) -> bool:
        """May this IP address be connected to?"""
        ip = ip_address(address.partition("%")[0])
        return _is_public(ip) or any(ip in network for network in self._private)

    def allow_url(self, url: str) -> bool:
        """False for a URL whose host is itself an address that may not be connected to; names are looked up later."""
        host = URL(url).host or ""  # as it will be called: there are more ways than one to write a digit
        try:
            return self.allow(host)
        except ValueError:
            return True

    def connector(self) -> aiohttp.TCPConnector:
        """Connects to allowed addresses only."""
        return _Connector(limit=0, keepalive_timeout=30, resolver=_Resolver(self), ssl=self._believed)


class _Connector(aiohttp.TCPConnector):
    async def _get(self, key: Any, traces: Any) -> Any:
        # What a vendor sent without being asked, while a connection lay idle, would be taken for the answer to the next
        # request on it, and so on for all that follow (aiohttp 3.14 looks only when a connection is put back).
        while (connection := await super()._get(key, traces)) is not None:
            if connection.protocol is not None and not connection.protocol.should_close:
                return connection
            connection.close()
        return None


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


def _believing(ca_file: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(ca_file)
    except OSError as error:  # SSLError is one
        raise ValueError(f"ca_file: {ca_file} cannot be read as PEM certificates") from error
    return context


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    if isinstance(ip, IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1])
        if inner is None and ip in _TRANSLATED:
            inner = IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return _is_public(inner)
        if ip not in _GLOBAL_UNICAST or ip in _EXAMPLES:
            return False
    return ip.is_global and not ip.is_multicast
