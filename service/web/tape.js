// The last seconds of sound: what a lost connection has to be given again.

export const SAMPLE_RATE_HZ = 16000;

export class Tape {
  #packets = []; // of {start, pcm}, in order and without holes
  #end = 0;

  /** Position from which on nothing goes, however old it is. */
  heldFrom = Infinity;

  /** @param {number} capacitySamples what is kept; older sound is dropped */
  constructor(capacitySamples) {
    this.capacitySamples = capacitySamples;
  }

  /** Position after the newest sample, counted from the first one ever pushed. */
  get end() {
    return this.#end;
  }

  /** Position of the oldest sample that is still kept. */
  get oldest() {
    return this.#packets.length ? this.#packets[0].start : this.#end;
  }

  /** @param {Int16Array} pcm follows what came before */
  push(pcm) {
    if (!pcm.length) return;
    this.#packets.push({ start: this.#end, pcm });
    this.#end += pcm.length;
    // Whole packets go, and only those of which nothing is needed.
    const needed = Math.min(this.#end - this.capacitySamples, this.heldFrom);
    while (this.#packets[0].start + this.#packets[0].pcm.length <= needed) this.#packets.shift();
  }

  /**
   * The rest of the packet that holds a position; null at the end of the tape.
   * @param {number} position not before `oldest`
   * @returns {Int16Array | null}
   */
  read(position) {
    // From the newest: outside an outage the packet asked for is the last one.
    for (let i = this.#packets.length - 1; i >= 0; i -= 1) {
      const { start, pcm } = this.#packets[i];
      if (position >= start) {
        return position < start + pcm.length ? pcm.subarray(position - start) : null;
      }
    }
    return null;
  }
}
