"""Every command of a how-to page, in a block or within a line, is done as it is written there.

A page's ports, names and addresses are its own: the commands run in namespaces. The pages of ``test_howto``
need none. What cannot be done here stands in ``NOT_HERE``, with the reason; nothing else is left out.
"""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import zip_longest
from pathlib import Path
from types import ModuleType

import pytest

from tests.kit import named_app
from tests.kit.certs import DAY, Root, self_signed
from tests.kit.machine import NEEDED, Machine, namespaces
from tests.kit.programs import Program, eventually
from tests.system import test_howto

HOWTO = test_howto.HOWTO
pytestmark = NEEDED

COMMAND = r"(?:[A-Z_]+=\S+ )?(?:wellhead|curl|jupyter|sudo|systemctl|journalctl|loginctl) [^`\n]+"
URL = r"https://([a-z0-9-]+)\.localhost:8443"
NOT_HERE: dict[str, dict[str, str]] = {
    "service": {
        "loginctl enable-linger": "changes how systemd runs this machine",
        "journalctl --user -u wellhead-up.service": "reads the lines of a unit that systemd runs",
        "systemctl --user reload wellhead-start.service": "is for a unit that systemd runs",
        "wellhead up": "tells what a supervisor runs; every other page does",
    },
    "jupyter": {
        "jupyter server password": "asks at a terminal; it is Jupyter's own",
        "wellhead template build jupyter": "needs a host: test_port_apps_python.py builds such a template",
        "wellhead sandbox share $ID 8888": "the same test opens Jupyter by a link",
    },
    "start": {"wellhead http": "only names the command"},
    "troubleshoot": {
        "wellhead http": "only names the command",
        "wellhead up": "only names the command",
        # What statuses of ports come to needs a host: ports.md and hosts.md have the commands, done there.
        "wellhead host list": "only names the command",
        "wellhead sandbox list": "only names the command",
        "wellhead sandbox logs": "only names the command",
        "wellhead sandbox ports": "only names the command",
        "wellhead sandbox resume": "only names the command",
        "wellhead sandbox share": "only names the command",
        "wellhead sandbox update ID --auto-resume": "is done as ports.md has it",
    },
}


class Page:
    """A page's commands; each is taken once it is about to be done."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = (HOWTO / f"{name}.md").read_text("utf-8")
        prose = re.sub(r"^```.*?^```$", "", self.text, flags=re.M | re.S)
        self.commands = set(re.findall(rf"(?:^ {{4}}|`)({COMMAND})", prose, re.M))
        self.left = self.commands - NOT_HERE.get(name, {}).keys()

    def take(self, command: str) -> str:
        assert command in self.commands, f"{self.name}.md no longer has: {command}"
        self.left.discard(command)
        return command

    def block(self, language: str) -> str:
        found = re.search(rf"^```{language}\n(.*?)^```$", self.text, re.M | re.S)
        assert found is not None
        return found[1]


@contextmanager
def read(name: str) -> Iterator[Page]:
    """A page that is done to its end: every command was taken."""
    page = Page(name)
    yield page
    assert not page.left, f"commands of {name}.md that nothing does: {sorted(page.left)}"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with a server, for the pages that do not start their own."""
    directory = tmp_path_factory.mktemp("user")
    with namespaces(directory, "192.168.1.20", "10.0.0.7") as holder:
        machine = Machine(directory, holder)
        key, certificate = self_signed("localhost", "10.0.0.7")
        (directory / "internal.key").write_bytes(key)
        (directory / "internal-ca.pem").write_bytes(certificate)
        with machine.start("wellhead up") as edge:
            edge.line(r"^ready ")
            (directory / "ca.pem").symlink_to(machine.home / "server" / "ca.pem")
            yield machine


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Machine]:
    """A machine on which nothing runs."""
    with namespaces(tmp_path) as holder:
        yield Machine(tmp_path, holder)


def app(machine: Machine, name: str, where: str, *, tls: bool = False) -> Program:
    pair = " internal.key internal-ca.pem" if tls else ""
    program = machine.start(f"{sys.executable} {named_app.__file__} {name} {where}{pair}")
    program.line("^serving$")
    return program


