"""A sandbox's link to the machine: a pair of virtual interfaces, its addresses, and how fast it may send.

Everything follows from the slot, a number that no other sandbox of the machine has::

    wh{slot}h   the machine's end, by routes at {network} + 2 * slot; what comes in is passed through
    wh{slot}i   which lets through so many bytes a second
    eth0        the sandbox's end, at {network} + 2 * slot + 1

Source: wrenn-sandboxes, "Network of one sandbox".
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import itertools
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from wellhead.errors import HostBusy, HostError
from wellhead.host.runtime import firewall, linux
from wellhead.host.runtime.terms import RuntimeTerms
from wellhead.logs import Log

LINKS = "wh"
_QUEUE = 5000  # packets
_PREFIX = 31
_FOLLOWED = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_"  # seconds, by state
_LOCAL = 255  # the kernel's table of what it takes for its own
_ETHERNET_ALL = 0x0003
_INGRESS = 0xFFFF0000
_UP = 1  # IFF_UP, linux/if.h
_QUEUE_TIME = "50ms"  # how long a packet waits for its turn before it is dropped
_log = Log("wellhead.host")
_TO_LOOPBACK = "ipv4/conf/eth0/route_localnet"  # a setting
_machine_end = re.compile(rf"{LINKS}(\d+)([hi])").fullmatch


class Network:
    """The links of one host's sandboxes, in the network namespace of whoever calls. Calls take
    milliseconds.
    """

    def __init__(self, terms: RuntimeTerms) -> None:
        self._terms = terms
        self._network = ipaddress.IPv4Network(terms.network)
        self._slots = self._network.num_addresses // 2 - 1
        self.name_servers = list(terms.name_servers) or _machine_name_servers()

    def start(self) -> list[str]:
        """Put the rules for packets in place, and remove what links were left; sentences for the operator.

        Raises:
            HostError: this machine cannot do it.
        """
        told = self._put_rules_in_place()
        if self._terms.egress == "internet":
            forward = Path("/proc/sys/net/ipv4/ip_forward")
            if forward.read_text().strip() != "1":
                forward.write_text("1")
                told.append("net.ipv4.ip_forward was switched on, so that sandboxes reach the internet")
        with _told("look for old links"), IPRoute() as links:
            names = _names()
            for slot in _slots(names, "i") - _slots(names, "h"):  # what shaped a pair does not go with it
                if _is_up(links, _shaper(slot)):  # else another host has claimed it and makes the pair now
                    _delete(links, _shaper(slot))
        return told

    def _put_rules_in_place(self) -> list[str]:
        error: HostError | None = None
        for flows, linger in itertools.product((firewall.FLOWS_MAX, 0), (firewall.LINGER_SECONDS, 0)):
            rules = firewall.rules(
                self._terms, LINKS, self.name_servers, flows_max=flows, linger_seconds=linger
            )
            try:
                firewall.put_in_place(rules)
            except HostError as refused:  # a kernel that cannot count connections, or time them
                error = error or refused
                continue
            told = []
            if not flows:
                told.append(f"the number of connections of a sandbox is not limited: {error}")
            if not linger:
                told.append(f"connections to ports that have ended stay in the kernel's table: {error}")
            return told
        assert error is not None
        raise error

    def claim(self, owner: str) -> int:
        """The lowest slot that is nobody's. Its shaper is made, and by that it is this sandbox's: another
        host on the machine may look at the same moment.

        Raises:
            HostBusy: every slot is taken.
            HostError: links cannot be made.
        """
        with _told("claim a slot"), IPRoute() as links:
            used = _slots(_names(), "hi")
            for slot in range(1, self._slots + 1):
                if slot not in used and _claimed(links, slot, owner):
                    return slot
        raise HostBusy(f"every one of the {self._slots} links of {self._network} is taken")

    def address(self, slot: int) -> str:
        """The sandbox's."""
        return str(self._network[2 * slot + 1])

    def connect(self, slot: int, pid: int) -> None:
        """Join the network namespace of a process to this one, at a slot that was claimed.

        Raises:
            HostError: it cannot be done; what there is of it is left for ``disconnect``.
        """
        host, guest = self._machine_address(slot), self.address(slot)
        with _told(f"make the link of slot {slot}"), IPRoute() as links:
            peer = {"ifname": "eth0", "net_ns_pid": pid, "txqlen": _QUEUE}
            links.link("add", ifname=host_end(slot), kind="veth", txqlen=_QUEUE, peer=peer)
            index = socket.if_nametoindex(host_end(slot))
            settings = Path("/proc/sys/net")
            _set(settings / f"ipv6/conf/{host_end(slot)}/disable_ipv6", "1")
            _set(settings / f"ipv4/conf/{host_end(slot)}/rp_filter", "1")  # no other's address as sender
            self._shape(links, slot, index)
            links.link("set", index=index, state="up")
            # What an address would do, without one: browsers on this machine end their requests whenever
            # an interface gets or loses one (Chromium: ERR_NETWORK_CHANGED).
            links.route("add", type="local", table=_LOCAL, scope="host", dst=f"{host}/32", oif=index)
            links.route("add", scope="link", dst=f"{guest}/32", oif=index, prefsrc=host)
            (end,) = links.get_links(index)
        with _told(f"set up the network of slot {slot}"), entered(f"/proc/{pid}/ns/net"), IPRoute() as links:
            _set(settings / "ipv6/conf/eth0/disable_ipv6", "1")
            # Nobody inside has powers over this namespace, so what root could do is for everybody.
            _set(settings / "ipv4/ip_unprivileged_port_start", "0")
            _set(settings / "ipv4/ping_group_range", "0 4294967294")
            links.link("set", index=1, state="up")
            inside = socket.if_nametoindex("eth0")
            links.addr("add", index=inside, address=guest, prefixlen=_PREFIX)
            links.link("set", index=inside, state="up")
            # Some machines answer only for addresses of the interface that is asked.
            links.neigh(
                "add", dst=host, lladdr=end.get_attr("IFLA_ADDRESS"), ifindex=inside, state="permanent"
            )
            links.route("add", dst="default", gateway=host)
            _set(settings / _TO_LOOPBACK, "1")

    def lead_inward(self, slot: int, pid: int) -> None:
        """Have what the machine sends to a process's address reach whoever listens on loopback there.

        Before its network is connected or after that, or at the same time. Most of it is waiting.
        """
        with entered(f"/proc/{pid}/ns/net"):
            _set(Path("/proc/sys/net", _TO_LOOPBACK), "1")
            for state in ("time_wait", "close"):
                _set(Path(_FOLLOWED + state), str(firewall.LINGER_SECONDS))
            try:
                firewall.put_in_place(firewall.rules_inside(self._machine_address(slot)))
            except HostError as error:  # a kernel that cannot rewrite addresses
                _log.warning("ports are reached from inside only, past the bound on egress", reason=error)

    def disconnect(self, slot: int, owner: str) -> None:
        """Remove the links of a slot, where it is still this sandbox's.

        Raises:
            HostError: one cannot be removed.
        """
        with _told(f"remove the link of slot {slot}"), IPRoute() as links:
            if _owner(links, slot) == owner:
                _delete(links, host_end(slot))
                _delete(links, _shaper(slot))  # the last, for it says whose they are

    def _machine_address(self, slot: int) -> str:
        return str(self._network[2 * slot])

    def _shape(self, links: IPRoute, slot: int, index: int) -> None:
        """Let what comes from the sandbox pass a bucket of tokens, on this side, where it has no say."""
        shaper = socket.if_nametoindex(_shaper(slot))
        _set(Path("/proc/sys/net/ipv6/conf", _shaper(slot), "disable_ipv6"), "1")
        links.link("set", index=shaper, state="up")
        links.tc(
            "add", "tbf", shaper, 0, rate=self._terms.egress_bytes_per_second,
            burst=self._terms.egress_burst_bytes, latency=_QUEUE_TIME,
        )  # fmt: skip
        links.tc("add", "ingress", index, _INGRESS)
        links.tc(
            "add-filter", "u32", index, parent=_INGRESS, prio=1, protocol=_ETHERNET_ALL, target=0x10001,
            keys=["0x0/0x0+0"],  # every packet
            action=[{"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": shaper}],
        )  # fmt: skip


