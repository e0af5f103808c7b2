"""Which network addresses are public: asked when an endpoint is given, and when it is called."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

_UNICAST = IPv6Network("2000::/3")
# The prefix by which IPv6-only networks reach IPv4 (RFC 6052, section 2.1).
_NAT64 = IPv6Network("64:ff9b::/96")

# What not every Python counts as special, and clouds have their machines ask for secrets:
# addresses of protocols (RFC 6890), 6to4's relays (RFC 7526), Azure's own host.
_SPECIAL = tuple(map(IPv4Network, ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32")))


def is_public(address: str) -> bool:
    """Whether a numeric address lies in the public internet: nothing of this machine or
    its networks, and nothing that only wraps such an address.
    """
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv6Address):
        wrapped = _wrapped(found)
        if wrapped is None:
            return found in _UNICAST and found.is_global
        found = wrapped
    if any(found in network for network in _SPECIAL):
        return False
    return found.is_global and not found.is_multicast and not found.is_reserved


def _wrapped(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that packets to this one end up at, if there is one."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