def connected(machine: Machine, command: str) -> tuple[Program, str]:
    """``wellhead http`` as it is written, connected, and its name."""
    agent = machine.start(command)
    agent.line(r"^connected$")
    return agent, agent.line(URL)[1]


def visit(machine: Machine, name: str, *flags: str) -> str:
    """What a visitor gets at a tunnel."""
    given = " ".join(["--silent", "--max-time 10", "--cacert ca.pem", *flags])
    return machine.out(f"curl {given} https://{name}.localhost:8443/")


def test_forward(machine: Machine) -> None:
    """In waves: agents for one upstream share the name that is remembered for it."""
    trusted = f"SSL_CERT_FILE={machine.directory}/internal-ca.pem"
    secure = "wellhead http https://localhost:3443"
    local, tls = r"local saw localhost:8000\n", r"secure saw localhost:3443\n"
    waves = [
        {
            "wellhead http 8000": local,
            "wellhead http 192.168.1.20:3000": r"other saw 192\.168\.1\.20:3000\n",
            "wellhead http unix:/run/app.sock": r"socket saw \S+\n",
            secure: r"(?s)(?!secure saw).+",  # its authority is unknown to this machine
        },
        {
            "wellhead http 8000 --host-header preserve": r"local saw [a-z0-9-]+\.localhost:8443\n",
            f"{secure} --upstream-ca-file internal-ca.pem": tls,
        },
        {"wellhead http 8000 --host-header app.internal": r"local saw app\.internal\n"},
        {"wellhead http 8000 --name my-agent": local},
    ]
    variations = [{f"{trusted} {secure}": tls}, {f"{secure} --no-verify-upstream": tls}]
    apps = [
        ("local", "127.0.0.1:8000", False),
        ("other", "192.168.1.20:3000", False),
        ("secure", "127.0.0.1:3443", True),
        ("socket", "/run/app.sock", False),
        ("sealed", "127.0.0.1:9443", True),
    ]
    with ExitStack() as running, read("forward") as page:
        for name, where, has_tls in apps:
            running.enter_context(app(machine, name, where, tls=has_tls))
        assert "\n`--no-verify-upstream` takes any certificate" in page.text
        for command in [command for wave in waves for command in wave]:
            page.take(command)
        for wave, more in zip_longest(waves, [{}, {}, *variations], fillvalue=dict[str, str]()):
            _forwards(machine, wave | more)
        (machine.directory / "forward.py").write_text(page.block("python"))
        with machine.start(f"{sys.executable} forward.py") as program:
            program.line(r"^https://my-agent\.localhost:8443$")
            assert re.fullmatch(local, visit(machine, "my-agent"))
        agent, name = connected(machine, page.take("wellhead http tls://localhost:9443"))
        with agent:
            assert visit(machine, name, "--insecure") == f"sealed saw {name}.localhost:8443\n"
        server, caller = test_howto.programs("grpc.md")
        (machine.directory / "greeter.py").write_text(server)
        running.enter_context(machine.start(f"{sys.executable} greeter.py"))
        agent, name = connected(machine, page.take("wellhead http h2c://localhost:50051"))
        with agent:
            (machine.directory / "caller.py").write_text(caller.replace("my-grpc", name))
            assert machine.out(f"{sys.executable} caller.py") == "hello world\n"


def _forwards(machine: Machine, wave: dict[str, str]) -> None:
    """Agents at once; what a visitor gets from each is what its pattern says."""
    with ExitStack() as running:
        agents = {command: running.enter_context(machine.start(command)) for command in wave}
        for command, agent in agents.items():
            agent.line(r"^connected$")
            got = visit(machine, agent.line(URL)[1])
            assert re.fullmatch(wave[command], got), f"{command}: {got}"


