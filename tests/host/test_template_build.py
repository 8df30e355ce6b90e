from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit import roots
from wellhead.errors import HostConflict, HostError, HostInvalid
from wellhead.host import template_build, template_debootstrap, template_machine
from wellhead.host.template_build import Recipe, build, ensure
from wellhead.host.template_venv import make_venv, move, run
from wellhead.host.templates import Templates

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="templates for runtime namespace are built as root")


def in_root(test: Callable[..., None]) -> Callable[..., None]:
    for mark in roots.NEEDED:
        test = mark(test)
    return test


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the templates that a host builds at its start."""
    state = tmp_path_factory.mktemp("host")
    assert ensure(Templates(state)) == []
    return state


@AS_ROOT
def test_an_unchanged_template_is_not_built_again(tmp_path: Path) -> None:
    templates, steps = Templates(tmp_path), list[str]()
    first = build(templates, Recipe("minimal"), say=steps.append)
    layers = templates.get("minimal").layers
    assert build(templates, Recipe("minimal"), say=steps.append) == first
    assert templates.get("minimal").layers == layers
    assert steps[-1] == "minimal: is as it would be built"
    build(templates, Recipe("minimal"), again=True)
    assert templates.get("minimal").layers != layers
    assert all(layer.is_dir() for layer in layers)  # for what runs on it
    build(templates, Recipe("minimal"), again=True)
    assert not any(layer.exists() for layer in layers)


@AS_ROOT
def test_a_changed_machine_changes_what_is_built_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    templates = Templates(tmp_path)
    ensure(templates, ["minimal"])
    layers = templates.get("minimal").layers
    monkeypatch.setattr(template_build, "_machine", lambda base: ["upgraded"])
    ensure(templates, ["minimal"])
    assert templates.get("minimal").layers != layers


@AS_ROOT
def test_a_build_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    templates = Templates(tmp_path)
    build(templates, Recipe("minimal"))
    before = templates.get("minimal")

    def fail(layer: Path, with_user: bool) -> None:
        (layer / "half").write_text("")
        raise HostError("no space left on device")

    monkeypatch.setattr(template_machine, "write_skeleton", fail)
    with pytest.raises(HostError, match="no space left"):
        build(templates, Recipe("minimal"), again=True)
    assert templates.get("minimal") == before
    assert [name for name in os.listdir(tmp_path / "layers") if name != ".lock"] == [before.layers[0].name]


def test_two_do_not_build_the_same_template(tmp_path: Path) -> None:
    with Templates(tmp_path).locked("minimal"), pytest.raises(HostConflict, match="minimal is being built"):
        build(Templates(tmp_path), Recipe("minimal"))


@pytest.mark.parametrize(
    ("recipe", "name", "told"),
    [
        (Recipe("alpine"), "", "no recipe 'alpine'; there are minimal, minimal-ubuntu, python, jupyter"),
        (Recipe("minimal", pip=["numpy"]), "", "packages go into python and jupyter, not into minimal"),
        (Recipe("minimal", suite="trixie"), "", "a suite or a mirror is for the base debootstrap"),
        (Recipe("minimal", base="docker"), "", "no base 'docker'"),  # type: ignore[arg-type]
        (Recipe("minimal"), "jupyter", "the name jupyter is that of another recipe"),
        (Recipe("minimal"), "../x", "is not 1 to 64 of"),
    ],
)
def test_a_recipe_that_breaks_a_rule_is_refused(tmp_path: Path, recipe: Recipe, name: str, told: str) -> None:
    with pytest.raises(HostInvalid, match=told):
        build(Templates(tmp_path), recipe, name)


def test_what_cannot_be_built_at_the_start_is_told_and_the_rest_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise HostError("there is no /usr/bin/sudo on this machine; install the package sudo")

    monkeypatch.setattr(template_build, "_make", refuse)
    assert ensure(Templates(tmp_path), ["minimal-ubuntu"]) == [
        "the template minimal-ubuntu cannot be built:"
        " there is no /usr/bin/sudo on this machine; install the package sudo"
    ]


@AS_ROOT
def test_a_base_that_the_operator_chose_stays_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template_debootstrap, "write_root", lambda layer, *_, **__: None)
    templates = Templates(tmp_path)
    build(templates, Recipe("minimal", base="debootstrap"))
    assert templates.get("minimal").shared == []
    assert ensure(templates, ["minimal"]) == []
    assert templates.get("minimal").shared == []


def test_without_isolation_a_template_is_a_name_only(tmp_path: Path) -> None:
    templates = Templates(tmp_path, "process")
    assert ensure(templates) == []
    assert templates.names() == ["minimal", "minimal-ubuntu"]
    assert templates.get("minimal-ubuntu").layers == []
    with pytest.raises(HostInvalid, match="no base but the machine"):
        build(templates, Recipe("minimal", base="debootstrap"))


@in_root
def test_root_is_the_user_of_minimal_and_git_works(state: Path, tmp_path: Path) -> None:
    said = roots.run_in(
        Templates(state).get("minimal"), tmp_path / "scratch", "sh", "-ec",
        "whoami; pwd; git init -q r; cd r; git -c user.name=a -c user.email=a@b commit -qm x --allow-empty;"
        "git log --format=%s; touch /usr/made /etc/made; ls /root -A",
    )  # fmt: skip
    assert said.split() == ["root", "/root", "x", ".bashrc", ".profile", "r"]
    assert not Path("/usr/made").exists()


@in_root
def test_the_user_of_minimal_ubuntu_does_everything_by_sudo(state: Path, tmp_path: Path) -> None:
    template = Templates(state).get("minimal-ubuntu")
    assert (template.user_namespace, template.no_new_privs) == (True, False)
    said = roots.run_in(
        template, tmp_path / "scratch", "sh", "-ec",
        "whoami; pwd; sudo -n whoami; sudo -n sh -c 'echo > /etc/made'; stat -c %U /etc/made;"
        "git init -q r; git -C r status -s; dpkg-query -W -f '${Package}' sudo",
    )  # fmt: skip
    assert said.split() == ["wrenn-user", "/home/wrenn-user", "root", "root", "sudo"]


@in_root
def test_nothing_of_this_machines_users_is_in_a_template(state: Path) -> None:
    layer = Templates(state).get("minimal").layers[0]
    assert sorted(os.listdir(layer / "root")) == [".bashrc", ".profile"]
    assert os.listdir(layer / "home") == []
    assert not (layer / "etc/ssh").exists()
    assert {line.split(":")[1] for line in (layer / "etc/shadow").read_text().splitlines()} == {"*"}
    closed = {str(each.relative_to(layer)) for each in layer.rglob("*") if not each.lstat().st_mode & 0o004}
    assert closed == {
        "root", "etc/ssl/private", "etc/shadow", "etc/gshadow",
        "var/cache/apt/archives/partial", "var/lib/apt/lists/partial",
    }  # fmt: skip


def test_a_path_is_put_in_place_of_another_in_texts_only(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    script, binary = tmp_path / "bin/program", tmp_path / "bin/module.bin"
    script.write_text("#!/old/place/bin/python\n")
    script.chmod(0o755)
    binary.write_bytes(b"\0/old/place")
    (tmp_path / "bin/link").symlink_to("/old/place")
    move(tmp_path, "/old/place", "/new")
    assert script.read_text() == "#!/new/bin/python\n"
    assert stat.S_IMODE(script.stat().st_mode) == 0o755
    assert binary.read_bytes() == b"\0/old/place"
    assert os.readlink(tmp_path / "bin/link") == "/old/place"


def test_an_option_is_no_package(tmp_path: Path) -> None:
    for each in ("--index-url=http://evil", "-e.", ""):
        with pytest.raises(HostInvalid, match="is not the name of a package"):
            make_venv(tmp_path / "v", "/opt/v", [each], print)


def test_a_program_that_fails_says_why() -> None:
    with pytest.raises(HostError, match=r"sh -c .* ended with 3: no such thing"):
        run(["sh", "-c", "echo no such thing >&2; exit 3"])
    with pytest.raises(HostError, match="did not end within 0.05 s"):
        run(["sleep", "60"], seconds=0.05)
    with pytest.raises(HostError, match="cannot run /no/such/program: No such file"):
        run(["/no/such/program"])


def test_debootstrap_is_told_what_to_fetch_and_no_more(tmp_path: Path) -> None:
    command = template_debootstrap.command(tmp_path, "bookworm", "http://mirror/debian")
    assert command[:2] == ["debootstrap", "--variant=minbase"]
    assert command[-3:] == ["bookworm", str(tmp_path), "http://mirror/debian"]
    assert {"git", "python3", "sudo"} <= set(command[2].removeprefix("--include=").split(","))
    for suite, mirror in (
        ("--arch=x", "http://mirror"), ("bookworm", "--keyring=x"), ("bookworm", "http://u:p@mirror"),
    ):  # fmt: skip
        with pytest.raises(HostInvalid):
            template_debootstrap.command(tmp_path, suite, mirror)


def test_a_fetched_root_has_nothing_of_the_machine(tmp_path: Path) -> None:
    for name, text in {
        "etc/passwd": "root:x:0:0::/root:/bin/bash\n", "etc/shadow": "root:*:1::::::\n",
        "etc/group": "root:x:0:\n", "etc/gshadow": "root:*::\n", "etc/hostname": "machine\n",
        "etc/resolv.conf": "nameserver 10.0.0.1\n", "var/cache/apt/archives/a.deb": "", "var/log/x": "",
    }.items():  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    template_debootstrap.finish_root(tmp_path, with_user=True)
    assert (tmp_path / "etc/hostname").read_text() == "sandbox\n"
    assert (tmp_path / "etc/resolv.conf").read_text() == ""
    assert os.listdir(tmp_path / "var/cache/apt/archives") == ["partial"]
    assert "wrenn-user:x:1000:1000" in (tmp_path / "etc/passwd").read_text()
    assert (tmp_path / "home/wrenn-user/.bashrc").exists()
    assert stat.S_IMODE((tmp_path / "etc/sudoers.d/wrenn-user").stat().st_mode) == 0o440


@AS_ROOT
def test_a_base_with_another_python_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    templates = Templates(tmp_path)

    def other(layer: Path, *_: object, **__: object) -> None:
        (layer / "usr/bin").mkdir(parents=True)
        (layer / "usr/bin/python3").symlink_to("python3.99")

    monkeypatch.setattr(template_debootstrap, "write_root", other)
    with pytest.raises(HostError, match="the base's Python is not the machine's"):
        build(templates, Recipe("python", base="debootstrap"))


def test_a_missing_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="install the package debootstrap"):
        template_debootstrap.write_root(tmp_path, "", "", with_user=False, say=print)
    with pytest.raises(HostError, match="there is no /no/python on this machine"):
        make_venv(tmp_path / "v", "/opt/v", [], print, python="/no/python")
