"""What templates promise, in sandboxes of Linux namespaces; packages of Python come from the registry."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kit.sandbox_host import SandboxHost, needs_namespaces, sandbox_host
from tests.kit.sandbox_root import shell
from wellhead.host.runtime.runtime import Template
from wellhead.host.startup import begin
from wellhead.host.template_build import JUPYTER_PORT, KERNEL, Recipe, build, ensure
from wellhead.host.template_debootstrap import SUITE, command
from wellhead.host.template_venv import run
from wellhead.host.templates import Templates

CONTROL = r"Package: own\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b>\nDescription: x\n"

pytestmark = [pytest.mark.system, pytest.mark.needs("sudo", "git", "nft", "ip"), needs_namespaces]


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    templates = Templates(tmp_path_factory.mktemp("host"))
    assert ensure(templates) == []
    return templates


# Before there is a host, in whose network no registry is reached.
@pytest.fixture(scope="module")
def python(templates: Templates) -> Template:
    build(templates, Recipe("python"))
    return templates.get("python")


@pytest.fixture(scope="module")
def jupyter(templates: Templates) -> Template:
    build(templates, Recipe("jupyter"))
    return templates.get("jupyter")


@pytest.fixture
async def host() -> AsyncIterator[SandboxHost]:
    async with sandbox_host() as host:
        yield host


async def test_minimal_is_roots_and_changes_nothing_of_the_machine(
    host: SandboxHost, templates: Templates
) -> None:
    sandbox = await host.create(templates.get("minimal"))
    done = await shell(
        sandbox,
        "set -e; whoami; pwd; git init -q r; cd r; git -c user.name=a -c user.email=a@b commit -qm x"
        " --allow-empty; git log --format=%s; dpkg-query -W -f '${Package}\\n' git; touch /usr/bin/made",
    )
    assert (done.code, done.output.split(), done.errors) == (0, ["root", "/root", "x", "git"], "")
    assert not await asyncio.to_thread(Path("/usr/bin/made").exists)


async def test_the_user_of_minimal_ubuntu_needs_no_password_for_sudo(
    host: SandboxHost, templates: Templates
) -> None:
    sandbox = await host.create(templates.get("minimal-ubuntu"))
    done = await shell(
        sandbox,
        "set -e; whoami; pwd; sudo -n whoami; sudo -n touch /etc/made; stat -c %U /etc/made;"
        "sudo -n useradd -m other; sudo -n -u other whoami; ls -d /home/other;"
        "git init -q r; git -C r status -s",
    )
    assert (done.errors, done.code) == ("", 0)
    assert done.output.split() == ["wrenn-user", "/home/wrenn-user", "root", "root", "other", "/home/other"]


async def test_a_package_is_installed_for_one_sandbox(host: SandboxHost, templates: Templates) -> None:
    sandbox = await host.create(templates.get("minimal-ubuntu"))
    done = await shell(
        sandbox,
        "set -e; mkdir -p p/DEBIAN p/usr/bin; echo 'echo installed' > p/usr/bin/own; chmod +x p/usr/bin/own;"
        f"printf '{CONTROL}' > p/DEBIAN/control; dpkg-deb -b p own.deb > built;"
        "sudo -n dpkg -i own.deb > told; own; dpkg-query -W own",
    )
    assert (done.errors, done.code) == ("", 0)
    assert done.output.split() == ["installed", "own", "1"]
    other = await host.create(templates.get("minimal-ubuntu"))
    done = await shell(other, "which own; dpkg-query -W own")
    assert "no packages found" in done.errors and done.output == ""


async def test_pip_and_venv_work_for_the_user_of_python(host: SandboxHost, python: Template) -> None:
    sandbox = await host.create(python, memory_mb=512, disk_mb=256)
    done = await shell(
        sandbox,
        'set -e; mkdir own; printf \'[project]\\nname="own"\\nversion="1"\\n\' > own/pyproject.toml; pip -V;'
        "python -c 'import sys; print(sys.prefix)'; pip uninstall -y pip; python -m venv --without-pip v;"
        "v/bin/python -c 'print(1 + 1)'",
        seconds=60,
    )
    assert (done.errors, done.code) == ("", 0)
    assert "from /opt/python/lib" in done.output
    assert "/opt/python\n" in done.output
    assert done.output.endswith("2\n")


@pytest.mark.slow
async def test_jupyter_serves_its_kernel_to_any_origin(host: SandboxHost, jupyter: Template) -> None:
    sandbox = await host.create(jupyter, memory_mb=1024, disk_mb=256)
    await begin(sandbox, sandbox.spec.template.env)
    url = f"http://127.0.0.1:{JUPYTER_PORT}/api"
    done = await shell(sandbox, f"curl -sS -H 'Origin: https://any.example' -i {url}/status")
    assert done.output.startswith("HTTP/1.1 200")
    assert "access-control-allow-origin: *" in done.output.lower()
    done = await shell(sandbox, f"curl -sS -X POST {url}/kernels")
    assert json.loads(done.output)["name"] == KERNEL
    done = await shell(sandbox, f"curl -sS {url}/kernelspecs")
    assert {KERNEL} <= json.loads(done.output)["kernelspecs"].keys()


@pytest.mark.slow
@pytest.mark.needs("debootstrap")
def test_debootstrap_finds_every_package_that_a_fresh_base_asks_for(tmp_path: Path) -> None:
    asked = command(tmp_path / "root", SUITE, "")
    run([asked[0], "--print-debs", *asked[1:]])
