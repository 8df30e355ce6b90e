from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wellhead import private
from wellhead.errors import InputError, LocalStateError, SettingsError
from wellhead.model.access import Secret
from wellhead.profile import Access, Connection, Profile

NEAR, FAR = "https://localhost:8443", "https://example.org"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return private.make_directory(tmp_path / "home")


def written(home: Path, text: str) -> Profile:
    private.write(home / "profile.toml", text)
    return Profile.load(home)


def test_no_profile_is_an_empty_one(home: Path) -> None:
    assert Profile.load(home) == Profile(home)


def test_a_saved_profile_is_read_as_it_was(home: Path) -> None:
    profile = Profile(
        home, NEAR, Secret("wh_x"), home / "key", home / "ca.pem", {"http://127.0.0.1:8000": "calm-otter"}
    )
    profile.save()
    assert Profile.load(home) == profile
    assert stat.S_IMODE(profile.path.stat().st_mode) == 0o600


def test_saving_makes_the_home_and_refuses_one_that_others_may_write(tmp_path: Path) -> None:
    home = tmp_path / "new"
    Profile(home, NEAR).save()
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    home.chmod(0o777)
    with pytest.raises(LocalStateError):
        Profile(home, FAR).save()


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"]))
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
def test_any_upstream_is_remembered(home: Path, names: dict[str, str]) -> None:
    Profile(home, names=names).save()
    assert Profile.load(home).names == names


def test_a_name_is_remembered_per_upstream(home: Path) -> None:
    profile = Profile(home).with_name("8000", "one").with_name("9000", "two").with_name("8000", "three")
    assert profile.names == {"8000": "three", "9000": "two"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("url = ", "is not TOML"),
        ('urll = "x"', 'unknown key "urll"'),
        ("url = 5", '"url" in .* must be a string'),
        ("names = 5", "must be a table"),
        ("[names]\na = 5", '"a" in .* must be a string'),
        ("servers = 5", "servers in .* must be a table"),
        ('[servers]\na = "b"', '"a" in .* must be a table'),
        ('[servers."https://a"]\nurl = "b"', 'unknown key "url"'),
        ('[servers."https://a"]\napi_key = 5', '"api_key" in .* must be a string'),
        ('[servers."ftp://a"]\napi_key = "k"', "a key of servers in .*ftp://a"),
    ],
)
def test_a_profile_that_is_wrong_is_one_clear_line(home: Path, text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        written(home, text)


def test_the_key_is_read_from_the_file_that_the_server_keeps(home: Path) -> None:
    private.write(home / "admin-key", "wh_admin\n")
    profile = Profile(home, NEAR, api_key_file=home / "admin-key", ca_file=home / "ca.pem")
    assert profile.resolve() == Connection(NEAR, Secret("wh_admin"), home / "ca.pem")
    (home / "admin-key").unlink()
    with pytest.raises(SettingsError, match="does not exist"):
        profile.resolve()


def test_arguments_go_before_variables_before_the_profile(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = Profile(home, NEAR, Secret("wh_profile"), ca_file=Path("profile.pem"))
    assert profile.resolve() == Connection(NEAR, Secret("wh_profile"), Path("profile.pem"))
    monkeypatch.setenv("WELLHEAD_URL", "https://LOCALHOST:8443/")
    monkeypatch.setenv("WELLHEAD_API_KEY", "wh_variable")
    monkeypatch.setenv("WELLHEAD_CA_FILE", "variable.pem")
    assert profile.resolve() == Connection(NEAR, Secret("wh_variable"), Path("variable.pem"))
    given = profile.resolve(FAR, Secret("wh_argument"), Path("argument.pem"))
    assert given == Connection(FAR, Secret("wh_argument"), Path("argument.pem"))


def test_the_profiles_key_is_offered_to_no_other_server(home: Path) -> None:
    profile = Profile(home, NEAR, Secret("wh_profile"), ca_file=Path("profile.pem"))
    with pytest.raises(SettingsError, match="no API key is known for https://example.org"):
        profile.resolve(FAR)
    assert profile.resolve(FAR, Secret("wh_far")).ca_file is None


def test_several_servers_are_known_and_one_is_chosen(home: Path) -> None:
    near, far = Access(api_key_file=home / "admin-key", ca_file=home / "ca.pem"), Access(Secret("wh_far"))
    profile = Profile(home).choosing(NEAR, near).choosing(FAR, far)
    profile.save()
    assert Profile.load(home) == profile
    assert profile.url == FAR and profile.known() == {FAR: far, NEAR: near}
    assert list(profile.choosing("https://LOCALHOST:8443/", near).known()) == ["https://LOCALHOST:8443/", FAR]
    assert profile.access_to("https://LOCALHOST:8443/") == near and profile.access_to("https://x") is None


def test_a_key_is_offered_to_its_own_server_of_several(home: Path) -> None:
    profile = Profile(home).choosing(NEAR, Access(Secret("wh_near"))).choosing(FAR, Access(Secret("wh_far")))
    assert profile.resolve().api_key == Secret("wh_far")
    assert profile.resolve(NEAR).api_key == Secret("wh_near")


def test_a_forgotten_server_leaves_nothing(home: Path) -> None:
    profile = Profile(home, names={"8000": "one"}).choosing(NEAR, Access(Secret("wh_near")))
    profile = profile.choosing(FAR, Access(Secret("wh_far")))
    assert profile.without(NEAR).known() == {FAR: Access(Secret("wh_far"))}
    left = profile.without(FAR)
    assert (left.url, left.api_key, list(left.known())) == (None, None, [NEAR])
    left.save()
    assert "far" not in left.path.read_text() and Profile.load(home) == left


def test_without_a_server_the_way_to_one_is_told(home: Path) -> None:
    with pytest.raises(SettingsError, match="wellhead up"):
        Profile(home).resolve()
    with pytest.raises(InputError):
        Profile(home).resolve("ftp://localhost", Secret("wh_x"))
