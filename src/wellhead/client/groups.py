"""``client.tunnels``, ``identities``, ``certs``, ``keys``, ``audit``, ``snapshots``, ``hosts``.

Each call stands here once, for both clients.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, overload

from wellhead.client import (
    certificate_calls,
    host_calls,
    identity_calls,
    organization_calls,
    sandbox_calls,
    tunnel_calls,
)
from wellhead.client.calls import Call

T = TypeVar("T")
P = ParamSpec("P")


class Send(Protocol):
    def __call__(self, call: Call[T], /) -> T: ...


class AsyncSend(Protocol):
    def __call__(self, call: Call[T], /) -> Coroutine[Any, Any, T]: ...


class Group:
    """Calls that are sent at once."""

    def __init__(self, send: Send) -> None:
        self.send = send


class AsyncGroup:
    """Calls that are awaited."""

    def __init__(self, send: AsyncSend) -> None:
        self.send = send


class Method(Generic[P, T]):
    """A described call as a method: a ``Group``'s gives the record, an ``AsyncGroup``'s is awaited."""

    def __init__(self, describe: Callable[P, Call[T]]) -> None:
        self._describe = describe

    @overload
    def __get__(self, group: None, kind: type) -> Callable[P, Call[T]]: ...
    @overload
    def __get__(self, group: Group, kind: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, group: AsyncGroup, kind: type) -> Callable[P, Coroutine[Any, Any, T]]: ...

    def __get__(self, group: Group | AsyncGroup | None, kind: type) -> Callable[P, Any]:
        describe = self._describe
        if group is None:
            return describe
        send = group.send

        @functools.wraps(describe)
        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return send(describe(*args, **kwargs))

        vars(method)["__signature__"] = _signature(describe)
        return method


def _signature(describe: Callable[..., object]) -> inspect.Signature:
    """What a person sees in ``help``: the record in place of the call that gives it."""
    signature = inspect.signature(describe)
    given = str(signature.return_annotation)
    return signature.replace(return_annotation=given.removeprefix("Call[").removesuffix("]"))


class _Tunnels:
    list = Method(tunnel_calls.list_tunnels)
    page = Method(tunnel_calls.page_of_tunnels)
    find = Method(tunnel_calls.find_tunnel)
    get = Method(tunnel_calls.get_tunnel)
    create = Method(tunnel_calls.create_tunnel)
    update = Method(tunnel_calls.update_tunnel)
    delete = Method(tunnel_calls.delete_tunnel)
    restore = Method(tunnel_calls.restore_tunnel)
    force_delete = Method(tunnel_calls.force_delete_tunnel)
    rotate_secret = Method(tunnel_calls.rotate_secret)
    sign_csr = Method(tunnel_calls.sign_csr)


class _Identities:
    list = Method(identity_calls.list_identities)
    page = Method(identity_calls.page_of_identities)
    get = Method(identity_calls.get_identity)
    create = Method(identity_calls.create_identity)
    update = Method(identity_calls.update_identity)
    delete = Method(identity_calls.delete_identity)


class _Certificates:
    list = Method(certificate_calls.list_certificates)
    get = Method(certificate_calls.get_certificate)
    renew = Method(certificate_calls.renew_certificate)
    list_of_server = Method(certificate_calls.list_server_certificates)
    renew_of_server = Method(certificate_calls.renew_server_certificate)


class _Keys:
    list = Method(organization_calls.list_keys)
    get = Method(organization_calls.get_key)
    create = Method(organization_calls.create_key)
    revoke = Method(organization_calls.revoke_key)


class _Audit:
    list = Method(organization_calls.list_audit)


class _Snapshots:
    list = Method(sandbox_calls.list_snapshots)
    create = Method(sandbox_calls.snapshot_sandbox)
    delete = Method(sandbox_calls.delete_snapshot)


class _Hosts:
    list = Method(host_calls.list_hosts)
    get = Method(host_calls.get_host)
    create = Method(host_calls.create_host)
    update = Method(host_calls.update_host)
    drain = Method(host_calls.drain_host)
    delete = Method(host_calls.delete_host)


class Tunnels(_Tunnels, Group):
    """``client.tunnels``; what each call takes, gives and raises is told in ``tunnel_calls``."""


class Identities(_Identities, Group):
    """``client.identities``; told in ``identity_calls``."""


class Certificates(_Certificates, Group):
    """``client.certs``."""


class Keys(_Keys, Group):
    """``client.keys``."""


class Audit(_Audit, Group):
    """``client.audit``."""


class Snapshots(_Snapshots, Group):
    """``client.snapshots``; told in ``sandbox_calls``."""


class Hosts(_Hosts, Group):
    """``client.hosts``; told in ``host_calls``."""


class AsyncTunnels(_Tunnels, AsyncGroup):
    """``client.tunnels``, awaited."""


class AsyncIdentities(_Identities, AsyncGroup):
    """``client.identities``, awaited."""


class AsyncCertificates(_Certificates, AsyncGroup):
    """``client.certs``, awaited."""


class AsyncKeys(_Keys, AsyncGroup):
    """``client.keys``, awaited."""


class AsyncAudit(_Audit, AsyncGroup):
    """``client.audit``, awaited."""


class AsyncSnapshots(_Snapshots, AsyncGroup):
    """``client.snapshots``, awaited."""


class AsyncHosts(_Hosts, AsyncGroup):
    """``client.hosts``, awaited."""
