"""What TLS speaks, judged by programs that are not ours: sslscan and openssl."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.system.conftest import House

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

needs_sslscan = pytest.mark.needs("sslscan")
needs_openssl = pytest.mark.needs("openssl")


def judge(port: int, name: str) -> None:
    """Have sslscan look at a name, and find nothing."""
    command = ["sslscan", "--xml=-", "--no-colour", f"--sni-name={name}", f"127.0.0.1:{port}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = ElementTree.fromstring(done.stdout).find("ssltest")
    assert found is not None, done.stdout
    protocols = found.findall("protocol")
    enabled = {
        f"{each.get('type')} {each.get('version')}" for each in protocols if each.get("enabled") == "1"
    }
    assert len(protocols) == 6 and enabled == {"tls 1.2", "tls 1.3"}
    suites = found.findall("cipher")
    assert {each.get("sslversion") for each in suites} == {"TLSv1.2", "TLSv1.3"}
    for each in suites:
        suite = each.get("cipher") or ""
        assert suite.startswith(("TLS_", "ECDHE-")) and ("GCM" in suite or "POLY1305" in suite), suite
        assert each.get("strength") in ("strong", "acceptable"), suite
    assert [each.get("supported") for each in found.findall("renegotiation")] == ["0"]
    assert all(each.get("vulnerable") == "0" for each in found.findall("heartbleed"))
    assert all(each.get("supported") == "0" for each in found.findall("compression"))


@needs_sslscan
async def test_a_scanner_finds_no_old_version_no_weak_suite_and_no_old_fault(house: House) -> None:
    for name in (house.hostname, "localhost"):
        await asyncio.to_thread(judge, house.edge.https, name)


def talk(port: int, name: str, ca: Path, said: str, *flags: str) -> str:
    """What ``openssl s_client`` tells of a connection on which it is given these lines."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *flags]
    command += ["-servername", name, "-CAfile", str(ca)]
    done = subprocess.run(command, input=said, capture_output=True, text=True, timeout=30)
    return done.stdout + done.stderr


async def converse(house: House, said: str, *flags: str) -> str:
    return await asyncio.to_thread(talk, house.edge.https, house.hostname, house.edge.ca, said, *flags)


@needs_openssl
async def test_a_client_that_wants_to_renegotiate_is_refused(house: House) -> None:
    told = await converse(house, "R\n", "-tls1_2")
    assert "RENEGOTIATING" in told and "no renegotiation" in told


@needs_openssl
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_no_ticket_no_early_data_and_no_compression(house: House, version: str) -> None:
    told = await converse(house, "Q\n", version)
    assert "Verification: OK" in told
    assert "Compression: NONE" in told
    assert "session ticket" not in told and "New Session Ticket" not in told
    assert version == "-tls1_2" or "Early data was not sent" in told


@needs_openssl
@pytest.mark.parametrize("old", ["-tls1", "-tls1_1"])
async def test_an_old_version_is_refused_by_its_alert(house: House, old: str) -> None:
    told = await converse(house, "Q\n", old, "-cipher", "ALL:@SECLEVEL=0")
    assert "protocol version" in told and "Cipher is (NONE)" in told
