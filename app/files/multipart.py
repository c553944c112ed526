"""Reads a multipart body while it arrives: small fields into memory, the one file straight into its sink."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from app.errors import InvalidInput
from app.files.incoming import Incoming

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_MAX_FIELD_BYTES = 64 * 1024
_MAX_PARTS = 32
_FIELD_NAME = re.compile(r"[\x20-\x7e]{1,64}")
Sink = Callable[[bytes], Awaitable[None]]


@dataclass
class Form:
    """What came beside the file's bytes."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    has_file: bool = False


@dataclass
class _Part:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    name: str = ""
    filename: str | None = None
    data: bytearray = field(default_factory=bytearray)


class FormReader:
    """Feeds `request`'s body to python-multipart and hands the part `file_field` to `sink` as it comes."""

    def __init__(self, request: Request, *, file_field: str, sink: Sink) -> None:
        self._request = request
        self._file_field = file_field
        self._sink = sink
        self._form = Form()
        self._part = _Part()
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._file_chunks: list[bytes] = []
        self._parts = 0
        self._is_complete = False

    async def read(self) -> Form:
        """Read to the end. `InvalidInput` for a broken body; `ClientDisconnect` if the client went away."""
        parser = self._parser()
        async for chunk in self._request.stream():
            try:
                parser.write(chunk)
            except FormParserError as error:
                raise _broken(str(error)) from None
            for data in self._file_chunks:
                await self._sink(data)
            self._file_chunks.clear()
        if not self._is_complete:
            raise _broken("it ends before its last boundary")
        if not self._form.has_file:
            raise InvalidInput(f"Missing required parameter: '{self._file_field}'.", param=self._file_field)
        return self._form

    def _parser(self) -> MultipartParser:
        kind, options = parse_options_header(self._request.headers.get("content-type"))
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise InvalidInput("Send the file as multipart/form-data, with a boundary in the Content-Type header.")
        try:
            return MultipartParser(boundary, self._callbacks())
        except FormParserError as error:
            raise _broken(str(error)) from None

    def _callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._on_part_begin,
            "on_header_field": lambda data, start, end: self._header_name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header_value.extend(data[start:end]),
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise _broken(f"it has more than {_MAX_PARTS} parts")
        self._part = _Part()

    def _on_header_end(self) -> None:
        self._part.headers[bytes(self._header_name).lower()] = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._part.headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode("latin-1")
        if _FIELD_NAME.fullmatch(name) is None:
            raise _broken("a part has no usable name")
        self._part.name = name
        filename = options.get(b"filename")
        if name == self._file_field:
            if self._form.has_file:
                raise InvalidInput(f"Send '{name}' once.", param=name)
            self._form.has_file = True
            self._form.filename = None if filename is None else filename.decode("utf-8", errors="replace")
        elif name in self._form.fields:
            raise InvalidInput(f"Send '{name}' once.", param=name)

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part.name == self._file_field:
            self._file_chunks.append(data[start:end])
            return
        self._part.data += data[start:end]
        if len(self._part.data) > _MAX_FIELD_BYTES:
            raise InvalidInput(f"'{self._part.name}' is longer than {_MAX_FIELD_BYTES} bytes.", param=self._part.name)

    def _on_part_end(self) -> None:
        if self._part.name == self._file_field:
            return
        try:
            text = bytes(self._part.data).decode("utf-8")
        except UnicodeDecodeError:
            raise InvalidInput(f"'{self._part.name}' is not valid UTF-8.", param=self._part.name) from None
        if "\x00" in text:
            raise InvalidInput(f"'{self._part.name}' holds the character U+0000.", param=self._part.name)
        self._form.fields[self._part.name] = text

    def _on_end(self) -> None:
        self._is_complete = True


def sink_into(incoming: Incoming) -> Sink:
    """Takes bytes on the event loop and lets a thread write them, about a megabyte at a time."""

    async def sink(chunk: bytes) -> None:
        if incoming.take(chunk):
            await run_in_threadpool(incoming.flush)

    return sink


def _broken(reason: str) -> InvalidInput:
    return InvalidInput(f"We could not parse the multipart body of your request: {reason}.", code="invalid_multipart")
