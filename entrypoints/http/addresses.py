"""Which hosts and addresses are this machine alone."""

from __future__ import annotations

import ipaddress
import re

from starlette.types import Scope

__all__ = ["address_of", "is_loopback", "is_loopback_host"]


def is_loopback(host: str) -> bool:
    """Tell whether a name or an address is one that only this machine can reach."""
    if host.lower().rstrip(".") == "localhost":
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def is_loopback_host(header: str) -> bool:
    """Tell the same of a ``Host`` header, with or without a port."""
    found = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^:\[\]]+))(?::\d+)?", header)
    return found is not None and is_loopback(found[1] or found[2])


def address_of(scope: Scope) -> str:
    """
    Return the address a request comes from, to count by; ``unknown`` where the server tells none.

    Of IPv6 it is the network of 64 bits, of which one client has all addresses.
    """
    host: str = (scope.get("client") or ("unknown",))[0]
    address = _address(host)
    if isinstance(address, ipaddress.IPv6Address) and not address.is_loopback:
        return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
    return str(address or host)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
