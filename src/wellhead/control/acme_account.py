"""The account at a certificate authority: its key, its file, its registration, its key's rollover.

::

    {data_dir}/acme/         0700
      account-key.pem        0600; apart from every certificate's key, never in the database or a log
      next-account-key.pem   0600; there while the key is being changed
      account.json           the account's URL at the directory it was made for

Source: RFC 8555 sections 7.3 and 8.1.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import josepy as jose
from acme import jws, messages
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from wellhead import private
from wellhead.control.acme_client import AcmeClient, is_problem
from wellhead.errors import IssuerError, LocalStateError
from wellhead.logs import Log

KEY: Final = "account-key.pem"
NEXT_KEY: Final = "next-account-key.pem"
FACTS: Final = "account.json"

_log = Log("wellhead.control")


class ExternalAccount:
    """An account elsewhere that a new ACME account is bound to (RFC 8555 section 7.3.4)."""

    def __init__(self, kid: str, key_file: Path) -> None:
        """
        Raises:
            LocalStateError: the file is missing, open to others, or holds no base64url.
        """
        text = private.read(key_file)
        if text is None:
            raise LocalStateError(f"acme_eab_key_file: {key_file} is missing")
        self._kid, self._key = kid, text.strip().rstrip("=")
        try:
            jose.b64.b64decode(self._key)
        except ValueError as error:
            raise LocalStateError(f"acme_eab_key_file: {key_file} holds no base64url") from error

    def bind(self, key: jose.JWKEC, directory: messages.Directory) -> dict[str, object]:
        return messages.ExternalAccountBinding.from_data(key.public_key(), self._kid, self._key, directory)


class Account:
    """Registers when it is first needed; what was registered is found again. A key of more than ``key_days``
    is changed when it is next needed; 0: never.

    Raises:
        LocalStateError: the directory or a file in it is unsafe or no key.
    """

    def __init__(
        self,
        directory: Path,
        client: AcmeClient,
        *,
        contact: str | None = None,
        external: ExternalAccount | None = None,
        key_days: float = 0.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = private.make_directory(directory)
        self._client = client
        self._contact = contact
        self._external = external
        self._key_seconds = key_days * 86400
        self._clock = clock
        self._turn = asyncio.Lock()
        self.key = self._read_key(KEY) or self._new_key(KEY)
        self._url = self._known_url()
        client.use(self.key, self._url)

    async def ready(self) -> None:
        """Return when there is an account that requests can be signed for.

        Raises:
            IssuerError: the authority does not give one, or is away.
        """
        async with self._turn:
            if (self._directory / NEXT_KEY).exists():
                await self._finish_rollover()
            if self._url is None:
                await self._register()
            elif self._key_seconds and self._key_age() > self._key_seconds:
                try:
                    await self._change_key(self._url)
                except IssuerError as error:
                    _log.warning("acme account key not changed", reason=str(error))

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        """That of the key in use."""
        key: ec.EllipticCurvePublicKey = self.key.key.public_key().public_numbers().public_key()
        return key

    def forget(self) -> None:
        """The authority does not know the account: register anew."""
        self._url = None
        self._client.use(self.key, None)

    async def rollover(self) -> None:
        """Change the account's key for a new one.

        Raises:
            IssuerError: refused, or away; the old key stays in use, or ``ready`` finds out which one is.

        Source: RFC 8555 section 7.3.5.
        """
        await self.ready()
        async with self._turn:
            assert self._url is not None
            await self._change_key(self._url)

    async def _change_key(self, account: str) -> None:
        new = self._new_key(NEXT_KEY)
        url = (await self._client.directory())["keyChange"]
        change = _KeyChange(account=account, old_key=self.key.public_key())
        inner = jws.JWS.sign(change.json_dumps().encode(), key=new, alg=jose.ES256, nonce=None, url=url)
        try:
            await self._client.post("a new account key", url, inner)
        except IssuerError as error:
            if error.reason == "refused":
                (self._directory / NEXT_KEY).unlink()
            raise
        self._promote(new)

    def _key_age(self) -> float:
        return self._clock() - (self._directory / KEY).stat().st_mtime

    async def _finish_rollover(self) -> None:
        """A rollover was cut off: the key that the authority knows the account by is the one."""
        new = self._read_key(NEXT_KEY)
        assert new is not None
        self._client.use(new, None)
        try:
            await self._find()
        except IssuerError as error:
            self._client.use(self.key, self._url)
            if not is_problem(error, "accountDoesNotExist"):
                raise
            (self._directory / NEXT_KEY).unlink()
        else:
            self._promote(new)

    def _promote(self, new: jose.JWKEC) -> None:
        try:
            (self._directory / NEXT_KEY).replace(self._directory / KEY)
        except OSError as error:
            raise LocalStateError(f"cannot write {self._directory / KEY}: {error.strerror}") from error
        self.key = new
        self._client.use(new, self._url)
        _log.info("acme account key changed", authority=self._client.host)

    async def _find(self) -> str:
        found = await self._client.post(
            "the account",
            (await self._client.directory())["newAccount"],
            messages.Registration(only_return_existing=True),
            anonymous=True,
        )
        return found.headers["Location"]

    async def _register(self) -> None:
        directory, external = await self._client.directory(), self._external
        if external is None and directory.meta.external_account_required:
            raise IssuerError(
                f"{self._client.host} wants an external account: set acme_eab_kid and acme_eab_key_file",
                reason="refused",
            )
        wanted = messages.NewRegistration.from_data(
            email=self._contact,
            external_account_binding=None if external is None else external.bind(self.key, directory),
            terms_of_service_agreed=True,
        )
        made = await self._client.post("an account", directory["newAccount"], wanted, anonymous=True)
        if "Location" not in made.headers:
            raise IssuerError(f"{self._client.host} made an account without a URL", reason="bad-answer")
        self._url = made.headers["Location"]
        facts = {"directory": self._client.url, "url": self._url}
        private.write(self._directory / FACTS, json.dumps(facts, indent=2) + "\n")
        self._client.use(self.key, self._url)
        _log.info("acme account registered", authority=self._client.host, account=self._url)

    def _known_url(self) -> str | None:
        try:
            facts = json.loads(private.read(self._directory / FACTS) or "{}")
        except ValueError:
            return None
        if not isinstance(facts, dict) or facts.get("directory") != self._client.url:
            return None
        url = facts.get("url")
        return url if isinstance(url, str) else None

    def _read_key(self, name: str) -> jose.JWKEC | None:
        path = self._directory / name
        if (pem := private.read(path)) is None:
            return None
        try:
            key = serialization.load_pem_private_key(pem.encode(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise LocalStateError(f"{path} holds no readable private key") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise LocalStateError(f"{path} holds a key of another kind, expected one on the curve P-256")
        return jose.JWKEC(key=key)

    def _new_key(self, name: str) -> jose.JWKEC:
        key = ec.generate_private_key(ec.SECP256R1())
        private.write(self._directory / name, pem_of(key))
        return jose.JWKEC(key=key)


class _KeyChange(jose.JSONObjectWithFields):
    account: str = jose.field("account")
    old_key: jose.JWK = jose.field("oldKey", decoder=jose.JWK.from_json)


def pem_of(key: ec.EllipticCurvePrivateKey) -> str:
    """The key's PKCS#8, as files hold it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
