"""Operations of what a plan runs: 2 x multiply-adds, encoder and decoder apart, by formula.

Counted: the front end's convolutions as they are factorised, layers, bypasses, the decoder's
projections of the encoder's states, decoder steps taken, their output rows, and the alignment
heads' own scores. Left out: pooling and giving back, norms, activations, rotations.

A layer at stride r runs ceil(n / r) rows, each attending to all of them, as a dense masked
forward does. Equal to `torch.utils.flop_counter` on a real run, in a test.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from model_store.decoding.live import DecoderCall
from model_store.decoding.live_step import Spent
from model_store.depth import DepthPlan, DepthSchedule, LayerTurn, Progress


@dataclass(frozen=True, slots=True)
class Convolution:
    """One convolution of a front end."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    padding: int = 0

    def positions(self, length: int) -> int:
        """Output positions for an input length."""
        return max(0, (length + 2 * self.padding - self.kernel) // self.stride + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSizes:
    """What the formula needs to know of a model.

    Args:
        convolutions: the front end, in order; the first takes `samples_per_input` samples a place.
        mlp_multiply_adds, decoder_mlp_multiply_adds: of one row or token.
        memory_pool: encoder frames that the decoder sees as one.
        prompt_tokens: taken in the first decoder step.
        watched_heads: heads whose scores are computed a second time, for alignment.
        shortest_input: inputs below this are completed by silence.
        padded_input: inputs are completed to this many; 0 for none.
        attention_dim: channels of all the encoder's heads together; 0 = `dim`.
        decoder_channels: of the decoder, which the pooled states are brought to; 0 = `dim`.
        scored_per_frame: tokens that a read-out without a decoder scores at every frame; else 0.
    """

    convolutions: tuple[Convolution, ...]
    dim: int
    head_dim: int
    encoder_layers: int
    mlp_multiply_adds: int
    bypass_rank: int
    decoder_layers: int
    decoder_mlp_multiply_adds: int
    memory_pool: int
    vocabulary: int
    prompt_tokens: int
    watched_heads: int = 0
    samples_per_input: int = 1
    shortest_input: int = 0
    padded_input: int = 0
    attention_dim: int = 0
    decoder_channels: int = 0
    scored_per_frame: int = 0

    @property
    def decoder_dim(self) -> int:
        """Channels of the decoder."""
        return self.decoder_channels or self.dim

    def num_frames(self, num_samples: int) -> int:
        """Encoder frames of a number of samples."""
        length = self._input_length(num_samples)
        for convolution in self.convolutions:
            length = convolution.positions(length)
        return length

    def _input_length(self, num_samples: int) -> int:
        return max(num_samples // self.samples_per_input, self.shortest_input, self.padded_input)

    def front_end_flops(self, num_samples: int) -> int:
        """Convolutions alone."""
        length, total = self._input_length(num_samples), 0
        for convolution in self.convolutions:
            length = convolution.positions(length)
            total += length * convolution.inputs * convolution.outputs * convolution.kernel
        return 2 * total


def encoder_flops(sizes: ModelSizes, schedule: DepthSchedule, num_samples: int) -> int:
    """Front end, layers and bypasses over one utterance."""
    num_frames = sizes.num_frames(num_samples)
    total = sizes.front_end_flops(num_samples)
    for layer in range(sizes.encoder_layers):
        rows = schedule.num_rows(layer, num_frames)
        if rows:
            total += layer_flops(sizes, rows)
        else:
            total += 2 * num_frames * 2 * sizes.dim * sizes.bypass_rank
    return total


def layer_flops(sizes: ModelSizes, rows: int) -> int:
    """One layer over a number of rows that all attend to each other."""
    attention_dim = sizes.attention_dim or sizes.dim
    projections = 4 * sizes.dim * attention_dim + sizes.mlp_multiply_adds
    return 2 * rows * (projections + 2 * rows * attention_dim)


def memory_flops(sizes: ModelSizes, num_samples: int) -> int:
    """The decoder's keys and values of the encoder's states, brought to its channels first."""
    memory = -(-sizes.num_frames(num_samples) // sizes.memory_pool)
    return 2 * memory * (sizes.decoder_layers * 2 * sizes.decoder_dim**2 + _bridge(sizes))


def _bridge(sizes: ModelSizes) -> int:
    """Multiply-adds that bring a pooled state to the decoder's channels."""
    return sizes.dim * sizes.decoder_channels if sizes.decoder_dim != sizes.dim else 0


def decoder_flops(sizes: ModelSizes, num_samples: int, steps: int) -> int:
    """Keys and values of the states, then cached decoder steps; the first takes the prompt.

    A read-out that scores every frame takes no steps, and costs its scores.

    Args:
        sizes: of the model.
        num_samples: of the utterance.
        steps: decoder steps taken, the one that gave the end token among them.
    """
    memory = -(-sizes.num_frames(num_samples) // sizes.memory_pool)
    total = 0
    keys = 0
    for step in range(steps):
        new = sizes.prompt_tokens if step == 0 else 1
        keys += new
        linear = 6 * sizes.decoder_dim**2 + sizes.decoder_mlp_multiply_adds
        attention = 2 * (keys + memory) * sizes.decoder_dim
        aligned = sizes.watched_heads * sizes.head_dim * memory
        total += new * (sizes.decoder_layers * (linear + attention) + aligned)
        total += sizes.vocabulary * sizes.decoder_dim
    total += sizes.num_frames(num_samples) * sizes.dim * sizes.scored_per_frame
    return 2 * total + memory_flops(sizes, num_samples)


def live_front_end_flops(sizes: ModelSizes, first_frame: int, num_frames: int) -> int:
    """Convolutions of a stream's frames [first_frame, first_frame + num_frames), each place once."""
    total = 0
    for end, sign in ((first_frame, -1), (first_frame + num_frames, 1)):
        places = end
        for convolution in reversed(sizes.convolutions):
            inputs = convolution.inputs * convolution.kernel
            total += sign * places * inputs * convolution.outputs
            places = (places - 1) * convolution.stride + convolution.kernel if places else 0
    return 2 * total


def chunk_flops(
    sizes: ModelSizes, plan: DepthPlan, num_frames: int, cached_rows: Sequence[int]
) -> int:
    """Layers and bypasses over one chunk of a stream without look-ahead; see `turn_flops`."""
    return turn_flops(sizes, Progress(0).advance(plan, num_frames, ended=True), cached_rows)


def turn_flops(sizes: ModelSizes, turns: Sequence[LayerTurn], cached_rows: Sequence[int]) -> int:
    """Layers and bypasses over one step of a stream; rows attend to all that was heard by then.

    Args:
        sizes: of the model.
        turns: what each layer hears and answers.
        cached_rows: by layer, heard before.
    """
    attention_dim = sizes.attention_dim or sizes.dim
    hearing = 3 * sizes.dim * attention_dim
    answering = sizes.dim * attention_dim + sizes.mlp_multiply_adds
    total = 0
    for turn, before in zip(turns, cached_rows, strict=True):
        if turn.skipped:
            total += turn.num_answered * 2 * sizes.dim * sizes.bypass_rank
            continue
        heard, answered = turn.heard_rows, turn.answered_rows
        total += heard * hearing
        total += answered * (answering + 2 * (before + heard) * attention_dim)
    return 2 * total


def live_decoder_flops(sizes: ModelSizes, new_rows: int, calls: Iterable[DecoderCall]) -> int:
    """Keys and values of new pooled frames, and calls of the decoder.

    A call's attention is dense: every new token scores all tokens that are in the cache after it.
    """
    total = new_rows * (sizes.decoder_layers * 2 * sizes.decoder_dim**2 + _bridge(sizes))
    linear = 6 * sizes.decoder_dim**2 + sizes.decoder_mlp_multiply_adds
    for call in calls:
        attention = 2 * (call.tokens + call.rows) * sizes.decoder_dim
        aligned = sizes.watched_heads * sizes.head_dim * call.rows
        total += call.new_tokens * (sizes.decoder_layers * (linear + attention) + aligned)
        total += call.scored * sizes.vocabulary * sizes.decoder_dim
    return 2 * total


@dataclass(frozen=True, slots=True)
class LiveCosts:
    """What live streams of a model cost; see `decoding.live_runner.LiveFormula`.

    Args:
        sizes: of the model.
        reach_frames: by layer, how far a row hears, before and after itself together; empty where
            every row hears all before it.
    """

    sizes: ModelSizes
    reach_frames: tuple[int, ...] = ()

    def front_end(self, first_frame: int, num_frames: int) -> int:
        """Count the front end over further frames."""
        return live_front_end_flops(self.sizes, first_frame, num_frames)

    def layers(self, turns: Sequence[LayerTurn], cached_rows: Sequence[int]) -> int:
        """Count the layers over one step."""
        if self.reach_frames:
            triples = zip(cached_rows, self.reach_frames, turns, strict=True)
            cached_rows = [min(rows, -(-reach // turn.stride)) for rows, reach, turn in triples]
        return turn_flops(self.sizes, turns, cached_rows)

    def decoder(self, new_rows: int, calls: Sequence[DecoderCall]) -> int:
        """Count keys and values of new pooled frames, and calls of the decoder."""
        return live_decoder_flops(self.sizes, new_rows, calls)

    def tries(self, plan: DepthPlan, tries: Iterable[tuple[int, int]]) -> Spent:
        """Count what is written of a whole utterance at once; see `spent_on_tries`."""
        return spent_on_tries(self.sizes, DepthSchedule.constant(plan), tries)


def spent_on_tries(
    sizes: ModelSizes, schedule: DepthSchedule, tries: Iterable[tuple[int, int]]
) -> Spent:
    """Add up all tries at one utterance.

    Args:
        sizes: of the model.
        schedule: depth along the utterance.
        tries: the samples that each try ran over, and the decoder steps it took.
    """
    full = DepthSchedule.constant(DepthPlan.full(sizes.encoder_layers))
    in_encoder = in_full = in_decoder = 0
    for num_samples, steps in tries:
        in_encoder += encoder_flops(sizes, schedule, num_samples)
        in_full += encoder_flops(sizes, full, num_samples)
        in_decoder += decoder_flops(sizes, num_samples, steps)
    return Spent(in_encoder + in_decoder, in_encoder, in_full + in_decoder)