def test_several_agents(machine: Machine) -> None:
    with app(machine, "app", "127.0.0.1:8000"), read("several-agents") as page:
        command = page.take("wellhead http 8000 --name my-agent")
        first, second = connected(machine, command)[0], connected(machine, command)[0]
        with first, second:
            agents = (first, second)
            both = "https://my-agent.localhost:8443/meet"
            told = machine.out(f"curl -s --parallel --parallel-immediate --cacert ca.pem {both} {both}")
            assert told == "app saw localhost:8000\n" * 2
            eventually(lambda: all("GET" in agent.text for agent in agents), 10)
            first.kill()
            assert all("app saw" in visit(machine, "my-agent") for _ in range(3)), "one dies: one is left"
            third = connected(machine, command)[0]
            with third:  # an upgrade: the new one is there, the old one ends
                assert second.stop(signal.SIGINT) in (0, 130)
                assert visit(machine, "my-agent") == "app saw localhost:8000\n"
        answer = visit(machine, "my-agent", "--include")
        assert " 503" in answer.partition("\n")[0] and "retry-after:" in answer.lower()


def test_start(machine: Machine) -> None:
    file = machine.directory / "wellhead.toml"
    with (
        app(machine, "app", "127.0.0.1:8000"),
        app(machine, "api", "10.0.0.7:8443", tls=True),
        read("start") as page,
    ):
        file.write_text(page.block("toml"))
        machine.out(page.take("wellhead start --check"))
        with machine.start(page.take("wellhead start")) as agent:
            for sample in re.findall(r"^ {4}(my-app \| (?:http|conn).*)$", page.text, re.M):
                agent.line(f"^{re.escape(sample)}$")
            agent.line(r"^my-api \| connected$")
            assert visit(machine, "my-app") == "app saw localhost:8000\n"
            assert visit(machine, "my-api") == "api saw my-api.localhost:8443\n"
            agent.line(r"^my-app \| GET +/ 200 [\d.]+ ms [\d.]+ k?B")
            seen = agent.mark()
            file.write_text(page.block("toml").replace("[tunnels.my-app]", "[tunnels.my-new]"))
            agent.line(r"^my-new \| connected$", after=seen)
            assert visit(machine, "my-new") == "app saw localhost:8000\n"
            eventually(lambda: "app saw" not in visit(machine, "my-app"), 10)
            seen = agent.mark()
            file.write_text("[tunnels.my-new]\nforward_to = 70000\n")
            agent.line("70000", after=seen)
            assert "saw" in visit(machine, "my-new") and "saw" in visit(machine, "my-api"), "all runs on"
            assert not any("connected" in line for line in agent.lines[seen:])
            assert agent.stop(signal.SIGINT) in (0, 130)


def test_doctor(machine: Machine) -> None:
    with read("doctor") as page:
        page.take("wellhead up")  # it runs
        said = machine.out(page.take("wellhead doctor"))
        checks = set(re.findall(r"^(?:ok|warn|fail) +(\S+)", said, re.M))
        table = {
            name
            for row in re.findall(r"^\| (`.*?) \|", page.text, re.M)
            for name in re.findall("`(.+?)`", row)
        }
        assert checks <= table and {"home", "trust", "key"} <= checks
        assert re.search(r"^0 to put right, \d+ to know of$", said, re.M)
        told = json.loads(machine.out(page.take("wellhead doctor --json")))
        assert told
        refused = machine.run("WELLHEAD_API_KEY=whk_wrong wellhead doctor --quiet")
        assert refused.returncode == 1 and not re.search("^ok ", refused.stdout, re.M)
        sample = re.search(r"^ {4}(fail  key .*)\n {4} +(-> .*)\n", page.text, re.M)
        assert sample is not None and sample[1] in refused.stdout and sample[2] in refused.stdout
        elsewhere = page.take("wellhead doctor --url https://tunnels.example.com --ca-file ca.pem")
        nobody = machine.run(elsewhere)
        assert nobody.returncode == 1 and re.search("^fail +reach .*443", nobody.stdout, re.M)


