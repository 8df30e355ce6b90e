"""HPACK: header lists to blocks and back, one pair of tables for each connection.

Both tables are ours; of jh2 we use the native Huffman code only. Its decoder as a whole is not fit for
strangers: it panics on a string that is cut short (and prints a trace), takes table updates in the
middle of a block, counts no overhead of an entry against the list's limit, and moves the whole rest of
the block for each field.

Blocks that repeat are recognised: what a block without insertions means depends on the table alone, so
as long as the table stands still, equal blocks are equal lists, and a list that was encoded once is
the same block again. A block that refers to nothing in the table, but inserts, is the same list always.

Source: RFC 7541.
"""

from __future__ import annotations

from collections.abc import Iterable

from jh2._hazmat import Decoder as _NativeDecoder
from jh2._hazmat import HPACKError as _NativeError

from wellhead.errors import H2Error
from wellhead.wire.h2_frames import ErrorCode
from wellhead.wire.hpack_tables import HUFFMAN_BITS, STATIC, STATIC_INDEX, STATIC_NAMES

Field = tuple[bytes, bytes]
Fields = list[Field]

TABLE_SIZE = 4096  # bytes, of either side's table: the size that every connection begins with
OVERHEAD = 32  # bytes that an entry counts beside its name and value (RFC 7541 section 4.1)

_REMEMBERED = 40  # blocks, or lists, of each direction: an agent's 32 intakes and some more
_UNHEEDED = 1000  # blocks that are not remembered after so many others that never came again
_SHAPES = 8  # lengths of blocks
_REMEMBERED_SIZE = 1024  # bytes of a block that is worth remembering
_MAX_SHIFT = 28  # four bytes of a number: far above every length that fits into a block
_PATH_LITERAL = 4  # a literal that is not indexed, with a name of the static table

_MAX_TEXT = 1 << 30  # bytes; what is decoded was bounded before


def unhuffman(data: bytes) -> bytes:
    """Undo the Huffman code of RFC 7541 section 5.2.

    Raises:
        H2Error: COMPRESSION_ERROR: a code that does not exist, or bad padding.
    """
    block = bytearray((_PATH_LITERAL,))
    _put_integer(block, 0x80, 0x7F, len(data))
    try:
        # A literal that changes no table. A decoder for each call: threads may not share one, and it is
        # made in 0.2 µs.
        ((_, text, _),) = _NativeDecoder(_MAX_TEXT).decode(bytes(block) + data, raw=True)
    except _NativeError:
        raise _bad("huffman") from None
    assert isinstance(text, bytes)
    padding = len(data) * 8 - sum(text.translate(HUFFMAN_BITS))
    # The native code forgives any padding; it has to be the beginning of EOS, and less than a byte.
    if not 0 <= padding < 8 or (padding and ~data[-1] & ((1 << padding) - 1)):
        raise _bad("huffman-padding")
    return text


class _Shape:
    """A block that inserts nothing, but for the values that it spells out: what is around them is the same.

    As long as the table stands still, another block of its length that agrees everywhere else has the same
    fields, with the values that stand in those places.
    """

    __slots__ = ("_constant", "_fields", "_values", "size")

    def __init__(self, block: bytes, fields: Fields, values: list[tuple[int, int]], size: int) -> None:
        self.size = size  # of the list: values have their lengths
        self._fields = fields
        self._values: list[tuple[int, int, int, bytes]] = []  # begin, end, which field, its name
        self._constant: list[tuple[int, int, bytes]] = []
        at = 0
        for begin, which in values:
            name, value = fields[which]
            self._constant.append((at, begin, block[at:begin]))
            at = begin + len(value)
            self._values.append((begin, at, which, name))
        if at < len(block):
            self._constant.append((at, len(block), block[at:]))

    def filled(self, block: bytes) -> Fields | None:
        """The header list of a block of this length; None: it differs in more."""
        for begin, end, constant in self._constant:
            if block[begin:end] != constant:
                return None
        fields = self._fields.copy()
        for begin, end, which, name in self._values:
            fields[which] = (name, block[begin:end])
        return fields


