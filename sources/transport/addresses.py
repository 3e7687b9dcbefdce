"""Where calls may go: never to an address inside the firm unless the settings list it, whatever a host's name stands for.

The check is made on the addresses that the connection is then made to, so a name that changes its meaning in between
(DNS rebinding) gains nothing.
"""

import asyncio
import socket
import ssl
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any

import pycurl
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
        self.authorities = _authorities(ca_file)
        """Who is believed, in libcurl's options."""

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

    async def of(self, host: str, port: int) -> list[str]:
        """A name's addresses, as the system tells them. Raises AddressNotAllowed where one of them may not be connected to:
        an honest name does not stand for both sides. OSError where it stands for none."""
        found = [address[0] for *_, address in await look_up(host, port)]
        if not all(map(self.allow, found)):
            raise AddressNotAllowed(f"{host} stands for a private address")
        return [f"[{address}]" if ":" in address else address for address in dict.fromkeys(found)]


async def look_up(host: str, port: int) -> list[Any]:
    """As ``socket.getaddrinfo`` gives it."""
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


def _authorities(ca_file: str | None) -> list[tuple[int, Any]]:
    """The system's, as Python's ssl finds them, and those of ``ca_file``."""
    system = ssl.get_default_verify_paths()
    found: list[tuple[int, Any]] = [(pycurl.CAPATH, system.capath)] if system.capath else []
    if ca_file is None:
        return [*found, (pycurl.CAINFO, system.cafile)] if system.cafile else found
    try:
        ssl.create_default_context().load_verify_locations(ca_file)
        both = [Path(one).read_bytes() for one in (system.cafile, ca_file) if one]
    except OSError as error:  # SSLError is one
        raise ValueError(f"ca_file: {ca_file} cannot be read as PEM certificates") from error
    return [*found, (pycurl.CAINFO_BLOB, b"\n".join(both))]


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