def test_trust(machine: Machine) -> None:
    """Nobody is there to answer, so nothing is changed: ``cli/test_trust`` says yes."""
    curl = "curl --cacert ~/.wellhead/server/ca.pem https://NAME.localhost:8443/"
    with app(machine, "app", "127.0.0.1:8000"), read("trust") as page:
        page.take("wellhead up")  # it runs
        for command in ("wellhead trust", "wellhead trust --ca-file ca.pem"):
            asked = machine.run(page.take(command))
            assert asked.returncode and "update-ca-certificates" in asked.stdout + asked.stderr
            assert "nobody is there to answer" in asked.stderr
        dry = machine.run(page.take("wellhead trust --dry-run"))
        assert dry.returncode == 0 and "update-ca-certificates" in dry.stdout + dry.stderr
        removed = machine.run(page.take("wellhead trust --remove"))
        assert removed.returncode == 0 and "nothing to do" in removed.stdout + removed.stderr
        for command in ("wellhead http 8000", "wellhead http 8000 --ca-file ca.pem"):
            agent, name = connected(machine, page.take(command))
            with agent:
                assert machine.out(page.take(curl).replace("NAME", name)) == "app saw localhost:8000\n"
                python = re.search(r"`(httpx\.get\(.*?\))`;?$", page.text, re.M)
                assert python is not None
                with (machine.directory / "hosts").open("a") as hosts:
                    hosts.write(f"127.0.0.1 {name}.localhost\n")
                url = f"url = 'https://{name}.localhost:8443/'"
                told = f"import httpx, ssl; {url}; print({python[1]}.text)".replace('"', "'")
                assert "app saw" in machine.out(f'{sys.executable} -c "{told}"')
                plain = machine.out(f"curl --silent http://{name}.localhost:8080/")
                assert plain == "app saw localhost:8000\n"


@pytest.mark.slow
def test_jupyter(machine: Machine) -> None:
    lab = "jupyter lab --no-browser --port 8888"
    with read("jupyter") as page:
        root = " --allow-root"  # Jupyter wants it said where these tests run
        with machine.start(page.take(lab) + root) as server:
            token = server.line(r"http://\S+:8888/lab\?token=(\w+)", 60)[1]
            agent, name = connected(machine, page.take("wellhead http 8888"))
            with agent:
                url = f"http://{name}.localhost:8080"
                assert "JupyterLab" in machine.out(f"curl --silent --fail '{url}/lab?token={token}'")
                assert machine.run(f"curl --silent --fail '{url}/api/kernels'").returncode
                ours = f"curl --silent -X POST -H 'Authorization: token {token}' {url}/api/contents"
                made = machine.out(f"{ours} -H 'Origin: {url}' -d '{{}}'")
                assert json.loads(made)["type"] == "file"


def test_settings(bare: Machine) -> None:
    file = bare.directory / "wellhead.toml"
    check = "wellhead up --config wellhead.toml --check"
    with read("settings") as page:
        line = re.search(r"`(max_head_bytes = \d+)`", page.text)
        variable = re.search(r"`(WELLHEAD_MAX_HEAD_BYTES=\d+)`", page.text)
        assert line is not None and variable is not None
        file.write_text(f"{line[1]}\n")
        bare.out(page.take(check))
        bare.out(f"{variable[1]} {check}")
        file.write_text("max_head_byte = 49152\n")
        typo = bare.run(check)
        assert typo.returncode and "max_head_byte" in typo.stderr
        file.write_text("max_head_bytes = 0\n")
        assert bare.run(check).returncode, "out of bounds in the file"
        assert not bare.run(f"{variable[1]} {check}").returncode, "the environment goes before the file"
        file.write_text(f"{line[1]}\n")
        for command in ("wellhead up --config wellhead.toml", "wellhead up --domain tunnels.example.com"):
            with bare.start(page.take(command)) as edge:
                edge.line(r"^ready ")


