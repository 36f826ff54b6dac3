// From totals since a connection began to what the last second of sound cost.

export class Rates {
  #last = { audio_s: 0, busy_s: 0, flops: 0 };

  /**
   * @param {{type: string, audio_s: number, rtf: number, flops: number}} message
   * @returns {{rtf: number, flops_per_s: number} | null} null where the message says nothing new
   */
  take(message) {
    if (message.type === "ready") this.#last = { audio_s: 0, busy_s: 0, flops: 0 };
    if (message.type !== "stats") return null;
    const now = { audio_s: message.audio_s, busy_s: message.rtf * message.audio_s, flops: message.flops };
    const audio_s = now.audio_s - this.#last.audio_s;
    if (audio_s <= 0) return null;
    const rtf = Math.max(0, now.busy_s - this.#last.busy_s) / audio_s;
    const flops_per_s = (now.flops - this.#last.flops) / audio_s;
    this.#last = now;
    return { rtf, flops_per_s };
  }
}
