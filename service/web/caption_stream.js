// One stream of captions over /v1/stream: it survives lost connections and knows nothing of the page.
//
//   idle -start-> connecting -ready-> live -stop-> finishing -done-> idle
//                    ^  '--closed--.   |  .--------closed---'
//                    '---waited---waiting'              refused -> failed

import { SAMPLE_RATE_HZ, Tape } from "./tape.js";

export const Phase = Object.freeze({
  IDLE: "idle",
  CONNECTING: "connecting",
  LIVE: "live",
  WAITING: "waiting",
  FINISHING: "finishing",
  FAILED: "failed",
});

const KEPT_S = 30; // of sound, for the next connection
const FIRST_WAIT_S = 0.5;
const LONGEST_WAIT_S = 15;
const CATCH_UP_PACKETS = 4; // sent in a turn: what was kept goes out four times as fast as it came
const TURN_MS = 50;
const MAX_UNSENT_BYTES = 64_000; // two seconds on a slow line stay on the tape instead
const AHEAD_MARGIN_S = 2; // under the server's limit, as its messages come only now and then
const SMALLEST_AHEAD_S = 1;
const ONSET_MARGIN_S = 2; // a word may have begun before anything was heard of it
const DONE = 1000;
const LEAVING = 1001;
// The server says no to what this page asks for: asking again would get the same answer.
const REFUSALS = new Set([1002, 1003, 1007, 1008, 1009, 4400, 4401]);

export class CaptionStream {
  phase = Phase.IDLE;
  #listener;
  #url;
  #openSocket;
  #dial = {};
  #socket = null;
  #timer = null;
  #tape = new Tape(KEPT_S * SAMPLE_RATE_HZ);
  #sent = 0; // tape position after the last sample sent
  #origin = 0; // tape position at which the connection's time is zero
  #covered = 0; // tape position up to which the server has taken the sound into account
  #settled = 0; // tape position up to which nothing is owed any more
  #maxAhead = 0; // samples that may be sent before they are covered; the server drops what is more
  #isSpeechOpen = false;
  #isStopping = false;
  #attempts = 0;
  #lastError = null;

  /**
   * @param {{onPhase: (phase: string, detail: object) => void, onMessage: (message: object) => void,
   *   onGap: (start: number, end: number) => void}} listener times are seconds since `start`
   * @param {{url: string, openSocket?: (url: string) => WebSocket}} options
   */
  constructor(listener, { url, openSocket = (address) => new WebSocket(address) }) {
    this.#listener = listener;
    this.#url = url;
    this.#openSocket = openSocket;
  }