def test_own_certificates(bare: Machine) -> None:
    with read("own-certificates") as page:
        text, root = page.block("toml"), Root()
        for stem, name in (("wildcard", "*.tunnels.example.com"), ("zone", "tunnels.example.com")):
            root.put(bare.directory, stem, root.pair(name, begins=-60 * DAY, ends=10 * DAY))
        file = bare.directory / "wellhead.toml"
        file.write_text(text.replace("/etc/wellhead/", f"{bare.directory}/"))
        (bare.directory / "zone.key").chmod(0o644)
        refused = bare.run("wellhead up --config wellhead.toml --check")
        assert refused.returncode and "zone.key has mode 644" in refused.stderr
        (bare.directory / "zone.key").chmod(0o640)
        bare.out(page.take("wellhead up --config wellhead.toml --check"))
        with bare.start(page.take("wellhead up --config wellhead.toml")) as edge:
            edge.line(r"certificate loaded .*names=\*\.tunnels\.example\.com")
            edge.line(r"certificate ends soon name=tunnels\.example\.com .*days_left=10")
            edge.line(r"^ready ")
            told = bare.run(f"WELLHEAD_CONFIG=wellhead.toml {page.take('wellhead doctor')}").stdout
            assert re.search(r"^warn +certs +\S+\.pem ends on ", told, re.M), told
            mark = edge.mark()
            root.put(bare.directory, "zone", root.pair("tunnels.example.com"))
            edge.signal(signal.SIGHUP)
            edge.line(r"certificate loaded .*names=tunnels\.example\.com", after=mark)


RENEW = "wellhead certs renew '*.tunnels.example.com'"


def test_certificates(bare: Machine) -> None:
    with read("certificates") as page:
        (hook,) = re.findall(r"^```sh\n(.*?)^```$", page.text, re.M | re.S)
        for name, text, mode in (("tsig", "c2VjcmV0", 0o600), ("dns-hook", hook, 0o700)):
            (bare.directory / name).write_text(text)
            (bare.directory / name).chmod(mode)
        check = page.take("wellhead up --check --config FILE").replace("FILE", "wellhead.toml")
        begin = page.take("wellhead up --config FILE").replace("FILE", "wellhead.toml")
        file = bare.directory / "wellhead.toml"
        for text in re.findall(r"^```toml\n(.*?)^```$", page.text, re.M | re.S):
            domain = "" if "domain" in text else 'domain = "tunnels.example.com"\n'
            file.write_text(domain + text.replace("/etc/wellhead/", f"{bare.directory}/"))
            bare.out(check)
        # An authority that cannot be reached: what is ordered fails, and is told.
        file.write_text(file.read_text() + 'acme_directory = "https://localhost:1/directory"\n')
        with bare.start(begin) as edge:
            edge.line(r"^ready ")
            edge.line(r"certificate not issued name=\S*tunnels\.example\.com")
            (export,) = re.findall(r"^ {4}(export .*)$", page.text, re.M)
            export = export.replace(":80 ", ":8080 ")
            listed = bare.out(f"{export}; {page.take('wellhead certs list --server')}")
            assert re.search(r"(?m)^\*\.tunnels\.example\.com .* localhost:1 is away: .*refused$", listed), (
                listed
            )
            mark = edge.mark()
            renewed = bare.out(f"{export}; {page.take(RENEW)}")
            assert renewed == "the certificate for *.tunnels.example.com is ordered anew\n"
            edge.line(r"certificate not issued name=\*\.tunnels\.example\.com", after=mark)


def test_troubleshoot(bare: Machine) -> None:
    with read("troubleshoot") as page:
        taken = f"{sys.executable} -m http.server --bind 127.0.0.1 8443"
        with bare.start(taken) as other:
            other.line("^Serving")
            refused = bare.run("wellhead up")
            assert refused.returncode and "Traceback" not in refused.stderr
            assert re.search(
                r"^error: .*cannot listen on \S*:8443: address already in use", refused.stderr, re.M
            )
            with bare.start(page.take("wellhead up --https 127.0.0.1:9443")) as edge:
                edge.line(r"^ready https=\S+:9443 ")
                # A server that is killed before it knows that the key was shown shows it again.
                eventually(lambda: not (bare.home / "server" / "admin-key.unshown").exists(), 10)
        nobody = bare.run("wellhead http 8000")
        assert "WELLHEAD_DEBUG=1" in page.text
        with bare.start("WELLHEAD_DEBUG=1 wellhead tunnels list") as program:
            program.line("Traceback")
            program.line(r"error: cannot reach .*: connection refused")
        assert bare.run(page.take("wellhead doctor")).returncode == 1
        with bare.start(page.take("WELLHEAD_LOG_LEVEL=debug wellhead up")) as edge:
            edge.line(r"^ready ")
            key = (bare.home / "server" / "admin-key").read_text().strip()
            assert key not in edge.text, "secrets are never logged"
            # nothing has this name, and nothing answers behind one
            curl = "curl --silent --output /dev/null --write-out '%{http_code}'"
            assert bare.out(f"{curl} http://no-name.localhost:8080/") == "404"
            agent, name = connected(bare, "wellhead http 8000")
            with agent:
                assert bare.out(f"{curl} http://{name}.localhost:8080/") == "502"
            eventually(lambda: bare.out(f"{curl} http://{name}.localhost:8080/") == "503", 10)
        assert nobody.returncode, nobody.stderr