class Decoder:
    """The peer's blocks, in order. After an error it is of no more use: the tables differ.

    ``max_list``: the largest header list to decode, in bytes as RFC 9113 section 6.5.2 counts them;
    ``max_fields`` bounds the time that a block takes. ``size``: that of the last list, or an upper bound
    of it that is no more than ``exact_above``.
    """

    __slots__ = (
        "_alone",
        "_came_again",
        "_entries",
        "_exact_above",
        "_free",
        "_known",
        "_largest",
        "_last_length",
        "_max_fields",
        "_max_list",
        "_shapes",
        "_spelled",
        "_table_size",
        "_unheeded",
        "size",
    )

    def __init__(self, max_list: int, max_fields: int = 512, exact_above: int = 0) -> None:
        self.size = 0
        self.allow(max_list, max_fields, exact_above)
        self._entries: Fields = []  # newest last
        self._table_size = self._free = TABLE_SIZE
        self._largest = (
            64  # bytes of name and value of the largest entry there ever was: the static ones have less
        )
        # Blocks that insert nothing. Most of those that spell something out never come again: they are
        # apart, that they do not push out the others.
        self._known: dict[bytes, tuple[Fields, int]] = {}
        self._spelled: dict[bytes, tuple[Fields, int]] = {}
        self._came_again = False  # one of those, since they were forgotten last
        self._unheeded = 0  # how many of them are not to be remembered, because none did
        self._alone: dict[bytes, tuple[Fields, int, Fields]] = {}  # and what they insert
        # Blocks that differ in spelled-out values alone, by their length.
        self._shapes: dict[int, _Shape] = {}
        self._last_length = 0  # of the last that spelled something out

    def allow(self, max_list: int, max_fields: int, exact_above: int) -> None:
        """Set the limits anew."""
        self._max_list = max_list
        self._max_fields = max_fields
        self._exact_above = min(exact_above, max_list)

    def decode(self, block: bytes) -> Fields:
        """The header list of a block. It may be an earlier list once more: nobody may change it.

        Raises:
            H2Error: COMPRESSION_ERROR for what RFC 7541 forbids, ENHANCE_YOUR_CALM over a limit.
        """
        known = self._known.get(block)
        if known is None and self._spelled:
            known = self._spelled.get(block)
            if known is not None:
                self._came_again = True
        if known is not None:  # fast path
            fields, self.size = known
            return fields
        alone = self._alone.get(block)
        if alone is not None:  # fast path: a peer like nginx, which inserts the same fields again and again
            fields, self.size, inserted = alone
            for field in inserted:
                self._insert(field)
            return fields
        end = len(block)
        shape = self._shapes.get(end)
        if shape is not None and (filled := shape.filled(block)) is not None:  # fast path
            self.size = shape.size
            return filled
        fields, inserted = [], []
        values: list[tuple[int, int]] = []  # where short values stand that enter no table
        entries = self._entries
        literals = 0  # bytes of names and values that stood in the block itself
        stands_alone = True  # what it means does not depend on the table
        left = self._max_fields
        try:
            at = self._resize(block) if end and block[0] & 0xE0 == 0x20 else 0
            resized = at > 0
            while at < end:
                left -= 1
                if left < 0:
                    raise _too_much(f"more than {self._max_fields} fields")
                byte = block[at]
                at += 1
                if byte >= 0x80:
                    index = byte & 0x7F
                    if index == 0x7F:
                        index, at = _integer(block, at, 0x7F)
                    if index > 61:
                        stands_alone = False
                        fields.append(entries[61 - index])
                    else:
                        fields.append(STATIC[index])
                    continue
                index, at = _name_index(block, at, byte)
                if index > 61:
                    stands_alone = False
                    name = entries[61 - index][0]
                elif index:
                    name = STATIC[index][0]
                else:
                    name, at = _string(block, at)
                size = block[at]
                if size < 0x7F:  # fast path: short, and spelled as it is
                    begin = at + 1
                    at = begin + size
                    if at > end:
                        raise _bad("length")
                    value = block[begin:at]
                    values.append((begin, len(fields)))
                else:
                    value, at = _string(block, at)
                field = (name, value)
                fields.append(field)
                literals += len(name) + len(value)
                if byte & 0x40:
                    inserted.append(field)
                    self._insert(field)
        except (IndexError, KeyError):
            raise _bad("index-or-length") from None
        self._measure(fields, literals)
        if end <= _REMEMBERED_SIZE and not resized:
            if not inserted:
                if values and end == self._last_length:
                    self._shape(block, fields, values)
                self._last_length = end
                if literals and self._unheeded:
                    self._unheeded -= 1
                else:
                    self._remember(block, fields, literals)
            elif stands_alone:
                if len(self._alone) >= _REMEMBERED:
                    self._alone.clear()
                self._alone[block] = (fields, self.size, inserted)
        return fields

    def _remember(self, block: bytes, fields: Fields, literals: int) -> None:
        memory = self._spelled if literals else self._known
        if len(memory) >= _REMEMBERED:
            memory.clear()
            if literals:
                if not self._came_again:
                    self._unheeded = _UNHEEDED
                self._came_again = False
        memory[block] = (fields, self.size)

    def _shape(self, block: bytes, fields: Fields, values: list[tuple[int, int]]) -> None:
        """Two blocks of this length came one after the other: others will that say as much."""
        if len(self._shapes) >= _SHAPES:
            self._shapes.clear()
        self._shapes[len(block)] = _Shape(block, fields, values, self.size)

    def _measure(self, fields: Fields, literals: int) -> None:
        size = literals + len(fields) * (OVERHEAD + self._largest)
        if size > self._exact_above:
            size = list_size(fields)
            if size > self._max_list:
                raise _too_much(f"list of {size} bytes, at most {self._max_list} allowed")
        self.size = size

    def _forget(self) -> None:
        """The table changes: blocks mean something else."""
        self._known.clear()
        self._spelled.clear()
        self._shapes.clear()

    def _insert(self, field: Field) -> None:
        self._forget()
        size = len(field[0]) + len(field[1])
        self._largest = max(self._largest, min(size, TABLE_SIZE))
        self._free -= size + OVERHEAD
        self._evict()
        if size + OVERHEAD <= self._table_size:
            self._entries.append(field)
        else:
            self._free = self._table_size

    def _evict(self) -> None:
        entries = self._entries
        while self._free < 0 and entries:
            name, value = entries.pop(0)
            self._free += len(name) + len(value) + OVERHEAD

    def _resize(self, block: bytes) -> int:
        """Take over the table sizes that a block begins with, at most two; returns where they end."""
        self._forget()
        at = 0
        for _ in range(2):
            size, at = block[at] & 0x1F, at + 1
            if size == 0x1F:
                size, at = _integer(block, at, 0x1F)
            if size > TABLE_SIZE:
                raise _bad("table-size")
            self._free += size - self._table_size
            self._table_size = size
            self._evict()
            if at == len(block) or block[at] & 0xE0 != 0x20:
                return at
        raise _bad("third-table-size")


