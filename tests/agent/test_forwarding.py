"""What may answer, and which options go with it."""

from __future__ import annotations

from typing import Any

import pytest

from wellhead.agent.forwarding import forwarding
from wellhead.agent.options import Options
from wellhead.errors import InputError


@pytest.mark.parametrize("option", [{"interface": "asgi"}, {"max_body_bytes": 1000}])
def test_an_option_of_applications_is_refused_for_an_address_and_not_ignored(option: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(option))} is for applications"):
        forwarding(Options(8000, **option))
