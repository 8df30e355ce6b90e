from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from wellhead.errors import HostConflict, HostError, HostForbidden, HostInvalid, HostNotFound
from wellhead.host.runtime.kept import Kept, KeptSandboxes
from wellhead.host.runtime.runtime import SandboxSpec, Template
from wellhead.host.templates import TemplateFile, Templates
from wellhead.model.sandboxes import new_sandbox_id


@pytest.fixture
def templates(tmp_path: Path) -> Templates:
    return Templates(tmp_path)


def _put(templates: Templates, name: str, **members: object) -> str:
    """A built template with one layer; the layer's name."""
    with templates.locked(name), templates.new_layer() as layer:
        (layer / "file").write_text(name)
        own = templates.adopt(layer)
        said = {"runtime": templates.runtime, "kind": "built", "built_at": 1.0, "size_bytes": 1, **members}
        templates.put(name, TemplateFile.model_validate({"layers": [own], **said}))
    return own


def _snapshot(tmp_path: Path, name: str = "x") -> Path:
    layer = tmp_path / "staging" / name
    layer.mkdir(parents=True)
    (layer / "file").write_text("changed")
    return layer


def _layers(tmp_path: Path) -> list[str]:
    return sorted(name for name in os.listdir(tmp_path / "layers") if not name.startswith("."))


def test_a_template_is_what_was_put(templates: Templates, tmp_path: Path) -> None:
    members = {
        "shared": ["/usr"], "user": "u", "home": "/home/u", "env": {"A": "b"}, "user_namespace": True,
        "no_new_privs": False, "start": ["serve"], "healthy_port": 8888,
    }  # fmt: skip
    own = _put(templates, "a.b", **members)
    found = templates.get("a.b")
    assert found == Template(
        "a.b", [tmp_path / "layers" / own], ["/usr"], "u", "/home/u", {"A": "b"}, True, False, ["serve"], 8888
    )
    assert (found.layers[0] / "file").read_text() == "a.b"


def test_templates_are_listed_by_name(templates: Templates) -> None:
    assert templates.listed() == []
    _put(templates, "b-c", size_bytes=5)
    _put(templates, "b")
    assert templates.names() == ["b", "b-c"]
    assert [(each.kind, each.built_at, each.size_bytes) for each in templates.listed()] == [
        ("built", 1.0, 1), ("built", 1.0, 5),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        ("version", 2, "version: Input should be 1"),
        ("layers", ["../../etc"], "layers.0: Value error, is not the name of a layer"),
        ("shared", ["usr"], "shared.0: Value error, is not an absolute path"),
        ("home", "/a/../b", "home: Value error, is not an absolute path"),
        ("healthy_port", 0, "healthy_port: Input should be greater than or equal to 1"),
        ("user_namespace", "yes", "user_namespace: Input should be a valid boolean"),
        ("further", 1, "further: Extra inputs are not permitted"),
    ],
)
def test_a_file_that_says_something_else_is_told_by_its_field(
    templates: Templates, tmp_path: Path, place: str, value: object, told: str
) -> None:
    _put(templates, "own")
    path = tmp_path / "templates" / "own.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), place: value}))
    with pytest.raises(HostError, match=f"own.json is not a template: {told}"):
        templates.get("own")
    assert templates.names() == []


def test_a_file_that_is_no_json_is_told(templates: Templates, tmp_path: Path) -> None:
    _put(templates, "own")
    (tmp_path / "templates" / "own.json").write_text("{")
    with pytest.raises(HostError, match=r"own\.json is not a template: the file: Invalid JSON"):
        templates.get("own")


def test_a_template_without_its_layer_is_told(templates: Templates, tmp_path: Path) -> None:
    own = _put(templates, "own")
    (tmp_path / "layers" / own / "file").unlink()
    (tmp_path / "layers" / own).rmdir()
    with pytest.raises(HostError, match="has lost its layer"):
        templates.get("own")


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "../own", "a" * 65, "a b"])
def test_what_is_no_name_is_refused(templates: Templates, tmp_path: Path, name: str) -> None:
    for call in (templates.get, templates.remove):
        with pytest.raises(HostInvalid, match="is not 1 to 64 of"):
            call(name)
    with pytest.raises(HostInvalid, match="is not 1 to 64 of"):
        templates.add_snapshot(name, _snapshot(tmp_path), Template("minimal"))


