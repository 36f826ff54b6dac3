"""Multipart bodies parsed in memory: nothing of an upload ever touches the disk.

Starlette's own parser spools to temporary files, so this drives python-multipart itself, with tight
limits on everything that is not the file.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import UploadMalformed

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks  # not there at run time

MAX_HEADERS = 8
MAX_HEADER_BYTES = 1024
FILE_PART = "file"


class FilePartReader:
    """Feeds the bytes of the one part named `file` to a sink.

    Args:
        content_type: the request's header, with the boundary.
        sink: takes the file's bytes as they come.

    Raises:
        UploadMalformed: the header names no usable boundary.
    """

    def __init__(self, content_type: str, sink: Callable[[bytes], object]) -> None:
        self._sink = sink
        self._phase: Literal["before", "in_file", "after"] = "before"
        self._header_name = b""
        self._header_value = b""
        self._disposition = b""
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if not boundary:
            raise UploadMalformed("expected a boundary in Content-Type, got none")
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._on_part_begin,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
        }
        with _broken_is_malformed():
            self._parser = MultipartParser(
                boundary,
                callbacks,
                max_header_count=MAX_HEADERS,
                max_header_size=MAX_HEADER_BYTES,
            )

    def feed(self, chunk: bytes) -> None:
        """Parse the next bytes of the body.

        Raises:
            UploadMalformed: they are no multipart, or hold a part nobody asked for.
        """
        with _broken_is_malformed():
            self._parser.write(chunk)

    def finish(self) -> None:
        """Check that the body was whole and held the file.

        Raises:
            UploadMalformed: it was not, or did not.
        """
        with _broken_is_malformed():
            self._parser.finalize()
        if self._phase != "after":
            raise UploadMalformed(f"expected a whole part named {FILE_PART!r}, got none")

    def _on_part_begin(self) -> None:
        self._disposition = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")[:40]
        if name != FILE_PART:
            raise UploadMalformed(f"expected one part named {FILE_PART!r}, got one named {name!r}")
        if self._phase != "before":
            raise UploadMalformed(f"expected one part named {FILE_PART!r}, got a second")
        self._phase = "in_file"

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._sink(data[start:end])

    def _on_part_end(self) -> None:
        self._phase = "after"


@contextmanager
def _broken_is_malformed() -> Generator[None]:
    try:
        yield
    except FormParserError as error:
        raise UploadMalformed("expected a multipart body, got a broken one") from error
