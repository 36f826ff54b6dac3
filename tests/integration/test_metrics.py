"""What `/metrics` shows after requests, on the fake engine."""

from tests.service_kit import running, until, wav_bytes


async def test_a_request_is_booked_to_the_depth_that_spent_it() -> None:
    async with running() as app:
        answer = await app.transcribe("drop=0.5", wav_bytes(10.0))
        flops = answer.json()["flops"]

        labels = {"endpoint": "transcribe", "depth": "4"}
        assert app.sample("asr_requests_total", endpoint="transcribe", outcome="ok") == 1
        assert app.sample("asr_request_duration_seconds_count", **labels) == 1
        assert app.sample("asr_audio_seconds_total", **labels) == 10
        assert app.sample("asr_realtime_factor_count", **labels) == 1
        assert app.sample("asr_request_estimated_flops_sum", **labels) == flops
        assert app.sample("asr_estimated_flops_total", depth="4") == flops
        assert (app.sample("asr_estimated_flops_full_total") or 0) > flops
        assert app.sample("asr_batch_size_sum", depth="4") == 2
        assert app.sample("asr_stage_duration_seconds_count", stage="encode", depth="4") == 1
        assert app.sample("asr_queue_wait_seconds_count") == 1
        assert app.sample("asr_word_confidence_ratio_count", depth="4") == 20


async def test_without_load_those_who_leave_the_depth_to_us_get_all_of_it() -> None:
    async with running() as app:
        await until(lambda: app.sample("asr_controller_dimmer_ratio") == 1)

        assert app.sample("asr_depth_layers") == 8
        assert app.sample("asr_depth_floor_layers") == 2
        assert app.sample("asr_depth_drop_effective_ratio", source="auto") == 0
        assert app.sample("asr_estimated_wer_ratio") == 1
        assert app.sample("asr_controller_setpoint_seconds") == 0.4


async def test_outcomes_are_counted_by_kind() -> None:
    async with running() as app:
        await app.transcribe("drop=2")
        await app.client.get("/v1/models")
        await app.client.get("/livez")

        assert app.sample("asr_requests_total", endpoint="transcribe", outcome="rejected") == 1
        assert app.sample("asr_requests_total", endpoint="models", outcome="ok") == 1


async def test_the_page_says_what_runs() -> None:
    async with running() as app:
        page = await app.client.get("/metrics")

    assert page.headers["content-type"].startswith("text/plain; version=")
    assert 'asr_build_info{layers_total="8",model="fake-elastic",version=' in page.text
    assert "asr_model_ready 1.0" in page.text
