"""The engine on ONNX Runtime: the shell that torch's has around a recogniser of its own."""

from pathlib import Path

from model_store.audio import SpeechGate
from service.engine.torch_engine import LoadedModel, TorchEngine, in_our_terms
from service.engine.torch_live import LiveModel


def create_onnx_engine(model: str, *, num_threads: int, cache: Path) -> TorchEngine:
    """Build the engine for a model's name; its files are built when it loads, where they are not.

    Args:
        model: shipped weights or a folder.
        num_threads: threads one step may use.
        cache: where what is built is kept.
    """

    def load_model() -> LoadedModel:
        from service.engine.onnx.checkpoint import open_checkpoint
        from service.engine.onnx.processor import read_processor
        from service.engine.onnx.recogniser import OnnxRecogniser

        numerics = read_processor().numerics
        return OnnxRecogniser(open_checkpoint(model), cache, numerics, num_threads)

    def open_gate() -> SpeechGate:
        from model_store.audio import SileroGate

        return SileroGate()

    def open_live(loaded: LoadedModel) -> LiveModel:
        from model_store.decoding.live_runner import FINAL_CALLS
        from service.engine.onnx.live import create_live_runner
        from service.engine.onnx.recogniser import OnnxRecogniser

        assert isinstance(loaded, OnnxRecogniser), "expected the model that was loaded"
        return create_live_runner(loaded, final_calls=FINAL_CALLS)

    return TorchEngine(load_model, open_gate, open_live)


def build_onnx_engine(
    model: str, cache: Path, *, every_processor: bool = False
) -> tuple[Path, ...]:
    """Build a model's files, where they are missing or damaged, and give their folders.

    Args:
        model: shipped weights or a folder.
        cache: where what is built is kept.
        every_processor: for all that may come, not for this machine's alone.

    Raises:
        ModelUnusable: the model is unknown, damaged, or of a backbone that this engine has not.
    """
    from service.engine.onnx.build import ensure_built
    from service.engine.onnx.checkpoint import open_checkpoint
    from service.engine.onnx.processor import SERVED, read_processor

    wanted = SERVED if every_processor else (read_processor().numerics,)
    with in_our_terms():
        checkpoint = open_checkpoint(model)
        return tuple(ensure_built(checkpoint, cache, numerics) for numerics in wanted)


def runs_well(model: str, *, beside_gpu: bool = False) -> bool:
    """Say whether this machine and a model are what the engine is for; reads no weights.

    Args:
        model: shipped weights or a folder.
        beside_gpu: a GPU that is there is not to be used.
    """
    from model_store.errors import ModelStoreError
    from service.engine.onnx.checkpoint import open_checkpoint
    from service.engine.onnx.processor import has_gpu, read_processor

    if (has_gpu() and not beside_gpu) or not read_processor().int8_dot_products:
        return False
    try:
        open_checkpoint(model)
    except ModelStoreError:
        return False
    return True
