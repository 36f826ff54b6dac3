"""What streams leave behind in the metrics."""

from dataclasses import replace

from service.engine.base import Cost, ModelInfo, PlanInUse
from service.metrics import Metrics
from service.streaming.events import Final

ENDPOINT = "stream"
"""The label of streams among the endpoints; a request of theirs is an utterance."""
LIMIT_S = {"lag": 1.0, "first_partial": 0.9, "final": 0.6}
"""What live captions promise; each is a bucket of its histogram, so that shares can be read off."""


class StreamMeasures:
    """Books a stream's work to the depth of the chunk that spent it."""

    def __init__(self, metrics: Metrics, info: ModelInfo) -> None:
        self._metrics = metrics
        self._info = info

    def stepped(self, plan: PlanInUse, cost: Cost, encoded_s: float) -> None:
        """Book one stream's share of an engine step."""
        depth, metrics = self._info.depth_label(plan), self._metrics
        metrics.steps.flops.labels(depth).inc(cost.flops)
        metrics.steps.flops_full.inc(cost.full_flops)
        metrics.requests.audio_seconds.labels(ENDPOINT, depth).inc(encoded_s)

    def lag(self, lag_s: float) -> None:
        """Note the caption lag of one packet."""
        self._metrics.streams.lag.observe(lag_s)
        self._judge("lag", lag_s)

    def first_partial(self, after_s: float) -> None:
        """Note the first words of an utterance, so long after its speech began to arrive."""
        self._metrics.streams.first_partial.observe(after_s)
        self._judge("first_partial", after_s)

    def partial_interval(self, interval_s: float) -> None:
        """Note the time between two partials of an utterance."""
        self._metrics.streams.partial_interval.observe(interval_s)

    def finished(self, final: Final, plan: PlanInUse, after_s: float) -> None:
        """Book an utterance whose end arrived so long ago; `plan` is the one it ended at.

        Its depth is the mean over its frames; what it spent was booked step by step.
        """
        depth = self._info.depth_label(replace(plan, effective_layers=final.layers))
        metrics, requests = self._metrics, self._metrics.requests
        requests.outcomes.labels(ENDPOINT, "ok").inc()
        requests.duration.labels(ENDPOINT, depth).observe(after_s)
        requests.flops.labels(ENDPOINT, depth).observe(final.flops)
        requests.realtime_factor.labels(ENDPOINT, depth).observe(final.rtf)
        metrics.streams.final.observe(after_s)
        self._judge("final", after_s)
        confidence = metrics.steps.word_confidence.labels(depth)
        for word in final.words:
            confidence.observe(word.confidence)

    def failed(self, num_utterances: int) -> None:
        """Book utterances that the engine left without a final, or one for a stream that had none yet."""
        self._metrics.requests.outcomes.labels(ENDPOINT, "failed").inc(num_utterances)

    def dropped(self, dropped_s: float) -> None:
        """Note audio that was not taken."""
        self._metrics.streams.dropped_audio.labels("overload").inc(dropped_s)

    def _judge(self, promise: str, took_s: float) -> None:
        if took_s > LIMIT_S[promise]:
            self._metrics.requests.slo_violations.labels(promise).inc()
