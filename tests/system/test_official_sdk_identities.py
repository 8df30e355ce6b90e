"""Programs of the newer official SDK manage identities, keys and tunnels; the older one sees them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.carriers import APP
from tests.kit.programs import Edge, eventually
from tests.kit.sdks import NEW, OLD, SdkAgent, sdk
from tests.kit.visitors import ask
from tests.kit.zones import NEEDED, zoned
from wellhead.client import Client

pytestmark = NEEDED

LIFE = """
import json
from inkbox.identities.exceptions import HandleUnavailableError
from inkbox.identities.types import IdentityTunnelCreateOptions
from inkbox.exceptions import InkboxAPIError
told = []
made = inkbox.create_identity("whole-life", display_name="Whole life", description="first",
    tunnel=IdentityTunnelCreateOptions(tls_mode="edge"), imessage_enabled=False, email_local_part="x")
told += [made.agent_handle, made.display_name, made.tunnel.status.value, made.tunnel.public_host]
told.append(made.tunnel.agent_identity_id == made.id)
try:
    inkbox.create_identity("whole-life")
except HandleUnavailableError as error:
    told.append(error.blocking_namespace)
tunnel = inkbox.tunnels.get(made.tunnel.id)
told += [tunnel.currently_connected, tunnel.agent_identity_id == made.id, tunnel.metadata]
told.append([each.agent_handle for each in inkbox.list_identities()])
made.update(display_name=None, description="second")
again = inkbox.get_identity("@whole-life")
told += [again.display_name, again.description, again.mailbox, again.phone_number]
try:
    inkbox.api_keys.create(label="all")
except InkboxAPIError as error:
    told.append(error.status_code)
key = inkbox.api_keys.create(label="one", description="for one", scoped_identity_id=made.id)
told += [key.record.status.value, key.record.scoped_identity_id == made.id, key.record.creator_type]
agent = Inkbox(key.api_key, base_url=os.environ["INKBOX_BASE_URL"])
inkbox.create_identity("another")
who = agent.whoami()
told += [who.auth_type, who.auth_subtype, inkbox.whoami().auth_subtype, who.description]
told.append([each.tunnel_name for each in agent.tunnels.list()])
told.append([each.agent_handle for each in agent.list_identities()])
try:
    agent.get_identity("another")
except InkboxAPIError as error:
    told.append(error.status_code)
made.delete()
for gone in (lambda: inkbox.get_identity("whole-life"), lambda: inkbox.tunnels.get(tunnel.id), agent.whoami):
    try:
        gone()
    except InkboxAPIError as error:
        told.append(error.status_code)
told.append([each.tunnel_name for each in inkbox.tunnels.list()])
print(json.dumps(told))
"""

PASSTHROUGH = """
import json
from cryptography.hazmat.primitives.asymmetric import ec
from inkbox.identities.types import IdentityTunnelCreateOptions
from inkbox.tunnels.client._cert import build_csr
from inkbox.tunnels.exceptions import TunnelTLSModeMismatch
made = inkbox.create_identity("of-passthrough", tunnel=IdentityTunnelCreateOptions(tls_mode="passthrough"))
told = [made.tunnel.status.value]
csr = build_csr(ec.generate_private_key(ec.SECP256R1()), made.tunnel.public_host)
told.append(inkbox.tunnels.sign_csr(made.tunnel.id, csr_pem=csr).cert_pem.endswith("\\n"))
told.append(inkbox.get_identity("of-passthrough").tunnel.status.value)
other = inkbox.create_identity("of-the-edge")
try:
    inkbox.tunnels.sign_csr(other.tunnel.id, csr_pem=csr)
except TunnelTLSModeMismatch:
    told.append("mismatch")
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with zoned(tmp_path_factory.mktemp("zone")) as edge:
        yield edge