def test_service(bare: Machine) -> None:
    """With a systemd that only writes down what it is asked; its units are read by the real one elsewhere."""
    programs = bare.directory / "bin"
    programs.mkdir()
    fake = programs / "systemctl"
    fake.write_text(f'#!/bin/sh\necho "$*" >> {bare.directory}/asked\n')
    fake.chmod(0o755)
    path = f"XDG_CONFIG_HOME= PATH={programs}:$PATH "
    unit = bare.directory / ".config" / "systemd" / "user" / "wellhead-up.service"
    with read("service") as page:
        without = bare.run(page.take("wellhead service install up"))
        assert without.returncode and "systemd" in without.stderr and not unit.exists()
        bare.out("mkdir -p /run/systemd/system")
        dry = bare.out(path + page.take("wellhead service install up --dry-run"))
        assert "ExecStart=" in dry and not unit.exists()
        bare.out(path + page.take("wellhead service install up"))
        assert unit.read_text() == dry
        (bare.directory / "wellhead.toml").write_text("[tunnels.my-app]\nforward_to = 8000\n")
        bare.out(path + page.take("wellhead service install start --config wellhead.toml"))
        assert f"{bare.directory}/wellhead.toml" in unit.with_name("wellhead-start.service").read_text()
        bare.out(path + page.take("wellhead service remove up"))
        assert not unit.exists() and bare.home.parent.exists()
        machines = page.take(
            "sudo wellhead service install up --system --config /etc/wellhead.toml --run-as wellhead"
        )
        assert "User=wellhead\n" in bare.out(f"{machines.removeprefix('sudo ')} --dry-run")
    assert (bare.directory / "asked").read_text().splitlines() == [
        "--user daemon-reload",
        "--user enable --now wellhead-up.service",
        "--user daemon-reload",
        "--user enable --now wellhead-start.service",
        "--user disable --now wellhead-up.service",
        "--user daemon-reload",
    ]


ELSEWHERE = {  # pages of programs: tests of their own, with what those need
    "handlers": "test_howto_handlers.py",
    "test-webhooks": "test_howto_handlers.py",
    "inkbox": "test_official_sdk_howto.py",
    "ports": "test_howto_ports.py",
    "sandboxes": "test_howto_sandboxes.py",
    "templates": "test_howto_templates.py",
    "hosts": "test_host.py",
    "wrenn": "test_wrenn.py",
}


@pytest.mark.parametrize("name", sorted(path.stem for path in HOWTO.glob("*.md")))
def test_every_page_is_done(name: str) -> None:
    if (elsewhere := ELSEWHERE.get(name)) is not None:
        assert f'"{name}.md"' in Path(__file__).with_name(elsewhere).read_text("utf-8")
        return
    here: list[ModuleType] = [sys.modules[__name__], test_howto]
    done = [module for module in here if hasattr(module, f"test_{name.replace('-', '_')}")]
    assert len(done) == 1, f"no test does the commands of {name}.md"


def test_what_is_left_out_is_on_its_page() -> None:
    for name, left_out in NOT_HERE.items():
        assert left_out.keys() <= Page(name).commands
