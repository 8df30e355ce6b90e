"""Building templates: from the machine's own programs or a fresh base, with Python environments on top.

A build that fails, or that is killed, leaves what was there. A template whose recipe and machine are as they
were is not built again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pwd
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from wellhead.errors import HostError, HostInvalid, HostNotFound
from wellhead.host import template_debootstrap, template_machine
from wellhead.host.space import bytes_on_disk
from wellhead.host.template_machine import USER, USER_ID
from wellhead.host.template_venv import PYTHON, make_venv
from wellhead.host.templates import BUILT_IN, TemplateFacts, TemplateFile, Templates, new_layer_name
from wellhead.logs import Log

AT_START = ("minimal", "minimal-ubuntu")  # built where they are missing: they take a second
JUPYTER_PORT = 8888
JUPYTER_PACKAGES = ("jupyter-server", "ipykernel")
KERNEL = "wrenn"

_VERSION = 1  # of what the recipes make: a higher number builds every template anew
_OF_MACHINE = ("etc/os-release", "etc/passwd", "etc/ld.so.cache", "var/lib/dpkg/status", "usr/bin/sudo")
_ENVIRONMENTS = {"python": "/opt/python", "jupyter": "/opt/jupyter"}
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Say = Callable[[str], None]
Base = Literal["machine", "debootstrap"]

_log = Log("wellhead.host")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to build. ``name``: one of BUILT_IN; ``pip``: further packages, for ``python`` and ``jupyter``.

    ``base``: what is under it; ``suite`` and ``mirror`` are for ``debootstrap``, "" for Debian's.
    """

    name: str
    pip: Sequence[str] = ()
    base: Base = "machine"
    suite: str = ""
    mirror: str = ""

    def check(self, runtime: str) -> None:
        """
        Raises:
            HostInvalid: there is no such recipe, or it is asked for what it cannot have.
        """
        if self.name not in BUILT_IN:
            raise HostInvalid(f"there is no recipe {self.name!r}; there are {', '.join(BUILT_IN)}")
        if self.base not in ("machine", "debootstrap"):
            raise HostInvalid(f"there is no base {self.base!r}; it is machine or debootstrap")
        if self.pip and self.name not in _ENVIRONMENTS:
            raise HostInvalid(f"packages go into {' and '.join(_ENVIRONMENTS)}, not into {self.name}")
        if (self.suite or self.mirror) and self.base != "debootstrap":
            raise HostInvalid("a suite or a mirror is for the base debootstrap")
        if self.base != "machine" and runtime == "process":
            raise HostInvalid("runtime process has no base but the machine")

    def digest(self, runtime: str) -> str:
        """What says that a template need not be built again."""
        said = {**asdict(self), "version": _VERSION, "runtime": runtime, "machine": _machine(self.base)}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def build(
    templates: Templates, recipe: Recipe, name: str = "", *, again: bool = False, say: Say | None = None
) -> TemplateFacts:
    """Build a template, unless it is there as the recipe would make it; ``name``: the recipe's, unless given.

    ``again``: build it in any case. ``say`` is told each step.

    Raises:
        HostInvalid: the recipe or the name breaks a rule.
        HostConflict: it is being built already.
        HostError: it cannot be built; what was there before is there.
    """
    recipe.check(templates.runtime)
    name = name or recipe.name
    if name in BUILT_IN and name != recipe.name:
        raise HostInvalid(f"the name {name} is that of another recipe")
    tell = _teller(name, say)
    templates.sweep()  # not after: what still begins on the old layer keeps it until the next time
    with templates.locked(name):
        digest = recipe.digest(templates.runtime)
        if not again and _is_built(templates, name, digest):
            tell("is as it would be built")
        else:
            began = time.monotonic()
            file = _make(templates, recipe, tell)
            templates.put(name, file.model_copy(update={"recipe": digest, "base": recipe.base}))
            tell(f"built in {time.monotonic() - began:.1f} s")
    file = templates.read(name)
    return TemplateFacts(name, file.kind, file.built_at, file.size_bytes)


def ensure(templates: Templates, names: Sequence[str] = AT_START, say: Say | None = None) -> list[str]:
    """Build those that are missing or older than the machine; gives back a sentence for each that cannot be.

    One with a base of its own is the operator's choice, and stays.
    """
    failed = []
    for name in names:
        try:
            with contextlib.suppress(HostNotFound):
                if templates.read(name).base == "debootstrap":
                    continue
            build(templates, Recipe(name), say=say)
        except HostError as error:
            _log.warning("a template cannot be built", template=name, reason=str(error))
            failed.append(f"the template {name} cannot be built: {error}")
    return failed


def _is_built(templates: Templates, name: str, digest: str) -> bool:
    with contextlib.suppress(HostError):
        templates.get(name)  # with all its layers
        return templates.read(name).recipe == digest
    return False


