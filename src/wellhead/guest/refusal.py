"""What the guest says when it does not do what it was asked."""

from __future__ import annotations

import enum
import errno

from wellhead.errors import WellheadError


class Word(enum.StrEnum):
    """The code of a refusal, as the host is told it."""

    NOT_FOUND = "not_found"
    EXISTS = "exists"
    INVALID = "invalid"
    FORBIDDEN = "forbidden"
    TOO_LARGE = "too_large"
    BUSY = "busy"
    NO_SPACE = "no_space"
    FAILED = "failed"


class Refusal(WellheadError):
    """Ends an operation; its word and its message go to the host."""

    def __init__(self, word: Word, message: str) -> None:
        super().__init__(message)
        self.word = word
        self.code = word.value


_WORDS = {
    errno.ENOENT: Word.NOT_FOUND,
    errno.ENOTDIR: Word.NOT_FOUND,
    errno.EEXIST: Word.EXISTS,
    errno.ENOTEMPTY: Word.EXISTS,
    errno.EISDIR: Word.INVALID,
    errno.ELOOP: Word.INVALID,
    errno.ENAMETOOLONG: Word.INVALID,
    errno.EINVAL: Word.INVALID,
    errno.ENOEXEC: Word.INVALID,
    errno.EXDEV: Word.INVALID,
    errno.EACCES: Word.FORBIDDEN,
    errno.EPERM: Word.FORBIDDEN,
    errno.EROFS: Word.FORBIDDEN,
    errno.E2BIG: Word.TOO_LARGE,
    errno.EFBIG: Word.TOO_LARGE,
    errno.EAGAIN: Word.BUSY,
    errno.EBUSY: Word.BUSY,
    errno.ETXTBSY: Word.BUSY,
    errno.EMFILE: Word.BUSY,
    errno.ENFILE: Word.BUSY,
    errno.ENOMEM: Word.BUSY,
    errno.ENOSPC: Word.NO_SPACE,
    errno.EDQUOT: Word.NO_SPACE,
}


def refusal(number: int, text: str, what: str) -> Refusal:
    """What a failed call of the system is to the host; ``what`` names the thing it was about."""
    return Refusal(_WORDS.get(number, Word.FAILED), f"{what}: {text.lower()}")


def refused(error: OSError, what: str) -> Refusal:
    return refusal(error.errno or 0, error.strerror or str(error), what)