def test_what_is_not_there_is_not_found(templates: Templates, tmp_path: Path) -> None:
    for call in (templates.get, templates.remove):
        with pytest.raises(HostNotFound, match="there is no template own on this host"):
            call("own")
    assert not (tmp_path / "templates").exists()


def test_a_template_of_another_runtime_is_not_found(templates: Templates, tmp_path: Path) -> None:
    _put(templates, "own")
    with pytest.raises(HostNotFound, match="for runtime namespace, not for process"):
        Templates(tmp_path, "process").get("own")
    assert Templates(tmp_path, "process").names() == []
    with pytest.raises(HostInvalid, match="no runtime 'docker'"):
        Templates(tmp_path, "docker")


def test_a_snapshot_is_its_base_with_a_layer_of_its_own(templates: Templates, tmp_path: Path) -> None:
    _put(templates, "base", env={"A": "b"}, shared=["/usr"], user="u", start=["serve"], healthy_port=80)
    facts = templates.add_snapshot("mine", _snapshot(tmp_path), "base")
    assert (facts.name, facts.kind) == ("mine", "snapshot")
    assert facts.size_bytes >= 4096
    assert abs(facts.built_at - time.time()) < 60
    mine = templates.get("mine")
    assert [(layer / "file").read_text() for layer in mine.layers] == ["changed"]
    assert (mine.shared, mine.user, mine.env, mine.start) == (["/usr"], "u", {"A": "b"}, ["serve"])
    assert os.listdir(tmp_path / "staging") == []


def test_a_snapshot_takes_no_name_that_is_taken(templates: Templates, tmp_path: Path) -> None:
    _put(templates, "own")
    layer = _snapshot(tmp_path)
    with pytest.raises(HostConflict, match="there is a template own already"):
        templates.add_snapshot("own", layer, "own")
    with pytest.raises(HostForbidden, match="the template jupyter is built in"):
        templates.add_snapshot("jupyter", layer, "own")
    assert layer.is_dir()


def test_a_tenant_removes_snapshots_only(templates: Templates, tmp_path: Path) -> None:
    _put(templates, "own")
    templates.add_snapshot("mine", _snapshot(tmp_path), "own")
    with pytest.raises(HostForbidden, match="its operator can remove it"):
        templates.remove("own")
    templates.remove("mine")
    assert templates.names() == ["own"]
    assert len(_layers(tmp_path)) == 1
    templates.remove("own", by_operator=True)
    assert _layers(tmp_path) == []


def test_an_operator_removes_what_cannot_be_read(templates: Templates, tmp_path: Path) -> None:
    _put(templates, "own")
    (tmp_path / "templates" / "own.json").write_text("{")
    templates.remove("own", by_operator=True)
    assert _layers(tmp_path) == []


def test_what_a_sandbox_runs_on_stays_until_it_is_over(templates: Templates, tmp_path: Path) -> None:
    own = _put(templates, "own")
    sandboxes, sandbox = KeptSandboxes(tmp_path), new_sandbox_id()
    sandboxes.write(Kept(SandboxSpec(sandbox, templates.get("own")), 1, "born", Path("/socket")))
    templates.remove("own", by_operator=True)
    assert _layers(tmp_path) == [own]
    sandboxes.remove(sandbox)
    templates.sweep()
    assert _layers(tmp_path) == []


def test_nothing_is_swept_while_something_cannot_be_read(templates: Templates, tmp_path: Path) -> None:
    first, second = _put(templates, "first"), _put(templates, "second")
    (tmp_path / "templates" / "first.json").write_text("{")
    templates.remove("second", by_operator=True)
    assert _layers(tmp_path) == sorted([first, second])


def test_what_a_killed_build_left_is_swept_and_what_is_being_built_is_not(
    templates: Templates, tmp_path: Path
) -> None:
    with templates.locked("own"), templates.new_layer() as layer:
        (layer / "file").write_text("")
        Templates(tmp_path).sweep()
        assert layer.is_dir()
    assert not layer.exists()
    layer.mkdir()
    templates.sweep()
    assert not layer.exists()


def test_a_template_is_built_by_one_at_a_time(templates: Templates, tmp_path: Path) -> None:
    with templates.locked("own"):
        with Templates(tmp_path).locked("other"):
            pass
        with (
            pytest.raises(HostConflict, match="own is being built or removed already"),
            Templates(tmp_path).locked("own"),
        ):
            pytest.fail("both have it")
    with Templates(tmp_path).locked("own"):
        pass
