// How loud the sound is, so that a dead microphone is seen before a word is missed.

const FLOOR_DB = -60;

export class LevelMeter {
  #element;
  #bar;

  /** @param {HTMLElement} element holds `.bar` */
  constructor(element) {
    this.#element = element;
    this.#bar = element.querySelector(".bar");
  }

  show(isShown) {
    this.#element.hidden = !isShown;
  }

  /** @param {Int16Array} pcm */
  add(pcm) {
    if (this.#element.hidden || document.hidden) return;
    let peak = 1;
    for (const sample of pcm) peak = Math.max(peak, Math.abs(sample));
    const db = 20 * Math.log10(peak / 32768);
    this.#bar.style.transform = `scaleX(${Math.max(0, 1 - db / FLOOR_DB).toFixed(3)})`;
  }
}