@contextlib.contextmanager
def entered(namespace: str) -> Iterator[None]:
    """This thread's new sockets belong to that network namespace until the block ends."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            linux.setns(there, linux.CLONE_NEWNET)
        finally:
            os.close(there)
        try:
            yield
        finally:
            linux.setns(home, linux.CLONE_NEWNET)
    finally:
        os.close(home)


def host_end(slot: int) -> str:
    """The name of the machine's end of a link."""
    return f"{LINKS}{slot}h"


def _shaper(slot: int) -> str:
    return f"{LINKS}{slot}i"


def _machine_name_servers() -> list[str]:
    """Those that a sandbox can ask too: IPv4, and not the machine itself."""
    found = []
    with contextlib.suppress(OSError):
        for line in Path("/etc/resolv.conf").read_text().splitlines():
            words = line.split()
            if len(words) > 1 and words[0] == "nameserver":
                with contextlib.suppress(ValueError):
                    if not ipaddress.IPv4Address(words[1]).is_loopback:
                        found.append(words[1])
    return found


def _set(path: Path, value: str) -> None:
    with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
        path.write_text(value)


def _names() -> set[str]:
    """Every link of this thread's network namespace. Asking by netlink takes a millisecond for each."""
    lines = Path("/proc/thread-self/net/dev").read_text().splitlines()[2:]
    return {line.partition(":")[0].strip() for line in lines}


def _slots(names: set[str], kinds: str) -> set[int]:
    return {int(found[1]) for name in names if (found := _machine_end(name)) and found[2] in kinds}


def _claimed(links: IPRoute, slot: int, owner: str) -> bool:
    try:
        links.link("add", ifname=_shaper(slot), kind="ifb", txqlen=_QUEUE)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise
        return False
    links.link("set", index=socket.if_nametoindex(_shaper(slot)), ifalias=owner)
    return True


def _owner(links: IPRoute, slot: int) -> str | None:
    """Whose a slot is; None where it is nobody's."""
    try:
        index = socket.if_nametoindex(_shaper(slot))
    except OSError:
        return None
    (found,) = links.get_links(index)
    owner: str | None = found.get_attr("IFLA_IFALIAS")
    return owner


def _is_up(links: IPRoute, name: str) -> bool:
    """Whether there is such a link, and it was put into use."""
    try:
        (found,) = links.get_links(socket.if_nametoindex(name))
    except (OSError, NetlinkError):
        return False
    return bool(found["flags"] & _UP)


def _delete(links: IPRoute, name: str) -> None:
    """Remove a link that may go by itself meanwhile, with its sandbox."""
    try:
        index = socket.if_nametoindex(name)
    except OSError:
        return
    try:
        links.link("del", index=index)
    except NetlinkError as error:
        if error.code != errno.ENODEV:
            raise


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except (NetlinkError, OSError) as error:
        raise HostError(f"cannot {what}: {error}") from error
