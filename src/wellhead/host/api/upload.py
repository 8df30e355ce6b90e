"""A file in a multipart body, taken apart while it comes: fields by name, and the file's bytes.

Source: RFC 7578.
"""

from __future__ import annotations

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from wellhead.errors import HostInvalid

FIELD_BYTES = 8 * 1024  # of a field beside the file
PARTS = 16

FILE = "file"


class Upload:
    """``fields`` are whole when they appear. ``begun``: the file's part has; ``over``: all has come."""

    def __init__(self, content_type: str) -> None:
        """
        Raises:
            HostInvalid: no multipart body, or one without a boundary.
        """
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise HostInvalid("the body is no multipart/form-data with a boundary")
        self.fields: dict[str, str] = {}
        self.begun = False
        self.file_over = False
        self.over = False
        self._pieces: list[bytes] = []
        self._header = ["", ""]  # name and value of a part's field, as they come
        self._headers: dict[str, str] = {}
        self._name = ""
        self._value = bytearray()
        self._parts = 0
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part_begin,
                    "on_part_data": self._part_data,
                    "on_part_end": self._part_end,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_finished,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise HostInvalid(f"multipart: {error}") from None

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes of the body; those of the file that they complete.

        Raises:
            HostInvalid: no multipart body, or one with more than belongs there.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise HostInvalid(f"multipart: {error}") from None
        pieces, self._pieces = self._pieces, []
        return pieces

    # The parser's callbacks

    def _part_begin(self) -> None:
        self._parts += 1
        if self._parts > PARTS:
            raise HostInvalid(f"multipart: more than {PARTS} parts")
        self._headers.clear()
        self._value.clear()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header[0] += data[start:end].decode("latin-1")

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1] += data[start:end].decode("latin-1")

    def _header_end(self) -> None:
        name, value = self._header
        self._headers[name.lower()] = value
        self._header = ["", ""]

    def _headers_finished(self) -> None:
        kind, options = parse_options_header(self._headers.get("content-disposition", ""))
        if kind != b"form-data" or b"name" not in options:
            raise HostInvalid("multipart: a part without a name")
        self._name = options[b"name"].decode("utf-8", "replace")
        if self._name == FILE:
            if self.begun:
                raise HostInvalid("multipart: a second file")
            self.begun = True

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == FILE:
            self._pieces.append(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > FIELD_BYTES:
            raise HostInvalid(f"multipart: a field of more than {FIELD_BYTES} bytes")

    def _part_end(self) -> None:
        if self._name == FILE:
            self.file_over = True
            return
        try:
            self.fields[self._name] = self._value.decode()
        except UnicodeDecodeError:
            raise HostInvalid("multipart: a field that is no UTF-8") from None

    def _end(self) -> None:
        self.over = True
