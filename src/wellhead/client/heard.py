"""What is known of a command or a terminal that is listened to, for clients that wait and that await."""

from __future__ import annotations

from typing import Generic, TypeVar

from wellhead.client.sandbox_records import Exit
from wellhead.client.talks import ExecTalk, TerminalTalk

TalkT = TypeVar("TalkT", ExecTalk, TerminalTalk)


class Heard(Generic[TalkT]):
    def __init__(self, talk: TalkT) -> None:
        self._talk: TalkT = talk

    @property
    def pid(self) -> int:
        return self._talk.pid

    @property
    def next(self) -> int:
        """The number of the byte that comes next: listening ``after`` it goes on there."""
        return self._talk.next

    @property
    def lost(self) -> int:
        """Bytes of its output that are gone: nobody read them before newer ones took their place."""
        return self._talk.lost

    @property
    def end(self) -> Exit | None:
        """How it ended; None while that is not known."""
        return self._talk.end

    @property
    def exit_code(self) -> int | None:
        return None if self._talk.end is None else self._talk.end.exit_code
