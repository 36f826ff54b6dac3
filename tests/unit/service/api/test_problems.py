import json
from collections.abc import Iterator

import pytest
from fastapi.exceptions import RequestValidationError

from service import errors
from service.api.problems import STATUS, close_code_of, in_words, response_to

BRANCHES = {
    errors.ServiceError,
    errors.CallerError,
    errors.UploadError,
    errors.AudioError,
    errors.DepthError,
    errors.HotwordsError,
    errors.Unavailable,
    errors.EngineError,
}
"""Classes that only group others; nobody raises them."""


def tree(error: type[errors.ServiceError]) -> Iterator[type[errors.ServiceError]]:
    yield error
    for child in error.__subclasses__():
        yield from tree(child)


LEAVES = sorted(set(tree(errors.ServiceError)) - BRANCHES, key=lambda error: error.__name__)


def made(error: type[errors.ServiceError]) -> errors.ServiceError:
    if issubclass(error, errors.Unavailable | errors.RateLimited):
        return error("words", retry_after_s=7)
    return error("words")


@pytest.mark.parametrize("error", LEAVES)
def test_every_error_has_a_status(error: type[errors.ServiceError]) -> None:
    assert error in STATUS


def test_the_table_has_no_class_that_is_not_raised() -> None:
    assert set(STATUS) == set(LEAVES)


@pytest.mark.parametrize("error", LEAVES)
def test_the_status_fits_whose_fault_it_is(error: type[errors.ServiceError]) -> None:
    status = STATUS[error]

    if issubclass(error, errors.CallerError):
        assert 400 <= status < 499
    elif issubclass(error, errors.Unavailable):
        assert status == 503
    else:
        assert status == 499 or status >= 500


@pytest.mark.parametrize("error", LEAVES)
def test_every_answer_has_the_one_shape(error: type[errors.ServiceError]) -> None:
    answer = response_to(made(error), "one")

    assert answer.status_code == STATUS[error]
    assert json.loads(bytes(answer.body)) == {
        "error": {"code": error.code, "message": "words", "request_id": "one"}
    }


LATER = [leaf for leaf in LEAVES if issubclass(leaf, errors.Unavailable | errors.RateLimited)]


@pytest.mark.parametrize("error", LATER)
def test_not_now_says_when(error: type[errors.ServiceError]) -> None:
    assert response_to(made(error), "one").headers["retry-after"] == "7"


def test_a_parameter_that_pydantic_refuses_in_its_own_way_is_named_without_its_words() -> None:
    error = RequestValidationError(
        [{"type": "missing", "loc": ("query", "drop"), "msg": "secret", "input": None}]
    )

    assert in_words(error) == "expected a valid drop, got one that is not"


def test_an_answer_carries_its_request_in_body_and_header() -> None:
    answer = response_to(errors.AudioEmpty("words"), "one")

    assert json.loads(bytes(answer.body))["error"]["request_id"] == "one"
    assert answer.headers["x-request-id"] == "one"


def test_whoever_lacks_a_key_is_told_how_to_show_one() -> None:
    challenge = response_to(errors.Unauthenticated("words"), "one").headers["www-authenticate"]

    assert challenge.startswith("Bearer ")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.Unauthenticated("words"), 4401),
        (errors.RateLimited("words", retry_after_s=1), 4429),
        (errors.OriginRefused("words"), 1008),
        (errors.DepthNotNow("words", retry_after_s=1), 1013),
        (errors.Draining("words", retry_after_s=1), 1001),
        (errors.DropOutOfRange("words"), 4400),
    ],
)
def test_a_stream_that_is_refused_closes_with_the_code_of_its_error(
    error: errors.ServiceError, code: int
) -> None:
    assert close_code_of(error) == code
