// The depth control: automatic, or one of the budgets that the model offers.

export class Dial {
  #depths = []; // shallow to deep, as the slider runs
  #layersTotal = 0;
  #parts;
  #onTurn;

  /**
   * @param {{auto: HTMLInputElement, slider: HTMLInputElement, text: HTMLOutputElement,
   *   policy: HTMLSelectElement, note: HTMLElement}} parts
   * @param {() => void} onTurn
   */
  constructor(parts, onTurn) {
    this.#parts = parts;
    this.#onTurn = onTurn;
    parts.auto.addEventListener("change", () => this.#turned());
    parts.policy.addEventListener("change", () => this.#turned());
    parts.slider.addEventListener("input", () => {
      parts.auto.checked = false; // whoever moves the slider wants that depth
      this.#turned();
    });
  }

  get layersTotal() {
    return this.#layersTotal;
  }

  /** What goes on the wire. */
  get value() {
    const { auto, slider, policy } = this.#parts;
    const drop = auto.checked ? "auto" : this.#depths[Number(slider.value)].drop;
    return { drop, policy: policy.value };
  }

  /** @param {{depths: {layers: number, drop: number}[], layers_total: number, policies: string[]}} model */
  offer(model) {
    const { auto, slider, policy } = this.#parts;
    this.#depths = [...model.depths].sort((a, b) => a.layers - b.layers);
    this.#layersTotal = model.layers_total;
    slider.max = String(this.#depths.length - 1);
    slider.value = slider.max;
    policy.replaceChildren(...model.policies.map((name) => new Option(name, name)));
    for (const part of [auto, slider, policy]) part.disabled = false;
    this.#say();
  }

  /** Show what the server runs at: in automatic mode the thumb goes along. */
  follow(layers) {
    const { auto, slider } = this.#parts;
    if (!auto.checked || !this.#depths.length) return;
    const nearest = this.#depths.findLastIndex((depth) => depth.layers <= layers + 1e-6);
    slider.value = String(Math.max(0, nearest));
    this.#say();
  }

  /** Say from when on a change acts; a skipped layer has no cache to rise into, a strided one has. */
  announce(applies) {
    this.#parts.note.textContent =
      applies === "next_utterance" ? "Layers that are skipped change with the next utterance." : "";
  }

  #turned() {
    this.#say();
    this.#onTurn();
  }

  #say() {
    const { auto, slider, text } = this.#parts;
    const layers = this.#depths[Number(slider.value)].layers;
    const named = `${layers} of ${this.#layersTotal} layers`;
    text.value = named;
    slider.setAttribute("aria-valuetext", auto.checked ? `automatic, now ${named}` : named);
  }
}