  /** Seconds of sound that the next connection would be given. */
  get owed_s() {
    return (this.#tape.end - Math.max(this.#settled, this.#tape.oldest)) / SAMPLE_RATE_HZ;
  }

  /** Seconds from the newest sound to the last that a message has covered. */
  get behind_s() {
    return (this.#tape.end - this.#covered) / SAMPLE_RATE_HZ;
  }

  /** @param {Record<string, string | number>} dial drop and policy, for now and later connections */
  start(dial) {
    this.#tape = new Tape(KEPT_S * SAMPLE_RATE_HZ);
    this.#settled = 0;
    this.#covered = 0;
    this.#attempts = 0;
    this.#isStopping = false;
    this.#dial = dial;
    this.#connect();
  }

  /** @param {Int16Array} pcm 16 kHz mono */
  push(pcm) {
    this.#tape.push(pcm);
    if (this.phase === Phase.LIVE && !this.#timer) this.#send();
  }

  /** Turn the dial; it acts on the running stream. */
  configure(dial) {
    this.#dial = dial;
    if (this.phase === Phase.LIVE) this.#say({ type: "configure", ...dial });
  }

  /** Ask for the last words; `idle` follows once they are there. */
  stop() {
    this.#isStopping = true;
    if (this.phase === Phase.LIVE && !this.#timer) this.#send();
    if (this.phase === Phase.WAITING) this.retry();
  }

  /** End at once, whatever is still owed. */
  abandon() {
    this.#drop(DONE);
    this.#enter(Phase.IDLE, {});
  }

  /** Do not wait any longer for the next connection. */
  retry() {
    if (this.phase === Phase.WAITING || this.phase === Phase.FAILED) this.#connect();
  }

  #connect() {
    this.#drop(DONE);
    this.#lastError = null;
    this.#enter(Phase.CONNECTING, { attempt: this.#attempts });
    const query = new URLSearchParams({ sample_rate: SAMPLE_RATE_HZ, encoding: "pcm_s16le", ...this.#dial });
    const socket = this.#openSocket(`${this.#url}?${query}`);
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    socket.onclose = ({ code, reason }) => this.#closed(code, reason);
    this.#socket = socket;
  }

  #begin({ limits }) {
    this.#maxAhead = SAMPLE_RATE_HZ * Math.max(SMALLEST_AHEAD_S, limits.max_buffer_s - AHEAD_MARGIN_S);
    this.#isSpeechOpen = false;
    this.#origin = Math.max(this.#settled, this.#tape.oldest);
    if (this.#origin > this.#settled) {
      this.#listener.onGap(this.#settled / SAMPLE_RATE_HZ, this.#origin / SAMPLE_RATE_HZ);
      this.#settled = this.#origin;
    }
    this.#sent = this.#origin;
    this.#covered = this.#origin;
    this.#enter(Phase.LIVE, {});
    this.#send();
  }

  #send() {
    this.#timer = null;
    if (this.phase !== Phase.LIVE) return;
    if (this.#sent < this.#tape.oldest) {
      this.#closed(0, "the line is slower than the sound");
      return;
    }
    for (let i = 0; i < CATCH_UP_PACKETS && this.#maySend(); i += 1) {
      const pcm = this.#tape.read(this.#sent);
      if (!pcm) break;
      this.#socket.send(pcm);
      this.#sent += pcm.length;
    }
    if (this.#sent < this.#tape.end) {
      this.#timer = setTimeout(() => this.#send(), TURN_MS);
    } else if (this.#isStopping) {
      this.#say({ type: "stop" });
      this.#enter(Phase.FINISHING, {});
    }
  }

  #maySend() {
    const isAhead = this.#sent - this.#covered >= this.#maxAhead;
    return !isAhead && this.#socket.bufferedAmount < MAX_UNSENT_BYTES;
  }

  #receive(message) {
    if (message.type === "ready") this.#begin(message);
    if (message.type === "error") this.#lastError = message;
    if (typeof message.end === "number") {
      this.#attempts = 0; // only now: a server that lets everybody in and falls over is left alone
      this.#covered = Math.max(this.#covered, this.#position(message.end));
    }
    if (message.type === "partial") this.#isSpeechOpen = true;
    if (message.type === "final") {
      this.#isSpeechOpen = false;
      this.#settle(message.end);
    }
    if (message.type === "lag" && !this.#isSpeechOpen) this.#settle(message.end - ONSET_MARGIN_S);
    this.#listener.onMessage(this.#inStreamTime(message));
  }

  #settle(end) {
    this.#settled = Math.min(Math.max(this.#settled, this.#position(end)), this.#tape.end);
  }

  /** From a connection's seconds to a place on the tape. */
  #position(seconds) {
    return this.#origin + Math.round(seconds * SAMPLE_RATE_HZ);
  }

  /** A connection's time starts at zero; the stream's has gone on since `start`. */
  #inStreamTime(message) {
    const offset = this.#origin / SAMPLE_RATE_HZ;
    const moved = (part) => ({ ...part, start: part.start + offset, end: part.end + offset });
    if (typeof message.end !== "number") return message;
    const words = message.words?.map(moved);
    return { ...moved(message), ...(words && { words }) };
  }

  #closed(code, reason) {
    const error = this.#lastError;
    const wasFinishing = this.phase === Phase.FINISHING;
    this.#drop(DONE);
    if (wasFinishing && code === DONE) {
      this.#enter(Phase.IDLE, {});
    } else if (REFUSALS.has(code)) {
      this.#enter(Phase.FAILED, { code, message: error?.message ?? reason });
    } else {
      this.#wait(code, error);
    }
  }

  #wait(code, error) {
    const hint_s = (error?.retry_after_ms ?? 0) / 1000;
    const backoff_s = Math.min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** this.#attempts);
    const jittered_s = backoff_s * (0.75 + 0.5 * Math.random()); // not everybody at once
    const wait_s = code === LEAVING && !this.#attempts ? FIRST_WAIT_S : Math.max(hint_s, jittered_s);
    this.#attempts += 1;
    this.#enter(Phase.WAITING, { code, error, wait_s });
    this.#timer = setTimeout(() => this.#connect(), wait_s * 1000);
  }

  #drop(code) {
    clearTimeout(this.#timer);
    this.#timer = null;
    if (!this.#socket) return;
    this.#socket.onmessage = null;
    this.#socket.onclose = null;
    this.#socket.close(code);
    this.#socket = null;
  }

  #say(message) {
    this.#socket.send(JSON.stringify(message));
  }

  #enter(phase, detail) {
    this.phase = phase;
    this.#listener.onPhase(phase, detail);
  }
}
