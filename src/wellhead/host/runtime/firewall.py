"""What packets of sandboxes may do: one nftables table of ours, put in place whole.

Other tables of the machine see the packets as well, and may refuse more.
"""

from __future__ import annotations

import ipaddress
import subprocess
from collections.abc import Sequence

from wellhead.errors import HostError
from wellhead.host.runtime.terms import RuntimeTerms

FLOWS_MAX = 8192  # the kernel follows some hundred thousand for all of the machine
LINGER_SECONDS = (
    5  # for which a connection to a port that has ended is followed; the kernel's 120 fill its table
)
_SECONDS = 10.0
_NEVER = ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4")
_PRIVATE = ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "198.18.0.0/15")


def rules(
    terms: RuntimeTerms,
    links: str,
    name_servers: Sequence[str],
    flows_max: int = FLOWS_MAX,
    linger_seconds: int = LINGER_SECONDS,
) -> str:
    """The table, in nft's words, for links whose names begin with ``links``.

    What the host opens towards a sandbox is answered; nothing else reaches the host from inside, and of the
    machine's users root alone reaches sandboxes.
    ``flows_max``: connections that a sandbox may have open to the outside; 0 for any number.
    ``linger_seconds``: how long one into a sandbox is followed when it has ended; 0: as the kernel does.
    """
    from_inside, to_inside = f'iifname "{links}*"', f'oifname "{links}*"'
    lines = [
        "add table inet wellhead",  # so that there is one to delete
        "delete table inet wellhead",
        "table inet wellhead {",
        *(_lingering(linger_seconds) if linger_seconds else []),
        "chain output { type filter hook output priority filter - 10;",
        f"{to_inside} meta skuid != 0 drop",
        *([f'{to_inside} meta l4proto tcp ct timeout set "ports"'] if linger_seconds else []),
        "}",
        "chain input { type filter hook input priority filter - 10;",
        f"{from_inside} ct state established,related accept",
        f"{from_inside} drop",
        "}",
        *(["set flows { type ipv4_addr; size 65535; flags dynamic; }"] if flows_max else []),
        "chain egress {",
        *_egress(terms, name_servers, flows_max),
        "}",
        "chain forward { type filter hook forward priority filter - 10;",
        f"{from_inside} {to_inside} drop",
        f"{to_inside} ct state established,related accept",
        f"{to_inside} drop",
        f"{from_inside} jump egress",
        "}",
    ]
    if terms.egress == "internet":
        lines += [
            "chain postrouting { type nat hook postrouting priority srcnat;",
            f'ip saddr {terms.network} oifname != "{links}*" masquerade',
            "}",
        ]
    return "\n".join([*lines, "}", ""])


def rules_inside(machine: str) -> str:
    """The table for the network of a sandbox: each of its ports, asked for by the address ``machine``, is the
    one of its loopback.

    The kernel follows these connections, for it rewrites them, and no others: what it would follow of a
    sandbox's own takes memory that is nobody's.
    """
    with_machine = f'"eth0" ip {{}} {machine} meta l4proto tcp'
    lines = [
        "add table ip wellhead",
        "delete table ip wellhead",
        "table ip wellhead {",
        "chain followed_in { type filter hook prerouting priority raw;",
        f"iifname {with_machine.format('saddr')} accept",
        "notrack",
        "}",
        "chain followed_out { type filter hook output priority raw;",
        f"oifname {with_machine.format('daddr')} accept",
        "notrack",
        "}",
        "chain ports { type nat hook prerouting priority dstnat;",
        f"iifname {with_machine.format('saddr')} dnat to 127.0.0.1",
        "}",
        "chain output { type filter hook output priority filter;",
        "ct state new drop",
        "}",
        "}",
    ]
    return "\n".join([*lines, ""])


def _lingering(seconds: int) -> list[str]:
    policy = f"policy = {{ time_wait : {seconds}, close : {seconds} }};"
    return ["ct timeout ports {", "protocol tcp;", "l3proto ip;", policy, "}"]


def _egress(terms: RuntimeTerms, name_servers: Sequence[str], flows_max: int) -> list[str]:
    if terms.egress == "none":
        return ["drop"]
    lines = ["meta nfproto ipv6 drop", "ct state established,related accept"]
    if flows_max:
        lines.append(f"add @flows {{ ip saddr ct count over {flows_max} }} drop")
    if name_servers:
        lines.append(f"ip daddr {_set(name_servers)} meta l4proto {{ tcp, udp }} th dport 53 accept")
    lines.append(f"ip daddr {_set([*_NEVER, terms.network])} drop")
    if terms.allowed_networks:
        lines.append(f"ip daddr {_set(terms.allowed_networks)} accept")
    if not terms.egress_private:
        lines.append(f"ip daddr {_set(_PRIVATE)} drop")
    return [*lines, "accept"]


def _set(networks: Sequence[str]) -> str:
    """Networks as nft takes them in one set: none within another."""
    apart = ipaddress.collapse_addresses(ipaddress.IPv4Network(each) for each in networks)
    return f"{{ {', '.join(map(str, apart))} }}"


def put_in_place(text: str) -> None:
    """
    Raises:
        HostError: there is no nft, or it refuses.
    """
    try:
        done = subprocess.run(
            ["nft", "-f", "-"], input=text, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except FileNotFoundError:
        raise HostError(
            "nft is not installed, and without it a sandbox could reach this machine: install nftables"
        ) from None
    except subprocess.TimeoutExpired as error:
        raise HostError(f"nft takes longer than {_SECONDS:g} seconds") from error
    if done.returncode != 0:
        raise HostError(f"nft refuses the rules for sandboxes: {done.stderr.strip()[:500]}")
