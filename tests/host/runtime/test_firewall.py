"""The rules for packets say what the operator's terms say. What they do is in test_network."""

from __future__ import annotations

from wellhead.host.runtime.firewall import rules
from wellhead.host.runtime.terms import RuntimeTerms


def _chain(text: str, name: str) -> list[str]:
    """The rules of one chain, in order."""
    begin = text.index(f"chain {name} {{")
    return text[begin : text.index("}\nchain" if "}\nchain" in text[begin:] else "}\n}", begin)].splitlines()[
        1:
    ]


def test_name_servers_come_before_what_is_refused_and_link_local_before_what_is_allowed() -> None:
    terms = RuntimeTerms(allowed_networks=["169.254.0.0/16", "10.1.0.0/16"])
    egress = _chain(rules(terms, "wh", ["10.0.0.2"]), "egress")
    order = [next(n for n, line in enumerate(egress) if part in line) for part in (
        "dport 53 accept", "169.254.0.0/16, 224.0.0.0/3 } drop", "10.1.0.0/16", "192.168.0.0/16",
    )]  # fmt: skip
    assert order == sorted(order)
    assert egress[-1] == "accept"


def test_without_egress_there_is_nothing_but_a_drop_and_no_masquerade() -> None:
    text = rules(RuntimeTerms(egress="none"), "wh", ["1.1.1.1"])
    assert _chain(text, "egress") == ["drop"]
    assert "masquerade" not in text


def test_private_networks_are_open_where_the_operator_says_so_but_never_those_of_sandboxes() -> None:
    text = rules(RuntimeTerms(egress_private=True, network="172.20.0.0/16"), "wh", [])
    egress = _chain(text, "egress")
    assert not any("192.168.0.0/16" in line for line in egress)
    assert any("172.20.0.0/16" in line and line.endswith("drop") for line in egress)


def test_overlapping_networks_are_one_in_a_set() -> None:
    text = rules(RuntimeTerms(allowed_networks=["10.0.0.0/8", "10.1.0.0/16"]), "wh", [])
    assert "ip daddr { 10.0.0.0/8 } accept" in text


def test_the_old_table_is_replaced_in_the_same_breath() -> None:
    assert rules(RuntimeTerms(), "wh", []).splitlines()[:3] == [
        "add table inet wellhead", "delete table inet wellhead", "table inet wellhead {",
    ]  # fmt: skip


def test_a_kernel_that_cannot_time_connections_or_count_them_is_asked_for_neither() -> None:
    every, none = (rules(RuntimeTerms(), "wh", [], each, each) for each in (5, 0))
    assert "ct timeout" in every and "ct count" in every
    assert "ct timeout" not in none and "ct count" not in none
