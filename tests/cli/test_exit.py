from __future__ import annotations

import pytest
from typer.exceptions import TyperException

from wellhead import errors
from wellhead.cli.exit import ExitCode, describe, exit_code, report

ALL = [
    (errors.TrustError("not signed by ours"), ExitCode.UNTRUSTED),
    (errors.DialError("connection refused"), ExitCode.UNREACHABLE),
    (errors.SessionLost("gone"), ExitCode.UNREACHABLE),
    (errors.Unavailable(503, "draining"), ExitCode.UNREACHABLE),
    (errors.SecretRejected("no"), ExitCode.REFUSED),
    (errors.Unauthorized(401, "unknown key"), ExitCode.REFUSED),
    (errors.Forbidden(403, "not yours"), ExitCode.REFUSED),
    (errors.SettingsError("bad"), ExitCode.SETTINGS),
    (errors.LocalStateError("bad"), ExitCode.SETTINGS),
    (errors.InputError("bad"), ExitCode.USAGE),
    (errors.NotFound(404, "no tunnel"), ExitCode.NOT_FOUND),
    (errors.Conflict(409, "taken"), ExitCode.CONFLICT),
    (errors.Invalid(422, "too long"), ExitCode.USAGE),
    (errors.RateLimited(429, "too many"), ExitCode.UNREACHABLE),
    (errors.ApiError(500, "broken"), ExitCode.FAILED),
    (errors.StateError("a bug"), ExitCode.FAILED),
    (KeyboardInterrupt(), ExitCode.INTERRUPTED),
    (ZeroDivisionError(), ExitCode.FAILED),
]


@pytest.mark.parametrize(("error", "code"), ALL, ids=lambda value: type(value).__name__)
def test_the_exit_code_says_whose_fault_it_was(error: BaseException, code: ExitCode) -> None:
    assert exit_code(error) == code


def test_an_error_is_one_line_and_a_hint_another(capsys: pytest.CaptureFixture[str]) -> None:
    error = errors.DialError("connection refused")
    error.add_note("start a server")
    report(error)
    assert capsys.readouterr().err == "error: connection refused\nhint: start a server\n"


def test_what_the_control_plane_says_is_told_without_its_status(capsys: pytest.CaptureFixture[str]) -> None:
    report(errors.Conflict(409, 'tunnel name "www" is reserved'))
    assert capsys.readouterr().err == 'error: tunnel name "www" is reserved\n'


def test_settings_that_are_wrong_twice_are_told_twice(capsys: pytest.CaptureFixture[str]) -> None:
    report(errors.SettingsError("a is bad\nb is bad"))
    assert capsys.readouterr().err == "error: a is bad\nerror: b is bad\n"


def test_what_a_terminal_would_obey_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    report(errors.RefusedError("\x1b[2Jhello \u202e"))
    assert capsys.readouterr().err == "error: \\x1b[2Jhello \\u202e\n"


def test_a_fault_of_ours_says_so_and_shows_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    report(ZeroDivisionError("division by zero"))
    told = capsys.readouterr().err
    assert told.startswith("error: ZeroDivisionError: division by zero\nhint: this is a fault of wellhead")
    assert "Traceback" not in told


def test_the_debug_variable_shows_where_it_happened(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WELLHEAD_DEBUG", "1")
    try:
        raise errors.DialError("connection refused")
    except errors.DialError as error:
        report(error)
    assert "test_exit.py" in capsys.readouterr().err


def test_an_operating_system_error_names_the_file() -> None:
    error = PermissionError(13, "Permission denied", "/nowhere")
    assert describe(error) == (["permission denied: /nowhere"], [])


def test_typers_messages_take_the_same_shape() -> None:
    assert describe(TyperException("No such option:\n --x."))[0] == ["no such option: --x"]
