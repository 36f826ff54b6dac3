// One sample rate to another, as a stream: a windowed sinc, evaluated where a sample is due.

const ZERO_CROSSINGS = 16; // on each side
const PASSBAND = 0.92; // of the lower Nyquist frequency; the rest is for the filter's slope

export class Resampler {
  #step; // input samples for `#phases` output samples
  #phases; // how many places between two input samples an output sample can fall on
  #taps; // of each phase, from the oldest input sample to the newest
  #halfWidth; // input samples on each side of an output sample
  #history = new Float32Array(0);
  #historyStart = 0; // input position of #history[0]
  #nextOutput = 0;

  constructor(inputHz, outputHz) {
    const common = greatestCommonDivisor(inputHz, outputHz);
    this.#step = inputHz / common;
    this.#phases = outputHz / common;
    const cutoff = (PASSBAND * Math.min(inputHz, outputHz)) / inputHz; // of the input's Nyquist
    this.#halfWidth = Math.ceil(ZERO_CROSSINGS / cutoff);
    this.#taps = Array.from({ length: this.#phases }, (_, phase) =>
      tapsAt(phase / this.#phases, cutoff, this.#halfWidth),
    );
    // Sound begins at once, not after half a filter.
    this.#history = new Float32Array(this.#halfWidth);
    this.#historyStart = -this.#halfWidth;
  }

  /**
   * @param {Float32Array} input follows what came before
   * @returns {Float32Array} what can be computed so far
   */
  push(input) {
    if (this.#step === this.#phases) return input.slice();
    const samples = new Float32Array(this.#history.length + input.length);
    samples.set(this.#history);
    samples.set(input, this.#history.length);
    const available = this.#historyStart + samples.length - this.#halfWidth;
    const output = [];
    let centre = this.#centre();
    while (centre < available) {
      output.push(this.#at(samples, centre));
      this.#nextOutput += 1;
      centre = this.#centre();
    }
    const from = Math.min(centre - this.#halfWidth + 1 - this.#historyStart, samples.length);
    this.#history = samples.slice(from);
    this.#historyStart += from;
    return Float32Array.from(output);
  }

  /** The input position at or before the next output sample. */
  #centre() {
    return Math.floor((this.#nextOutput * this.#step) / this.#phases);
  }

  #at(samples, centre) {
    const taps = this.#taps[(this.#nextOutput * this.#step) % this.#phases];
    const first = centre - this.#halfWidth + 1 - this.#historyStart;
    let sum = 0;
    for (let i = 0; i < taps.length; i += 1) sum += samples[first + i] * taps[i];
    return sum;
  }
}

function tapsAt(fraction, cutoff, halfWidth) {
  const taps = new Float32Array(2 * halfWidth);
  let total = 0;
  for (let i = 0; i < taps.length; i += 1) {
    const distance = i - halfWidth + 1 - fraction;
    const x = cutoff * distance;
    const sinc = x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
    taps[i] = sinc * (0.5 + 0.5 * Math.cos((Math.PI * distance) / halfWidth)); // Hann window
    total += taps[i];
  }
  return taps.map((tap) => tap / total); // so that a constant stays what it is
}

function greatestCommonDivisor(a, b) {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}
