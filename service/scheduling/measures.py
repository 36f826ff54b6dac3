"""What steps and files leave behind in the metrics."""

from service.metrics import Metrics
from service.scheduling.steps import StepDone
from service.scheduling.transcripts import Transcript
from service.scheduling.windows import WindowBatch


class Measures:
    """Books work to the depth that spent it."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def stepped(self, depth: str, batch: WindowBatch, done: StepDone) -> None:
        """Book a file's step and the decoding of its windows."""
        metrics, cost = self._metrics, done.result.cost
        metrics.steps.queue_wait.observe(done.wait_s)
        metrics.steps.batch_size.labels(depth).observe(done.num_windows)
        stages = {"audio": batch.took_s, "encode": cost.encode_s, "decode": cost.decode_s}
        for stage, took_s in stages.items():
            metrics.steps.stage_duration.labels(stage, depth).observe(took_s)
        metrics.steps.flops.labels(depth).inc(cost.flops)
        metrics.steps.flops_full.inc(cost.full_flops)
        confidence = metrics.steps.word_confidence.labels(depth)
        for segment in done.result.segments:
            for word in segment.words:
                confidence.observe(word.confidence)

    def finished(self, depth: str, endpoint: str, transcript: Transcript) -> None:
        """Book a file that was transcribed to its end."""
        metrics, audio_s = self._metrics, transcript.audio_s
        metrics.requests.audio_seconds.labels(endpoint, depth).inc(audio_s)
        metrics.requests.flops.labels(endpoint, depth).observe(transcript.cost.flops)
        if audio_s:
            metrics.requests.realtime_factor.labels(endpoint, depth).observe(
                transcript.timing.total_s / audio_s
            )
