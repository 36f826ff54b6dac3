// The one place where the page says what went wrong, and offers what can be done about it.

export class NoticeView {
  #element;
  #button;
  #act = () => {};

  /** @param {HTMLElement} element holds `.title`, `.text`, `.act` and `.close` */
  constructor(element) {
    this.#element = element;
    this.#button = element.querySelector(".act");
    this.#button.addEventListener("click", () => this.#act());
    element.querySelector(".close").addEventListener("click", () => this.hide());
  }

  /**
   * @param {{title: string, text: string}} words
   * @param {{label: string, act: () => void} | null} remedy
   */
  show({ title, text }, remedy = null) {
    this.#element.querySelector(".title").textContent = title;
    this.#element.querySelector(".text").textContent = text;
    this.#button.hidden = !remedy;
    this.#button.textContent = remedy?.label ?? "";
    this.#act = remedy?.act ?? (() => {});
    this.#element.hidden = false;
  }

  hide() {
    this.#element.hidden = true;
  }
}
