"""The templates of a host: what a sandbox can begin as, by name.

``{state}/templates/{name}.json`` says what it is; the layers that it names are directories in
``{state}/layers``. A template that is built anew gets a new layer, so what runs on the old one keeps it; a
layer goes when no template and no sandbox names it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from wellhead import private
from wellhead.errors import (
    HostConflict,
    HostError,
    HostForbidden,
    HostInvalid,
    HostNotFound,
    InputError,
    LocalStateError,
)
from wellhead.host.runtime.kept import KeptSandboxes, remove_tree, told
from wellhead.host.runtime.runtime import Template
from wellhead.host.space import bytes_on_disk
from wellhead.model.sandboxes import check_template_name

BUILT_IN = ("minimal", "minimal-ubuntu", "python", "jupyter")

_layer = re.compile(r"[0-9a-f]{16}").fullmatch
_UNFINISHED = ".new-"
_LOCK = ".lock"

RuntimeName = Literal["namespace", "process"]
Kind = Literal["built", "snapshot"]


def _is_layer(name: str) -> str:
    if _layer(name) is None:
        raise ValueError("is not the name of a layer")
    return name


def _is_absolute(path: str) -> str:
    if not path.startswith("/") or os.path.normpath(path) != path:
        raise ValueError("is not an absolute path")
    return path


AbsolutePath = Annotated[str, AfterValidator(_is_absolute)]


class TemplateFile(BaseModel):
    """What ``{name}.json`` holds.

    ``recipe``: the digest of what it was built from; ``base``: what is under it. "" for a snapshot.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    version: Literal[1] = 1
    runtime: RuntimeName
    kind: Kind
    recipe: str = ""
    base: Literal["machine", "debootstrap", ""] = ""
    built_at: float
    size_bytes: Annotated[int, Field(ge=0)]
    layers: list[Annotated[str, AfterValidator(_is_layer)]] = []
    shared: list[AbsolutePath] = []
    user: Annotated[str, Field(min_length=1)] = "root"
    home: AbsolutePath = "/root"
    env: dict[str, str] = {}
    user_namespace: bool = False
    no_new_privs: bool = True
    start: list[str] = []
    healthy_port: Annotated[int, Field(ge=1, le=65535)] | None = None


@dataclass(frozen=True, slots=True)
class TemplateFacts:
    """A template in a list. ``built_at``: Unix seconds; ``size_bytes``: of its own layers."""

    name: str
    kind: Kind
    built_at: float
    size_bytes: int


