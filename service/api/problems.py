"""From errors to HTTP: the one table, and the one shape of an error's body.

    {"error": {"code": "drop_out_of_range", "message": "expected drop ...", "request_id": "..."}}

`code` is stable and `message` is for people. The shape is the one OpenAI clients look for as well.
"""

from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from service import errors
from service.api.request_ids import HEADER, request_id_of
from service.errors import ServiceError
from service.metrics import Metrics

STATUS: Mapping[type[ServiceError], int] = {
    errors.ParameterInvalid: 422,
    errors.ModelNotServed: 404,
    errors.StreamingUnsupported: 422,
    errors.MessageInvalid: 400,
    errors.MessagesRefused: 400,
    errors.ArchiveInvalid: 422,  # never met by a request, as the next
    errors.FileUnreadable: 422,
    errors.Unauthenticated: 401,
    errors.OriginRefused: 403,
    errors.RateLimited: 429,
    errors.UploadMalformed: 400,
    errors.UploadTooLarge: 413,
    errors.UploadTooSlow: 408,
    errors.AudioEmpty: 422,
    errors.AudioUndecodable: 415,
    errors.AudioTruncated: 422,
    errors.AudioNotFinite: 422,
    errors.AudioFormatUnsupported: 415,
    errors.AudioTooLong: 413,
    errors.HotwordInvalid: 422,
    errors.HotwordsTooMany: 422,
    errors.HotwordsUnsupported: 422,
    errors.DropOutOfRange: 422,
    errors.PolicyUnknown: 422,
    errors.PlanInvalid: 422,
    errors.DepthRefused: 422,
    errors.Overloaded: 503,
    errors.UploadMemoryFull: 503,
    errors.DepthNotNow: 503,
    errors.Loading: 503,
    errors.Draining: 503,
    errors.SettingsInvalid: 500,  # never met by a request
    errors.ExtraMissing: 500,  # nor this
    errors.ClientGone: 499,  # nginx's number; nobody is there to read it
    errors.ClientTooSlow: 408,
    errors.RequestTimedOut: 504,
    errors.EngineFailed: 500,
    errors.WorkerDied: 500,  # never met by a request
    errors.ModelUnusable: 500,
}

CLOSE_BAD_PARAMETERS = 4400
CLOSE_CODE: Mapping[type[ServiceError], int] = {
    errors.MessagesRefused: 1008,
    errors.OriginRefused: 1008,
    errors.Unauthenticated: 4401,
    errors.RateLimited: 4429,
    errors.CallerError: CLOSE_BAD_PARAMETERS,
    errors.Draining: 1001,
    errors.Unavailable: 1013,
    errors.ClientGone: 1001,  # nobody is there to read it
    errors.ClientTooSlow: 4408,
    errors.ServiceError: 1011,
}
"""By the nearest class above the error's own."""

INTERNAL_CLOSE_CODE = 1011
INTERNAL_MESSAGE = "something of ours went wrong"
INTERNAL_STATUS = 500
INTERNAL_CODE = "internal_error"
CHALLENGE = 'Bearer realm="elastic-asr"'
# The rest of such a body may still be on its way, however long it is.
_REFUSES_BODY = (
    errors.UploadError,
    errors.Unavailable,
    errors.Unauthenticated,
    errors.OriginRefused,
    errors.RateLimited,
)


def problem(
    status: int,
    code: str,
    message: str,
    request_id: str,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Make an error's answer."""
    body = {"error": {"code": code, "message": message, "request_id": request_id}}
    # Here as well as in the middleware, which a fault of ours does not pass on its way out.
    return JSONResponse(body, status, {**(headers or {}), HEADER: request_id})


def retry_after_s_of(error: ServiceError | None) -> int | None:
    """Give the hint when to ask again, where an error has one."""
    if isinstance(error, errors.Unavailable | errors.RateLimited):
        return error.retry_after_s
    return None


def close_code_of(error: ServiceError) -> int:
    """Give the code with which a stream that meets an error is closed."""
    return next(CLOSE_CODE[one] for one in type(error).__mro__ if one in CLOSE_CODE)


def response_to(error: ServiceError, request_id: str) -> JSONResponse:
    """Make the answer to an error of ours."""
    headers: dict[str, str] = {}
    retry_s = retry_after_s_of(error)
    if retry_s is not None:
        headers["Retry-After"] = str(retry_s)
    if isinstance(error, errors.Unauthenticated):
        headers["WWW-Authenticate"] = CHALLENGE
    if isinstance(error, _REFUSES_BODY):
        headers["Connection"] = "close"
    return problem(STATUS[type(error)], error.code, str(error), request_id, headers)


def install_problems(app: FastAPI, metrics: Metrics) -> None:
    """Have every error answered in the one shape, and refusals counted."""

    async def answer_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ServiceError), "registered for our errors alone"
        if isinstance(error, errors.Unavailable):
            metrics.requests.admission_rejected.labels(error.code).inc()
        if isinstance(error, errors.AudioError):
            metrics.requests.decode_rejected.labels(error.code).inc()
        return response_to(error, request_id_of(request.scope))

    async def answer_validation(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError), "registered for that alone"
        invalid = errors.ParameterInvalid(in_words(error))
        return response_to(invalid, request_id_of(request.scope))

    async def answer_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException), "registered for that alone"
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
        request_id = request_id_of(request.scope)
        return problem(error.status_code, code, error.detail, request_id, error.headers)

    async def answer_anything(request: Request, _error: Exception) -> JSONResponse:
        # The server logs the traceback; the caller learns nothing of it.
        request_id = request_id_of(request.scope)
        return problem(INTERNAL_STATUS, INTERNAL_CODE, INTERNAL_MESSAGE, request_id)

    app.add_exception_handler(ServiceError, answer_error)
    app.add_exception_handler(RequestValidationError, answer_validation)
    app.add_exception_handler(HTTPException, answer_http)
    app.add_exception_handler(Exception, answer_anything)


def in_words(error: RequestValidationError) -> str:
    """Say which parameter is wrong; the value it had is not repeated."""
    first = error.errors()[0]
    name = str(first["loc"][-1])[:40]
    if first["type"] == "extra_forbidden":
        return f"expected only documented parameters, got {name!r}"
    if first["type"] == "literal_error":
        return f"expected {name} to be one of {first['ctx']['expected']}"
    return f"expected a valid {name}, got one that is not"