class Encoder:
    """Our blocks, in order.

    ``shared``: what is sent over the connection belongs to several people, so nothing secret may enter
    the table, where one could find out about another's by guessing (RFC 7541 section 7.1).
    ``known``: lists by their ids, with their blocks as long as the table stands still.
    """

    __slots__ = (
        "_capacity",
        "_entries",
        "_free",
        "_heads",
        "known",
        "_least",
        "_newest",
        "_places",
        "_unindexed",
    )

    def __init__(self, *, shared: bool = False) -> None:
        self._entries: Fields = []  # oldest first
        self._places: dict[Field | bytes, int] = {}  # when a field, or a name, was inserted last
        self._newest = 0  # how many were inserted
        self._capacity = self._free = TABLE_SIZE
        self._least: int | None = None  # smallest capacity since the last block; None: it did not change
        self.known: dict[int, tuple[Fields, bytes]] = {}
        self._heads: dict[bytes, bytes] = {}  # what stands before the value of a literal not inserted
        self._unindexed = _SHARED_UNINDEXED if shared else _UNINDEXED

    def set_capacity(self, size: int) -> None:
        """Keep within the peer's HEADER_TABLE_SIZE; more than TABLE_SIZE is never used."""
        size = min(size, TABLE_SIZE)
        if size == self._capacity:
            return
        self._least = size if self._least is None else min(size, self._least)
        self._free += size - self._capacity
        self._capacity = size
        self.known.clear()
        self._heads.clear()
        self._evict()

    def encode(self, fields: Fields, lead: bytes = b"", *, once: bool = False) -> bytes:
        """The block of a header list. A list that is encoded again must not have been changed.

        Blocks of several lists in a row are the block of all their fields. ``lead``: fields before the
        list's, as ``spelled`` gives them. ``once``: this list never comes again, and none is to be forgotten
        for it.
        """
        known = self.known.get(id(fields))
        if known is not None and known[0] is fields:  # fast path: the entry keeps the list, and its id, alive
            return lead + known[1]
        if self._least is not None:
            lead = self._sizes() + lead
        out = bytearray()
        inserted = self._newest
        places = self._places
        heads = self._heads
        for field in fields:
            name, value = field
            if name in heads and len(value) < 0x7F and field not in _REPEATED:  # fast path
                out += heads[name]
                out.append(len(value))
                out += value
                continue
            place = places.get(field)
            if place is not None:
                index = 62 + self._newest - place
            elif field in STATIC_INDEX:
                index = STATIC_INDEX[field]
            else:
                self._literal(out, field)
                continue
            if index < 0x7F:
                out.append(0x80 | index)
            else:
                _put_integer(out, 0x80, 0x7F, index)
        block = bytes(out)
        if inserted == self._newest and len(block) <= _REMEMBERED_SIZE and not once:
            if len(self.known) >= _REMEMBERED:
                self.known.clear()
            self.known[id(fields)] = (fields, block)
        return lead + block

    def _literal(self, out: bytearray, field: Field) -> None:
        name, value = field
        place = self._places.get(name)
        index = STATIC_NAMES.get(name, 0) if place is None else 62 + self._newest - place
        size = len(name) + len(value) + OVERHEAD
        if (
            name in self._unindexed
            and (index or name in _SECRET)  # a name enters the table with a value
            and field not in _REPEATED
        ):
            begun = len(out)
            _put_integer(out, 0x10 if name in _SECRET else 0, 0x0F, index)
            if index:
                self._heads[name] = bytes(out[begun:])
        elif size * 2 > self._capacity:  # it would push out everything else
            _put_integer(out, 0, 0x0F, index)
        else:
            _put_integer(out, 0x40, 0x3F, index)
            self._insert(field, size)
        if not index:
            _put_integer(out, 0, 0x7F, len(name))
            out += name
        _put_integer(out, 0, 0x7F, len(value))
        out += value

    def _insert(self, field: Field, size: int) -> None:
        self.known.clear()
        self._heads.clear()
        self._free -= size
        self._evict()
        self._newest += 1
        self._entries.append(field)
        self._places[field] = self._places[field[0]] = self._newest

    def _evict(self) -> None:
        entries, places = self._entries, self._places
        while self._free < 0:
            field = entries.pop(0)
            self._free += len(field[0]) + len(field[1]) + OVERHEAD
            place = self._newest - len(entries)
            for key in (field, field[0]):
                if places.get(key) == place:
                    del places[key]

    def _sizes(self) -> bytes:
        out = bytearray()
        if self._least is not None and self._least < self._capacity:
            _put_integer(out, 0x20, 0x1F, self._least)
        _put_integer(out, 0x20, 0x1F, self._capacity)
        self._least = None
        return bytes(out)


