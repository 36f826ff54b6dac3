import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.multipart import MAX_HEADERS, FilePartReader
from service.errors import UploadMalformed

TYPE = "multipart/form-data; boundary=xyz"


def part(name: str, content: bytes, extra: bytes = b"") -> bytes:
    head = f'--xyz\r\nContent-Disposition: form-data; name="{name}"; filename="a"\r\n'.encode()
    return head + extra + b"\r\n" + content + b"\r\n"


def read(*pieces: bytes, content_type: str = TYPE) -> bytes:
    file = bytearray()
    reader = FilePartReader(content_type, file.extend)
    for piece in pieces:
        reader.feed(piece)
    reader.finish()
    return bytes(file)


@given(st.binary(max_size=200), st.integers(1, 50))
def test_the_file_comes_out_as_it_went_in_however_it_is_cut(content: bytes, size: int) -> None:
    if b"\r\n--xyz" in b"\r\n" + content:
        content = b""
    body = part("file", content) + b"--xyz--\r\n"
    pieces = [body[start : start + size] for start in range(0, len(body), size)]

    assert read(*pieces) == content


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (part("audio", b"x") + b"--xyz--\r\n", "got one named 'audio'"),
        (part("file", b"x") * 2 + b"--xyz--\r\n", "got a second"),
        (b"--xyz\r\nContent-Type: a/b\r\n\r\nx\r\n--xyz--\r\n", "got one named ''"),
        (b"--xyz--\r\n", "expected a whole part named 'file', got none"),
        (part("file", b"x"), "expected a whole part named 'file', got none"),
        (b"", "expected a whole part named 'file', got none"),
        (b"no multipart at all", "got a broken one"),
        (part("file", b"x", b"A: b\r\n" * (MAX_HEADERS + 1)), "got a broken one"),
        (part("file", b"x", b"A: " + b"b" * 5000 + b"\r\n"), "got a broken one"),
    ],
)
def test_a_body_that_is_not_one_file_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(UploadMalformed, match=message):
        read(body)


@pytest.mark.parametrize(
    "content_type",
    ["multipart/form-data", "multipart/form-data; boundary=", f"multipart/x; boundary={'a' * 999}"],
)
def test_a_header_without_a_usable_boundary_is_refused(content_type: str) -> None:
    with pytest.raises(UploadMalformed):
        read(b"", content_type=content_type)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_file_or_refused(body: bytes) -> None:
    try:
        read(body)
    except UploadMalformed:
        return