class Templates:
    """The templates of one runtime in a host's state directory. Calls block; they are made in a thread."""

    def __init__(self, state: Path, runtime: str = "namespace") -> None:
        if runtime not in ("namespace", "process"):
            raise HostInvalid(f"there is no runtime {runtime!r}; it is namespace or process")
        self.runtime: RuntimeName = "process" if runtime == "process" else "namespace"
        self._files = state / "templates"
        self._layers = state / "layers"
        self._sandboxes = KeptSandboxes(state)

    def names(self) -> list[str]:
        """Those that a sandbox can be made of; what cannot be read is not among them."""
        return [each.name for each in self.listed()]

    def listed(self) -> list[TemplateFacts]:
        """The same, with what there is to say of each, by name."""
        found = []
        for name in self._all():
            with contextlib.suppress(HostError):
                file = self.read(name)
                found.append(TemplateFacts(name, file.kind, file.built_at, file.size_bytes))
        return found

    def get(self, name: str) -> Template:
        """
        Raises:
            HostInvalid: no name of a template.
            HostNotFound: none of that name for this runtime.
            HostError: what is written of it cannot be understood, or a layer is gone.
        """
        file = self.read(name)
        layers = [self._layers / each for each in file.layers]
        if missing := [each for each in layers if not each.is_dir()]:
            raise HostError(f"the template {name} has lost its layer {missing[0]}; build it anew")
        return Template(
            name=name, layers=layers, shared=file.shared, user=file.user, home=file.home, env=file.env,
            user_namespace=file.user_namespace, no_new_privs=file.no_new_privs, start=file.start,
            healthy_port=file.healthy_port,
        )  # fmt: skip

    def read(self, name: str) -> TemplateFile:
        """What is written of a template; raises as ``get``."""
        path = self._path(name)
        with told():
            text = private.read(path)
        if text is None:
            raise HostNotFound(f"there is no template {name} on this host")
        try:
            file = TemplateFile.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise HostError(f"{path} is not a template: {place}: {first['msg']}") from error
        if file.runtime != self.runtime:
            raise HostNotFound(f"the template {name} is for runtime {file.runtime}, not for {self.runtime}")
        return file

    def put(self, name: str, file: TemplateFile) -> None:
        """Write what a template is, in place of what it was.

        Raises:
            HostInvalid: no name of a template.
            HostError: it cannot be written.
        """
        path = self._path(name)
        with told():
            private.make_directory(self._files)
            private.write(path, file.model_dump_json(indent=1))

    def add_snapshot(self, name: str, layer: Path, base: str | Template) -> TemplateFacts:
        """A template of a layer that a runtime wrote (``Runtime.snapshot``), which is moved here.

        It is what its base is otherwise: user, environment, what starts.

        Raises:
            HostInvalid: no name of a template.
            HostForbidden: the name of a built-in one.
            HostConflict: there is one of that name.
            HostError: the layer cannot be moved.
        """
        path = self._path(name)
        if name in BUILT_IN:
            raise HostForbidden(f"the template {name} is built in")
        old = self.get(base) if isinstance(base, str) else base
        with self.locked(name):
            if path.exists():
                raise HostConflict(f"there is a template {name} already")
            file = TemplateFile(
                runtime=self.runtime, kind="snapshot", built_at=time.time(),
                size_bytes=bytes_on_disk(layer), layers=[self.adopt(layer)], shared=[*old.shared],
                user=old.user, home=old.home, env=dict(old.env), user_namespace=old.user_namespace,
                no_new_privs=old.no_new_privs, start=[*old.start], healthy_port=old.healthy_port,
            )  # fmt: skip
            self.put(name, file)
        return TemplateFacts(name, file.kind, file.built_at, file.size_bytes)

    def remove(self, name: str, *, by_operator: bool = False) -> None:
        """Forget a template, and its layers unless something else is made of them.

        A tenant may forget snapshots only; the operator also what was built, and what cannot be read.

        Raises:
            HostInvalid: no name of a template.
            HostNotFound: none of that name.
            HostForbidden: it was built, and it is no operator that asks.
        """
        path = self._path(name)
        if not path.exists():
            raise HostNotFound(f"there is no template {name} on this host")
        with self.locked(name):
            if not by_operator and self.read(name).kind == "built":
                raise HostForbidden(f"the template {name} is this host's own; its operator can remove it")
            path.unlink(missing_ok=True)
        self.sweep()

    @contextlib.contextmanager
    def new_layer(self) -> Iterator[Path]:
        """A directory to build a layer in, under ``locked``; it is removed unless ``adopt`` took it.

        Raises:
            HostError: it cannot be made.
        """
        with told():
            path = private.make_directory(self._layers / f"{_UNFINISHED}{secrets.token_hex(8)}")
        try:
            yield path
        finally:
            remove_tree(path)

    def layer_path(self, name: str) -> Path:
        """Where a layer is, or will be."""
        return self._layers / name

    def adopt(self, layer: Path, name: str = "") -> str:
        """Move a finished directory to the layers; its name there.

        Raises:
            HostError: it is on another filesystem, or is not there.
        """
        name = name or new_layer_name()
        with told():
            private.make_directory(self._layers)
        try:
            layer.chmod(0o755)  # it is the root of sandboxes
            layer.rename(self._layers / name)
        except OSError as error:
            raise HostError(f"cannot take {layer} as a layer: {error.strerror or error}") from error
        return name

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Nobody else, here or in another program, builds or removes this template meanwhile.

        Raises:
            HostConflict: somebody does.
        """
        with told():
            private.make_directory(self._files)
            private.make_directory(self._layers)
        with contextlib.ExitStack() as held:
            if not held.enter_context(_lock(self._path(name).with_suffix(".lock"), fcntl.LOCK_EX)):
                raise HostConflict(f"the template {name} is being built or removed already")
            # A layer that nothing names yet is not swept meanwhile.
            held.enter_context(_lock(self._layers / _LOCK, fcntl.LOCK_SH, wait=True))
            yield

    def sweep(self) -> None:
        """Remove layers that nothing is made of, and what builds that were killed left.

        Not while something is built. Where what is written of one template or sandbox cannot be read, every
        finished layer stays.

        Raises:
            HostError: one cannot be removed.
        """
        if not self._layers.is_dir():
            return
        with _lock(self._layers / _LOCK, fcntl.LOCK_EX) as alone:
            used = self._used() if alone else None
            for name in os.listdir(self._layers) if alone else ():
                unused = used is not None and _layer(name) and name not in used
                if unused or name.startswith(_UNFINISHED):
                    remove_tree(self._layers / name)

    def _used(self) -> set[str] | None:
        """Names of the layers that templates of any runtime or sandboxes are made of; None: not known."""
        used: set[str] = set()
        try:
            for path in self._files.glob("*.json"):
                used.update(TemplateFile.model_validate_json(private.read(path) or "").layers)
            for sandbox in self._sandboxes.ids():
                if (kept := self._sandboxes.read(sandbox)) is not None:
                    used.update(layer.name for layer in kept.spec.template.layers)
        except (ValidationError, HostError, LocalStateError):
            return None
        return used

    def _all(self) -> Iterator[str]:
        if self._files.is_dir():
            for name in sorted(path.stem for path in self._files.glob("*.json")):
                with contextlib.suppress(InputError):
                    yield check_template_name(name)

    def _path(self, name: str) -> Path:
        try:
            return self._files / f"{check_template_name(name)}.json"
        except InputError as error:
            raise HostInvalid(str(error)) from error


def new_layer_name() -> str:
    return secrets.token_hex(8)


@contextlib.contextmanager
def _lock(path: Path, how: int, *, wait: bool = False) -> Iterator[bool]:
    """Whether it is ours, at once unless ``wait``; let go at the end."""
    held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(held, how if wait else how | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(held)
