// Small plots of what the stream costs: one line each over the last minute, drawn when a value comes.

const SPAN_S = 60;
const FIRST_SPAN_S = 20; // a young stream fills its plot sooner
const WIDTH = 120;
const HEIGHT = 28;
const PADDING = 2;
const SVG = "http://www.w3.org/2000/svg";

export class Readout {
  #value;
  #line;
  #dot;
  #format;
  #top;
  #points = []; // of [seconds, value]

  /**
   * @param {HTMLElement} element holds `.value` and `.plot`
   * @param {{format: (value: number) => string, top?: number}} options `top` of the scale, at least
   */
  constructor(element, { format, top = 0 }) {
    this.#value = element.querySelector(".value");
    this.#format = format;
    this.#top = top;
    const svg = child(element.querySelector(".plot"), "svg", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: "none",
      "aria-hidden": "true",
    });
    this.#line = child(svg, "polyline", { points: "", "vector-effect": "non-scaling-stroke" });
    this.#dot = child(svg, "path", { d: "", "vector-effect": "non-scaling-stroke" });
  }

  set top(top) {
    this.#top = top;
  }

  get points() {
    return this.#points;
  }

  /** @param {number} at_s when @param {number} value finite, not negative */
  add(at_s, value) {
    if (!Number.isFinite(value)) return;
    this.#points.push([at_s, value]);
    while (this.#points[0][0] < at_s - SPAN_S) this.#points.shift();
    this.#value.textContent = this.#format(value);
    if (!document.hidden) this.#draw(at_s);
  }

  clear() {
    this.#points = [];
    this.#value.textContent = "–";
    this.#line.setAttribute("points", "");
    this.#dot.setAttribute("d", "");
  }

  #draw(now_s) {
    const top = Math.max(this.#top, ...this.#points.map(([, value]) => value)) || 1;
    const span_s = Math.max(FIRST_SPAN_S, now_s - this.#points[0][0]);
    const places = this.#points.map(([at_s, value]) => [
      (WIDTH - PADDING) * (1 - (now_s - at_s) / span_s),
      HEIGHT - PADDING - (HEIGHT - 2 * PADDING) * (value / top),
    ]);
    this.#line.setAttribute("points", places.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" "));
    const [x, y] = places.at(-1);
    this.#dot.setAttribute("d", `M${x.toFixed(1)} ${y.toFixed(1)}h0`);
  }
}

function child(parent, name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent.append(element);
  return element;
}