def _make(templates: Templates, recipe: Recipe, say: Say) -> TemplateFile:
    if templates.runtime == "process":
        return _make_plain(templates, recipe, say)
    if os.geteuid() != 0:
        raise HostError("a template for runtime namespace is built as root; runtime process needs none")
    if recipe.name == "minimal":
        return _of_base(recipe, templates, "root", "/root", say)
    if recipe.name == "minimal-ubuntu":
        return _of_base(recipe, templates, USER, f"/home/{USER}", say)
    below = _base_for(templates, recipe, say)
    place = _ENVIRONMENTS[recipe.name]
    with templates.new_layer() as layer:
        _check_python(below, templates)
        _make_environment(layer / place[1:], place, recipe, say)
        for each in (layer / place[1:], *(layer / place[1:]).rglob("*")):
            os.chown(each, USER_ID, USER_ID, follow_symlinks=False)
        (layer / "opt").chmod(0o755)
        return below.model_copy(
            update={
                "size_bytes": below.size_bytes + bytes_on_disk(layer),
                "layers": [templates.adopt(layer), *below.layers],
                "built_at": time.time(),
                **_begins(recipe.name, place, f"/home/{USER}"),
            }
        )


def _of_base(recipe: Recipe, templates: Templates, user: str, home: str, say: Say) -> TemplateFile:
    with_user = user == USER
    with templates.new_layer() as layer:
        if recipe.base == "debootstrap":
            template_debootstrap.write_root(layer, recipe.suite, recipe.mirror, with_user=with_user, say=say)
        else:
            say("the machine's own programs")
            template_machine.write_skeleton(layer, with_user=with_user)
        return TemplateFile(
            runtime="namespace", kind="built", built_at=time.time(), size_bytes=bytes_on_disk(layer),
            layers=[templates.adopt(layer)],
            shared=template_machine.shared_directories() if recipe.base == "machine" else [],
            user=user, home=home, env={"LANG": "C.UTF-8"}, user_namespace=with_user,
            no_new_privs=not with_user,
        )  # fmt: skip


def _base_for(templates: Templates, recipe: Recipe, say: Say) -> TemplateFile:
    """What ``minimal-ubuntu`` is, or would be."""
    below = replace(recipe, name="minimal-ubuntu", pip=())
    if _is_built(templates, below.name, below.digest(templates.runtime)):
        return templates.read(below.name)
    return _of_base(below, templates, USER, f"/home/{USER}", say)


def _check_python(below: TemplateFile, templates: Templates) -> None:
    """What is compiled and linked for the machine's Python must find the same one in the sandbox."""
    if below.shared:
        return
    own = os.path.realpath(PYTHON)
    there = templates.layer_path(below.layers[0]) / PYTHON[1:]
    if not there.is_symlink() or Path(own).name != Path(os.readlink(there)).name:
        raise HostError(f"the base's Python is not the machine's, {Path(own).name}")


def _make_environment(real: Path, shown: str, recipe: Recipe, say: Say, python: str = PYTHON) -> None:
    jupyter = recipe.name == "jupyter"
    packages = [*(JUPYTER_PACKAGES if jupyter else ()), *recipe.pip]
    make_venv(real, shown, packages, say, python)
    if jupyter:
        kernel = real / "share/jupyter/kernels" / KERNEL
        kernel.mkdir(parents=True)
        argv = [f"{shown}/bin/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        members = {"argv": argv, "display_name": "Python 3", "language": "python"}
        (kernel / "kernel.json").write_text(json.dumps(members, indent=1))


def _begins(name: str, place: str, home: str) -> dict[str, object]:
    """Environment of every program, and what begins with a sandbox."""
    env = {"LANG": "C.UTF-8", "PATH": f"{place}/bin:{_PATH}", "VIRTUAL_ENV": place}
    if name != "jupyter":
        return {"env": env}
    start = [
        f"{place}/bin/jupyter-server", "--ip=0.0.0.0", f"--port={JUPYTER_PORT}", "--ServerApp.port_retries=0",
        "--no-browser", "--allow-root", "--IdentityProvider.token=",
        "--PasswordIdentityProvider.hashed_password=", "--ServerApp.allow_origin=*",
        "--ServerApp.disable_check_xsrf=True",
        f"--MultiKernelManager.default_kernel_name={KERNEL}",
    ]  # fmt: skip
    if home:
        start.append(f"--ServerApp.root_dir={home}")
    return {"env": env, "start": start, "healthy_port": JUPYTER_PORT}


def _make_plain(templates: Templates, recipe: Recipe, say: Say) -> TemplateFile:
    """For runtime ``process``: an environment and what begins, over the machine as it is."""
    file = TemplateFile(
        runtime="process", kind="built", built_at=time.time(), size_bytes=0,
        user=pwd.getpwuid(os.getuid()).pw_name, home="/", no_new_privs=False,
    )  # fmt: skip
    if recipe.name not in _ENVIRONMENTS:
        return file
    with templates.new_layer() as layer:
        name = new_layer_name()
        inside = _ENVIRONMENTS[recipe.name][1:]
        place = str(templates.layer_path(name) / inside)
        _make_environment(layer / inside, place, recipe, say, sys.executable)
        size = bytes_on_disk(layer)
        layers = [templates.adopt(layer, name)]
    return file.model_copy(update={"size_bytes": size, "layers": layers, **_begins(recipe.name, place, "")})


def _machine(base: str) -> list[object]:
    """What of the machine a template is made of."""
    facts: list[object] = [os.path.realpath(PYTHON)]
    for name in _OF_MACHINE if base == "machine" else ():
        with contextlib.suppress(OSError):
            told = os.stat(f"/{name}")
            facts.append([name, told.st_mtime_ns, told.st_size])
    return facts


def _teller(name: str, say: Say | None) -> Say:
    def tell(step: str) -> None:
        _log.info("template", template=name, step=step)
        if say is not None:
            say(f"{name}: {step}")

    return tell
