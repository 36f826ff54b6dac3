"""Engines that fail, clients that leave, queues that fill: on the fake engine."""

import asyncio
import logging
from typing import Any

import pytest

from service.engine.fake import FakeEngine
from service.errors import ModelUnusable
from tests.service_kit import Turnstile, running, until, wav_bytes


def failing(windows: Any, _plan: Any) -> None:
    if windows[0].end_s > 9.0:
        raise ZeroDivisionError("secret detail")


async def test_an_engine_that_raises_answers_every_waiter_and_lives_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(FakeEngine(before_step=failing), batch_windows=2) as app:
        answers = await asyncio.gather(*(app.transcribe("", wav_bytes(20.0)) for _ in range(5)))
        after = await app.transcribe("", wav_bytes(1.0))

    assert [answer.status_code for answer in answers] == [500] * 5
    assert {answer.json()["error"]["code"] for answer in answers} == {"engine_failed"}
    assert not any("secret" in answer.text or "Traceback" in answer.text for answer in answers)
    assert "secret detail" in caplog.text
    assert after.status_code == 200
    assert app.sample("asr_requests_total", endpoint="transcribe", outcome="failed") == 5


async def test_a_fault_of_the_app_itself_tells_the_caller_nothing() -> None:
    class Broken(FakeEngine):
        def choose(self, drop: float, max_drop: float | None, policy: str) -> Any:
            raise ZeroDivisionError("secret detail")

    async with running(Broken()) as app:
        answer = await app.transcribe()

    assert answer.status_code == 500
    assert answer.json() == {
        "error": {
            "code": "internal_error",
            "message": "something of ours went wrong",
            "request_id": answer.headers["X-Request-ID"],
        }
    }


async def test_a_client_that_leaves_takes_its_work_along() -> None:
    turnstile = Turnstile()
    async with running(FakeEngine(before_step=turnstile), batch_windows=1) as app:
        request = app.open_request("/transcribe")
        request.send(wav_bytes(80.0), more=False)
        await turnstile.wait_for_step(1)

        request.disconnect()
        await request.ended()
        turnstile.let_through(100)

        assert app.sample("asr_queue_depth") == 0
        assert (await app.transcribe()).status_code == 200
        assert app.sample("asr_requests_total", endpoint="transcribe", outcome="cancelled") == 1
    assert len(turnstile.started) <= 3


async def test_more_than_fits_is_refused_early_with_a_hint_and_readiness_says_so() -> None:
    turnstile = Turnstile()
    async with running(FakeEngine(before_step=turnstile), max_requests=2) as app:
        accepted = [asyncio.create_task(app.transcribe()) for _ in range(2)]
        await until(lambda: app.service.admission.saturated)

        refused = app.open_request("/transcribe")
        await refused.answered()
        readiness = await app.client.get("/readyz")

        assert (refused.status, refused.code) == (503, "overloaded")
        assert int(refused.answer_headers["retry-after"]) >= 1
        assert refused.num_taken == 0
        assert (readiness.status_code, readiness.json()["reason"]) == (503, "saturated")
        refused.disconnect()
        await refused.ended()
        turnstile.let_through(10)
        assert [answer.status_code for answer in await asyncio.gather(*accepted)] == [200, 200]
        assert (await app.client.get("/readyz")).status_code == 200
        assert app.sample("asr_admission_rejected_total", reason="overloaded") == 1


async def test_a_burst_is_answered_200_or_503_and_nothing_else() -> None:
    async with running(max_requests=3) as app:
        answers = await asyncio.gather(*(app.transcribe("", wav_bytes(20.0)) for _ in range(40)))

    assert {answer.status_code for answer in answers} <= {200, 503}
    assert sum(answer.status_code == 200 for answer in answers) >= 3


async def test_a_request_that_takes_too_long_is_answered_504() -> None:
    turnstile = Turnstile()
    async with running(FakeEngine(before_step=turnstile), max_request_s=1e-3) as app:
        answer = await app.transcribe()
        turnstile.let_through(1)

    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "request_timed_out")


async def test_while_the_model_loads_the_process_lives_and_wants_no_work() -> None:
    turnstile = Turnstile()
    engine = FakeEngine(before_load=lambda: turnstile((), None))  # type: ignore[arg-type]
    async with running(engine, wait_for_model=False) as app:
        live = await app.client.get("/livez")
        ready = await app.client.get("/readyz")
        of_an_orchestrator = await app.client.get("/readyz?saturated=ok")
        early = await app.transcribe()
        models = await app.client.get("/v1/models")
        assert app.sample("asr_model_ready") == 0
        turnstile.let_through()
        await until(lambda: app.sample("asr_model_ready"))
        later = await app.client.get("/readyz")

    assert live.status_code == 200
    assert (ready.status_code, ready.json()["reason"]) == (503, "loading")
    assert of_an_orchestrator.json() == ready.json()
    assert (early.status_code, early.json()["error"]["code"]) == (503, "loading")
    assert (models.status_code, models.json()["error"]["code"]) == (503, "loading")
    assert later.status_code == 200


@pytest.mark.parametrize("error", [ModelUnusable("no such model"), ZeroDivisionError("secret")])
async def test_a_model_that_cannot_be_loaded_is_said_to_be_so(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise error

    caplog.set_level(logging.ERROR)
    async with running(FakeEngine(before_load=fail)) as app:
        ready = await app.client.get("/readyz")

    assert (ready.status_code, ready.json()["reason"]) == (503, "load_failed")
    assert "the model cannot be loaded" in caplog.text


async def test_a_drain_lets_the_running_finish_and_refuses_the_new() -> None:
    turnstile = Turnstile()
    async with running(FakeEngine(before_step=turnstile)) as app:
        request = asyncio.create_task(app.transcribe())
        await turnstile.wait_for_step(1)

        app.service.admission.drain()
        ready = await app.client.get("/readyz")
        of_an_orchestrator = await app.client.get("/readyz?saturated=ok")
        late = await app.transcribe()
        turnstile.let_through(10)
        await app.service.admission.drained()

        assert (await request).status_code == 200
        assert (ready.status_code, ready.json()["reason"]) == (503, "draining")
        assert of_an_orchestrator.json() == ready.json()
        assert (late.status_code, late.json()["error"]["code"]) == (503, "draining")
        assert late.headers["Connection"] == "close"


async def test_a_drain_at_its_end_answers_whoever_is_still_there() -> None:
    turnstile = Turnstile()
    async with running(FakeEngine(before_step=turnstile)) as app:
        working = asyncio.create_task(app.transcribe())
        await turnstile.wait_for_step(1)
        uploading = app.open_request("/transcribe")
        uploading.send(b"R")
        await until(lambda: uploading.num_taken)

        app.service.admission.cut_off()
        await app.service.admission.drained()
        await uploading.answered()
        uploading.disconnect()
        await uploading.ended()
        turnstile.let_through(10)

        assert (await working).json()["error"]["code"] == "draining"
        assert uploading.code == "draining"


async def test_no_log_line_holds_words_or_queries(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with running() as app:
        answer = await app.transcribe("format=text&drop=0.5")
        await app.transcribe("model=private-name")

    service_lines = [record.getMessage() for record in caplog.records if "service" in record.name]
    assert service_lines
    assert answer.text.split()
    for word in (*answer.text.split(), "private-name", "drop="):
        assert not any(word in line for line in service_lines)
