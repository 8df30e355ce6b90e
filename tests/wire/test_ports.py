"""The field by which the edge names a port to a host."""

from __future__ import annotations

import pytest

from tests.kit.port_envelopes import read_port_envelope
from wellhead.errors import InputError
from wellhead.model.sandboxes import new_sandbox_id
from wellhead.wire.ports import for_port

HEAD = b"GET /a%2Fb//c/?x HTTP/1.1\r\nHost: h\r\nAccept: */*\r\nX-Request-Id: 1\r\n\r\n"


def test_an_envelope_for_a_port_is_the_visitors_with_one_field_more() -> None:
    sandbox = new_sandbox_id()
    told = for_port(HEAD, sandbox, 8000)
    assert told.count(b"\r\n") == HEAD.count(b"\r\n") + 1
    assert told.endswith(b"\r\nX-Request-Id: 1\r\n\r\n")
    assert read_port_envelope(told) == (sandbox, 8000, HEAD)


def test_other_envelopes_are_for_no_port() -> None:
    assert read_port_envelope(HEAD) is None


@pytest.mark.parametrize("value", [b"", b"cl-1/80", b"%s/0", b"%s/65536", b"%s", b"%s/080", b"%s/80/1"])
def test_a_field_that_names_no_port_is_refused(value: bytes) -> None:
    named = value.replace(b"%s", new_sandbox_id().encode())
    with pytest.raises(InputError):
        read_port_envelope(HEAD.replace(b"Accept: */*", b"Wellhead-Port: " + named))