def test_an_identitys_whole_life_in_the_newer_sdk(edge: Edge, tmp_path: Path) -> None:
    told = json.loads(sdk(NEW).run(LIFE, edge, tmp_path))
    assert told == [
        "whole-life", "Whole life", "active", "whole-life.localhost", True, "tunnels",
        False, True, {}, ["whole-life"], None, "second", None, None,
        403, "active", True, "human",
        "api_key", "api_key.agent_scoped.claimed", "api_key.admin_scoped", "for one",
        ["whole-life"], ["whole-life"], 404,
        404, 404, 401, ["another"],
    ]  # fmt: skip


def test_a_passthrough_identity_waits_for_its_certificate(edge: Edge, tmp_path: Path) -> None:
    told = json.loads(sdk(NEW).run(PASSTHROUGH, edge, tmp_path))
    assert told == ["awaiting_cert", True, "active", "mismatch"]


def test_either_sdk_sees_and_ends_what_the_other_made(edge: Edge, tmp_path: Path) -> None:
    sdk(OLD).run('inkbox.tunnels.create(tunnel_name="of-the-old")', edge, tmp_path)
    seen = 'found = inkbox.get_identity("of-the-old"); print(found.tunnel.id == found.id, found.display_name)'
    assert sdk(NEW).run(seen, edge, tmp_path).strip() == "True None"
    sdk(NEW).run('inkbox.create_identity("of-the-new")', edge, tmp_path)
    ends = (
        'made = next(each for each in inkbox.tunnels.list() if each.tunnel_name == "of-the-new")\n'
        "print(inkbox.tunnels.delete(made.id).status.value)"
    )
    assert sdk(OLD).run(ends, edge, tmp_path).strip() == "pending_removal"
    pending = 'print(inkbox.get_identity("of-the-new").tunnel.status)'
    assert sdk(NEW).run(pending, edge, tmp_path).strip() == "delete_pending"
    end = 'inkbox.get_identity("of-the-new").delete(); inkbox.get_identity("of-the-old").delete()'
    sdk(NEW).run(end, edge, tmp_path)
    left = sdk(OLD).run("print([each.tunnel_name for each in inkbox.tunnels.list()])", edge, tmp_path)
    assert "of-the-old" not in left and "of-the-new" not in left


async def test_an_agent_with_its_identitys_own_key_serves_and_ends_with_its_identity(
    edge: Edge, tmp_path: Path
) -> None:
    with Client(f"https://{edge.address}", edge.key, ca_file=edge.ca) as client:
        identity = client.identities.create("with-a-key")
        key = client.keys.create("its own", identity=identity.id).api_key.reveal()
        other = client.keys.create("another's", identity=client.identities.create("no-other").id)
        with SdkAgent(sdk(NEW), edge, tmp_path, "with-a-key", "--app", str(APP), key=key) as agent:
            assert (await ask(edge, agent.hostname, "/echo")).status == 200
            eventually(lambda: client.identities.get("with-a-key").tunnel.currently_connected, 5)
            elsewhere = tmp_path / "elsewhere"
            state = elsewhere / ".inkbox" / "tunnels" / "with-a-key"
            state.mkdir(parents=True, mode=0o700)
            kept = tmp_path / ".inkbox" / "tunnels" / "with-a-key" / "state.json"
            (state / "state.json").write_text(kept.read_text())
            given = ("with-a-key", "--app", str(APP))
            with SdkAgent(sdk(NEW), edge, elsewhere, *given, key=other.api_key.reveal(), wait=False) as thief:
                thief.line("^ended TunnelRemoved")
            client.identities.delete("with-a-key")
            agent.line("^ended _TunnelAuthError")
        assert (await ask(edge, "with-a-key.localhost", "/echo")).status == 404


def test_identities_of_the_older_sdk(edge: Edge, tmp_path: Path) -> None:
    script = (
        'made = inkbox.create_identity("old-handle")\n'
        "print(made.agent_handle, made.mailbox, made.phone_number,"
        ' "old-handle" in [each.agent_handle for each in inkbox.list_identities()])\n'
        "made.delete()"
    )
    assert sdk(OLD).run(script, edge, tmp_path).strip() == "old-handle None None True"
