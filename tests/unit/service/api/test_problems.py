import json
from collections.abc import Iterator

import pytest
from fastapi.exceptions import RequestValidationError

from service import errors
from service.api.problems import STATUS, in_words, response_to

BRANCHES = {
    errors.ServiceError,
    errors.CallerError,
    errors.UploadError,
    errors.AudioError,
    errors.DepthError,
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
    if issubclass(error, errors.Unavailable):
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
    answer = response_to(made(error))

    assert answer.status_code == STATUS[error]
    assert json.loads(bytes(answer.body)) == {"error": {"code": error.code, "message": "words"}}


@pytest.mark.parametrize("error", [leaf for leaf in LEAVES if issubclass(leaf, errors.Unavailable)])
def test_not_now_says_when(error: type[errors.Unavailable]) -> None:
    assert response_to(made(error)).headers["retry-after"] == "7"


def test_a_parameter_that_pydantic_refuses_in_its_own_way_is_named_without_its_words() -> None:
    error = RequestValidationError(
        [{"type": "missing", "loc": ("query", "drop"), "msg": "secret", "input": None}]
    )

    assert in_words(error) == "expected a valid drop, got one that is not"
