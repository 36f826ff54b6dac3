// Captions on the page. Finals are in a live region and stay as they are; the partial is outside it,
// so that a screen reader is not made to read words that change.

const NEAR_END_PX = 60;

export class CaptionsView {
  #scroller;
  #finals;
  #tentative;
  #stable;
  #tail;
  #empty;
  #follow;
  #layersTotal = 0;
  #isFollowing = true;

  /** @param {{scroller: HTMLElement, finals: HTMLElement, tentative: HTMLElement,
   *   empty: HTMLElement, follow: HTMLButtonElement}} parts */
  constructor({ scroller, finals, tentative, empty, follow }) {
    this.#scroller = scroller;
    this.#finals = finals;
    this.#tentative = tentative;
    this.#stable = tentative.querySelector(".stable");
    this.#tail = tentative.querySelector(".tail");
    this.#empty = empty;
    this.#follow = follow;
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    follow.addEventListener("click", () => {
      this.#isFollowing = true;
      this.#scrollToEnd();
    });
  }

  set layersTotal(total) {
    this.#layersTotal = total;
  }

  append(caption) {
    const row = element("p", caption.isGap ? "caption gap" : "caption");
    const time = element("span", "when");
    // Read aloud, a time before every sentence is noise.
    time.setAttribute("aria-hidden", "true");
    time.append(element("span", "time", clock(caption.start)));
    if (caption.layers !== null) {
      time.append(element("span", "layers", `${short(caption.layers)}/${this.#layersTotal}`));
    }
    row.append(time, element("span", "words", caption.text));
    this.#finals.append(row);
    this.#empty.hidden = true;
    this.#scrollToEnd();
  }

  /** @param {{text: string, stableChars: number, start: number} | null} partial */
  showTentative(partial) {
    this.#tentative.hidden = !partial;
    if (!partial) return;
    this.#tentative.querySelector(".time").textContent = clock(partial.start);
    // The space between the two is nobody's tentative word.
    const tail = partial.text.slice(partial.stableChars).trimStart();
    this.#stable.textContent = partial.text.slice(0, partial.text.length - tail.length);
    this.#tail.textContent = tail;
    this.#empty.hidden = true;
    this.#scrollToEnd();
  }

  clear() {
    this.#finals.replaceChildren();
    this.showTentative(null);
    this.#empty.hidden = false;
  }

  #scrollToEnd() {
    if (this.#isFollowing) this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#follow.hidden = this.#isFollowing;
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    this.#isFollowing = scrollHeight - clientHeight - scrollTop < NEAR_END_PX;
    this.#follow.hidden = this.#isFollowing;
  }
}

/** Minutes and seconds, as on a player. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const rest = `${String(m).padStart(h ? 2 : 1, "0")}:${String(s).padStart(2, "0")}`;
  return h ? `${h}:${rest}` : rest;
}

function short(layers) {
  return Number(layers.toFixed(1)).toString();
}

function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}
