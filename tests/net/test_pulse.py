"""Whether a peer lives, by the clock alone."""

from __future__ import annotations

from wellhead.net.pulse import BUSY_SECONDS, Pulse, Verdict
from wellhead.net.session import Liveness

TIMES = Liveness(ping_seconds=20, pong_seconds=10, probe_after_seconds=2, probe_seconds=3)


class Watch:
    """A pulse that is looked at four times a second."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.booted = 5000.0
        self.pulse = Pulse(TIMES, self.now, self.booted)

    def until(self, verdict: Verdict, unsent: list[int] | None = None) -> float:
        """Seconds until it says so; ``unsent``: bytes that wait at each look, the last of them for ever."""
        began = self.now
        waiting = unsent or [0]
        while self.now < began + 200:
            self.now += 0.25
            self.booted += 0.25
            told = self.pulse.look(self.now, self.booted, waiting[0])
            if told is verdict:
                return self.now - began
            if len(waiting) > 1:
                waiting.pop(0)
        raise AssertionError(f"never {verdict}")


def test_a_silent_peer_is_asked_and_then_given_up() -> None:
    watch = Watch()
    assert watch.until(Verdict.ASK) == 20
    assert watch.until(Verdict.DEAD) == 10


def test_a_peer_that_answers_is_left_alone_until_it_is_silent_again() -> None:
    watch = Watch()
    watch.until(Verdict.ASK)
    watch.pulse.hear(watch.now)
    assert watch.until(Verdict.ASK) == 20


def test_a_peer_that_is_silent_while_it_is_spoken_to_is_asked_sooner() -> None:
    watch = Watch()
    assert watch.pulse.wrote(watch.now + 1) is Verdict.ALIVE
    watch.now += 3
    assert watch.pulse.wrote(watch.now) is Verdict.ASK
    assert watch.pulse.wrote(watch.now) is Verdict.ALIVE  # it is asked once
    assert watch.until(Verdict.DEAD) == 3


def test_a_peer_whose_bytes_are_still_leaving_is_waited_for() -> None:
    watch = Watch()
    watch.until(Verdict.ASK)
    assert watch.until(Verdict.DEAD, [100_000 - 1000 * look for look in range(100)]) > 20


def test_bytes_that_only_wait_save_nobody() -> None:
    watch = Watch()
    watch.until(Verdict.ASK)
    assert watch.until(Verdict.DEAD, [100_000]) == 10


def test_after_a_sleep_no_old_deadline_counts() -> None:
    watch = Watch()
    watch.until(Verdict.ASK)
    watch.now += 9.9
    watch.booted += 3600
    assert watch.pulse.look(watch.now, watch.booted, 0) is Verdict.ASK
    assert watch.until(Verdict.DEAD) == 3


def test_who_doubts_may_ask_at_once() -> None:
    watch = Watch()
    assert watch.pulse.probe(watch.now) is Verdict.ASK
    assert watch.pulse.probe(watch.now) is Verdict.ALIVE
    assert watch.until(Verdict.DEAD) == 3


def test_a_peer_that_owes_an_answer_is_asked_sooner_however_lately_it_was_heard() -> None:
    watch = Watch()
    watch.pulse.owes = True
    assert watch.until(Verdict.ASK) == 2
    assert watch.until(Verdict.DEAD) == 3


def test_a_peer_whose_machine_took_the_question_may_be_busy_for_longer() -> None:
    watch = Watch()
    watch.pulse.owes = True
    watch.until(Verdict.ASK)
    began = watch.now
    while watch.pulse.look(watch.now, watch.booted, 0, acknowledged=lambda: True) is Verdict.ALIVE:
        watch.now += 0.25
    assert watch.now - began == BUSY_SECONDS


def test_a_peer_is_not_given_up_for_what_was_not_read() -> None:
    watch = Watch()
    watch.until(Verdict.ASK)
    watch.now += 60
    watch.pulse.excuse(watch.now)
    assert watch.until(Verdict.DEAD) == 10
