from wellhead.visitors.memo import MEMO_MAX, Memo
from wellhead.wire.headers import read_reply


def test_long_reply_heads_are_not_remembered() -> None:
    memo, head = Memo(), b"HTTP/1.1 200 OK\r\nX: %b\r\n\r\n"
    short, long = head % b"x", head % (b"x" * MEMO_MAX)
    for given in (short, long):
        memo.remember(given, b"GET", read_reply(given, b"GET"))
    assert memo.reply_head == short
