// The API key, where the server asks for one: kept for this tab alone, and never put into an address.

const STORED_AS = "asr-key";
const PROTOCOL = "asr.v1";
const KEY_PROTOCOL = "asr-key."; // a browser can set no other header on a WebSocket
const WRITABLE = /^[A-Za-z0-9._~-]+$/; // what a key may be made of, and what a subprotocol may hold

export class KeyForm {
  #form;
  #field;

  /**
   * @param {HTMLFormElement} form holds one input
   * @param {() => void} onKey a key was given
   */
  constructor(form, onKey) {
    this.#form = form;
    this.#field = form.querySelector("input");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const key = this.#field.value.trim();
      this.#field.setCustomValidity(WRITABLE.test(key) ? "" : "Letters, digits and . _ ~ - only");
      if (!form.reportValidity()) return;
      sessionStorage.setItem(STORED_AS, key);
      this.#field.value = "";
      form.hidden = true;
      onKey();
    });
    this.#field.addEventListener("input", () => this.#field.setCustomValidity(""));
  }

  /** Of a request. */
  get headers() {
    return this.#key ? { "X-API-Key": this.#key } : {};
  }

  /** Of a WebSocket. */
  get protocols() {
    return this.#key ? [PROTOCOL, KEY_PROTOCOL + this.#key] : [];
  }

  /** Ask for a key; one that was known has been refused. */
  ask() {
    sessionStorage.removeItem(STORED_AS);
    this.#form.hidden = false;
    this.#field.focus();
  }

  get #key() {
    return sessionStorage.getItem(STORED_AS);
  }
}