SHORT = 0x7F  # bytes of a string whose length is one byte in a block, and less


def spelling(name: bytes) -> bytes:
    """How a field of this name begins that is spelled out and enters no table; its value goes to ``spelled``.

    Such fields mean the same in every block, whatever the tables hold.
    """
    out = bytearray((0,))
    _put_integer(out, 0, 0x7F, len(name))
    return bytes(out) + name


def spelled(spelling: bytes, value: bytes) -> bytes:
    """The whole field."""
    size = len(value)
    if size < SHORT:
        return b"%b%c%b" % (spelling, size, value)
    out = bytearray(spelling)
    _put_integer(out, 0, 0x7F, size)
    return bytes(out) + value


_CARRIED = b"inkbox-h-"  # the HTTP/2 carrier puts it before the names of fields that it carries


def _and_carried(*names: bytes) -> frozenset[bytes]:
    return frozenset((*names, *(_CARRIED + name for name in names)))


_SECRET = _and_carried(b"authorization", b"proxy-authorization", b"cookie", b"set-cookie")
# What differs from message to message would only push out what repeats.
_UNINDEXED = _and_carried(
    *b":path age content-length content-range etag if-modified-since if-none-match last-modified location"
    b" set-cookie x-request-id".split()
) | frozenset((b"inkbox-path", b"inkbox-request-id", b"inkbox-ws-id", b"inkbox-tcp-id"))
_SHARED_UNINDEXED = _UNINDEXED | _SECRET
_REPEATED = frozenset(((b"content-length", b"0"), (b":path", b"/_system/intake")))  # they do, all the same


def list_size(fields: Iterable[Field]) -> int:
    """Bytes of a header list as SETTINGS_MAX_HEADER_LIST_SIZE counts them (RFC 9113 section 6.5.2)."""
    return sum([len(name) + len(value) + OVERHEAD for name, value in fields])


def _name_index(block: bytes, at: int, byte: int) -> tuple[int, int]:
    """The index of a literal's name, 0 for none, and where what follows begins."""
    if byte & 0x60 == 0x20:
        raise _bad("late-table-size")
    prefix = 0x3F if byte & 0x40 else 0x0F
    index = byte & prefix
    return _integer(block, at, prefix) if index == prefix else (index, at)


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    byte = block[at]
    at += 1
    length = byte & 0x7F
    if length == 0x7F:
        length, at = _integer(block, at, 0x7F)
    end = at + length
    if end > len(block):
        raise _bad("length")
    text = block[at:end]
    return (unhuffman(text) if byte & 0x80 else text), end


def _integer(block: bytes, at: int, value: int) -> tuple[int, int]:
    """A number whose prefix was all ones, which ``value`` is (RFC 7541 section 5.1)."""
    shift = 0
    while True:
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > _MAX_SHIFT:
            raise _bad("integer")


def _put_integer(out: bytearray, pattern: int, prefix: int, value: int) -> None:
    if value < prefix:
        out.append(pattern | value)
        return
    out.append(pattern | prefix)
    value -= prefix
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _bad(detail: str) -> H2Error:
    return H2Error(ErrorCode.COMPRESSION_ERROR, "hpack", detail)


def _too_much(detail: str) -> H2Error:
    return H2Error(ErrorCode.ENHANCE_YOUR_CALM, "hpack-bomb", detail)
