"""How a stranger's text is repeated in a line or a message: escaped, cut, and without our credentials."""

from __future__ import annotations

import re
from urllib.parse import unquote

SHOWN_MAX = 80  # characters of a refused value that a message repeats

CREDENTIAL = re.compile(r"(whs?_)[0-9A-Za-z]{8,}")
_MASK = r"\1***"

_PARAMETER = re.compile(r"[?&;]([^=&;?]++)=")  # possessive: one look at each character
_VALUE = re.compile(r"[^&;]*")
_SECRET_WORDS = re.compile(
    "token|secret|passw|passphrase|pwd|signature|credential|apikey|accesskey|privatekey|bearer|jwt"
)
_SECRET_NAMES = frozenset("auth authorization code key otp sid sig session sessionid wellheadlink".split())


def escape(text: str) -> str:
    """The text with everything that could forge, hide or reorder a line written as an escape.

    ``\\n``, ``\\x1b``, ``\\u202e``; a backslash doubled. Letters of every script stay as they are. What
    looks like one of our credentials is masked: people paste keys into wrong places.
    """
    if "wh" in text:
        text = mask(text)
    # fast path: plain ASCII, as nearly all values are
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    # isprintable() is False for controls, separators, bidirectional marks, surrogates and unassigned points.
    return "".join(map(_escaped, text))


def mask(text: str) -> str:
    """The text with every API key and connect secret in it shown as ``wh_***``."""
    return CREDENTIAL.sub(_MASK, text)


def mask_query(target: str) -> str:
    """A request target in which the values of parameters that carry secrets are ``***``.

    Which those are is told by their names: ``token``, ``access_token``, ``X-Amz-Signature``, ``code``, …
    """
    if "=" not in target:
        return target
    pieces, at = [], 0
    for parameter in _PARAMETER.finditer(target):
        if parameter.start() < at or not _is_secret(parameter[1]):
            continue
        value = _VALUE.match(target, parameter.end())
        if value is not None and value[0]:
            pieces += [target[at : value.start()], "***"]
            at = value.end()
    return "".join([*pieces, target[at:]])


def _is_secret(name: str) -> bool:
    name = unquote(name).lower().replace("_", "").replace("-", "")
    return name in _SECRET_NAMES or _SECRET_WORDS.search(name) is not None


def shown(value: str) -> str:
    """A refused value as a message repeats it: quoted, escaped, cut."""
    masked = mask(value)
    cut = masked if len(masked) <= SHOWN_MAX else masked[:SHOWN_MAX] + "…"
    return '"' + escape(cut).replace('"', '\\"') + '"'


def _escaped(char: str) -> str:
    if char == "\\":
        return "\\\\"
    return char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
