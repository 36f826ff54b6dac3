// What has been said: finals and gaps in order, and the one partial that may still change.

export class Captions {
  /** Finals and gaps, oldest first; none of them ever changes. */
  settled = [];
  /** @type {{text: string, stableChars: number, start: number} | null} */
  tentative = null;

  get isEmpty() {
    return !this.settled.length && !this.tentative;
  }

  /** Replace the tentative words. */
  hear(partial) {
    const text = partial.text ?? "";
    this.tentative = text
      ? { text, stableChars: Math.min(partial.stable_chars ?? 0, text.length), start: partial.start }
      : null;
  }

  /** Take a final; gives the caption that was added, or null for one without words. */
  settle(final) {
    this.tentative = null;
    if (!final.text) return null;
    const caption = {
      start: final.start,
      end: final.end,
      text: final.text,
      words: (final.words ?? []).map(wordOf),
      layers: final.layers ?? null,
    };
    this.settled.push(caption);
    return caption;
  }

  /** Note that sound is missing; gives the caption that says so. */
  miss(start, end) {
    const text = `[${(end - start).toFixed(1)} s of sound missing]`;
    const gap = { start, end, text, words: [], layers: null, isGap: true };
    this.settled.push(gap);
    return gap;
  }

  clear() {
    this.settled = [];
    this.tentative = null;
  }
}

function wordOf(word) {
  return { text: word.word, start: word.start, end: word.end };
}
