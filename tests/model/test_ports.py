"""The names of sandboxes' ports."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead.errors import InputError
from wellhead.model import names
from wellhead.model.ports import PortName, check_port, is_port_label, read_port, read_port_label
from wellhead.model.sandboxes import SandboxId, new_sandbox_id
from wellhead.model.visibility import PortAccess, Visibility


def test_a_port_of_a_sandbox_has_one_name() -> None:
    sandbox = new_sandbox_id()
    assert read_port_label(f"8000-{sandbox}") == PortName(8000, sandbox)
    assert PortName(8000, sandbox).label == f"8000-{sandbox}"


@pytest.mark.parametrize(
    "port", ["0", "65536", "08000", "99999999", "-1", "+80", "0x50", "127.1", "", "8000 ", "٨"]
)
def test_a_port_is_a_decimal_number_in_one_spelling(port: str) -> None:
    with pytest.raises(InputError, match="port"):
        read_port(port or "00")
    with pytest.raises(InputError):
        read_port_label(f"{port}-{new_sandbox_id()}")


def test_a_port_is_from_1_to_65535() -> None:
    assert (check_port(1), check_port(65535)) == (1, 65535)
    for wrong in (0, -1, 65536):
        with pytest.raises(InputError, match=f"port {wrong} is not a number from 1 to 65535"):
            check_port(wrong)
    for odd in ("80", 80.0, True, None):
        with pytest.raises(InputError, match=f"port {odd!r} is not a number from 1 to 65535"):
            check_port(cast(int, odd))


@pytest.mark.parametrize("rest", ["cl-", "cl-short", "cl-" + "z" * 25, "cl-" + "A" * 25, "host-" + "0" * 25])
def test_an_id_that_is_none_is_refused_though_the_label_is_meant_for_a_port(rest: str) -> None:
    label = f"80-{rest}"
    assert is_port_label(label) is rest.startswith("cl-")
    with pytest.raises(InputError):
        read_port_label(label)


def test_other_labels_are_not_meant_for_a_port() -> None:
    assert not any(map(is_port_label, ["cl-abc", "80", "my-80-cl-app", "x80-cl-app", ""]))


@given(st.from_regex(r"[0-9]{1,6}-cl-[a-z0-9-]{0,40}", fullmatch=True))
def test_no_tunnel_is_named_as_a_port_is(label: str) -> None:
    assert is_port_label(label) and names.is_reserved(label)


def test_a_port_is_seen_as_its_sandbox_is_unless_it_says_otherwise() -> None:
    access = PortAccess(Visibility.TEAM, ((3000, Visibility.PUBLIC),))
    assert access.of(3000) is Visibility.PUBLIC
    assert access.of(3001) is Visibility.TEAM
    assert PortAccess().of(1) is Visibility.PRIVATE


def test_an_id_stays_a_sandboxs() -> None:
    assert SandboxId(read_port_label(f"1-{(made := new_sandbox_id())}").sandbox) == made
