"""Lists in as many messages as it takes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wellhead.guest.connection import pages
from wellhead.wire.guest import MESSAGE_MAX, message


@given(sizes=st.lists(st.integers(0, 60_000), max_size=30))
def test_a_list_is_cut_so_that_each_message_fits_and_the_last_one_says_so(sizes: list[int]) -> None:
    items: list[dict[str, object]] = [{"n": number, "text": "x" * size} for number, size in enumerate(sizes)]
    found = list(pages(items))
    assert [item for page, _ in found for item in page] == items
    assert [is_last for _, is_last in found] == [False] * (len(found) - 1) + [True]
    assert all(len(message({"more": {"entries": page}})) <= MESSAGE_MAX for page, _ in found)
    assert all(page for page, is_last in found if not is_last)


def test_characters_that_take_more_in_json_are_counted_as_written() -> None:
    items: list[dict[str, object]] = [{"text": "\U0001f600" * 1000} for _ in range(50)]
    assert all(len(message({"more": {"entries": page}})) <= MESSAGE_MAX for page, _ in pages(items))
