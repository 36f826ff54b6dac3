// One stream of captions over /v1/stream: it outlives its connections and knows nothing of the page.
//
//   idle -start-> connecting -ready-> live -stop-> finishing -done-> idle
//                    ^  '--closed--.   |  .--------closed---'
//                    '---waited---waiting, moving       refused -> failed
//
// A connection begins where all that was said is in finals: it tells its server the stream time and
// the numbers to go on with. Sound that is not yet in a final is kept for it.

import { SAMPLE_RATE_HZ, Tape } from "./tape.js";

export const Phase = Object.freeze({
  IDLE: "idle",
  CONNECTING: "connecting",
  LIVE: "live",
  WAITING: "waiting",
  MOVING: "moving",
  FINISHING: "finishing",
  FAILED: "failed",
});

const KEPT_S = 30; // of sound, for the next connection
const FIRST_WAIT_S = 0.5;
const LONGEST_WAIT_S = 3.5;
const SPREAD_S = 0.2; // others have been asked to move as well
const CATCH_UP_PACKETS = 4; // sent in a turn: what was kept goes out four times as fast as it came
const TURN_MS = 50;
const MAX_UNSENT_BYTES = 64_000; // two seconds on a slow line stay on the tape instead
const SILENT_MS = 15_000; // without a word about what was sent: nobody is there, whatever the socket says
const AHEAD_MARGIN_S = 2; // under the server's limit, as its messages come only now and then
const SMALLEST_AHEAD_S = 1;
const DONE = 1000;
const LEAVING = 1001;
const NO_CODE = 1006;
// The server says no to what this page asks for: asking again would get the same answer.
const REFUSALS = new Set([1002, 1003, 1007, 1008, 1009, 4400, 4401]);
const PASSING = new Set(["draining", "loading"]); // another server may be there before this one says
const MOVES = new Set(["drain", "move"]); // reasons for which a stream goes on elsewhere at once

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
  #origin = 0; // tape position at which the connection begins
  #covered = 0; // tape position up to which the server has taken the sound into account
  #settled = 0; // tape position up to which all speech is in finals
  #maxAhead = 0; // samples that may be sent before they are covered; the server drops what is more
  #nextUtterance = 0;
  #nextMessage = 0;
  #after = null; // why the last connection ended
  #movedAt_ms = null;
  #isStopping = false;
  #attempts = 0;
  #heardAt_ms = 0;
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
    this.#nextUtterance = 0;
    this.#nextMessage = 0;
    this.#after = null;
    this.#movedAt_ms = null;
    this.#attempts = 0;
    this.#isStopping = false;
    this.#dial = dial;
    this.#connect();
  }

  /** @param {Int16Array} pcm 16 kHz mono */
  push(pcm) {
    this.#tape.push(pcm);
    if (this.#isForsaken) this.#closed(NO_CODE, "the server has fallen silent");
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
    if (this.#isBetween) this.retry();
  }

  /** End at once, whatever is still owed. */
  abandon() {
    this.#drop(DONE);
    this.#enter(Phase.IDLE, {});
  }

  /** Do not wait any longer for the next connection. */
  retry() {
    if (this.#isBetween || this.phase === Phase.FAILED) this.#connect();
  }

  get #isForsaken() {
    const isOwed = this.phase === Phase.LIVE && this.#sent - this.#covered > SAMPLE_RATE_HZ;
    const isSilent = performance.now() - this.#heardAt_ms > SILENT_MS;
    return isSilent && (isOwed || this.phase === Phase.CONNECTING);
  }

  get #isBetween() {
    return this.phase === Phase.WAITING || this.phase === Phase.MOVING;
  }

  #connect() {
    this.#drop(DONE);
    this.#lastError = null;
    this.#enter(Phase.CONNECTING, { attempt: this.#attempts });
    this.#origin = Math.max(this.#settled, this.#tape.oldest);
    this.#tape.heldFrom = this.#origin; // until it has been sent
    const query = new URLSearchParams({ sample_rate: SAMPLE_RATE_HZ, encoding: "pcm_s16le", ...this.#dial });
    for (const [name, value] of Object.entries(this.#place)) query.set(name, value);
    const socket = this.#openSocket(`${this.#url}?${query}`);
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    socket.onclose = ({ code, reason }) => this.#closed(code, reason);
    this.#socket = socket;
    this.#heardAt_ms = performance.now();
  }

  /** Where in its stream a connection begins, as its server is told. */
  get #place() {
    const place = { resumes: "true" };
    if (this.#origin || this.#nextMessage) {
      place.start_s = this.#origin / SAMPLE_RATE_HZ;
      place.utt = this.#nextUtterance;
      place.seq = this.#nextMessage;
    }
    if (this.#after) place.after = this.#after;
    if (this.#movedAt_ms !== null) place.moved_s = (performance.now() - this.#movedAt_ms) / 1000;
    return place;
  }

  #begin({ limits }) {
    this.#maxAhead = SAMPLE_RATE_HZ * Math.max(SMALLEST_AHEAD_S, limits.max_buffer_s - AHEAD_MARGIN_S);
    this.#after = "lost"; // unless its server says something else before it ends
    this.#tape.heldFrom = Infinity;
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
      this.#closed(NO_CODE, "the line is slower than the sound");
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
    this.#heardAt_ms = performance.now();
    if (message.type === "ready") this.#begin(message);
    if (message.type === "error") this.#lastError = message;
    if (typeof message.seq === "number") this.#nextMessage = message.seq + 1;
    if (typeof message.end === "number") {
      this.#attempts = 0; // only now: a server that lets everybody in and falls over is left alone
      this.#covered = Math.max(this.#covered, positionOf(message.end));
    }
    if (message.type === "final") {
      this.#nextUtterance += 1;
      this.#settle(message.end);
    }
    if (message.type === "lag") this.#settle(message.accepted);
    if (message.type === "done") this.#leave(message);
    this.#listener.onMessage(message);
  }

  #leave({ reason, end }) {
    this.#settle(end);
    if (!MOVES.has(reason)) return;
    this.#after = reason;
    this.#movedAt_ms = performance.now();
  }

  #settle(end) {
    if (typeof end !== "number") return;
    this.#settled = Math.min(Math.max(this.#settled, positionOf(end)), this.#tape.end);
  }

  #closed(code, reason) {
    const error = this.#lastError;
    const wasFinishing = this.phase === Phase.FINISHING;
    const wasOpen = wasFinishing || this.phase === Phase.LIVE;
    this.#drop(DONE);
    if (wasFinishing && code === DONE) {
      this.#enter(Phase.IDLE, {});
    } else if (REFUSALS.has(code)) {
      this.#enter(Phase.FAILED, { code, message: error?.message ?? reason });
    } else if (wasOpen && MOVES.has(this.#after)) {
      this.#connectIn(SPREAD_S * Math.random(), Phase.MOVING, {});
    } else {
      this.#wait(code, error);
    }
  }

  #wait(code, error) {
    const hint_s = PASSING.has(error?.code) ? 0 : (error?.retry_after_ms ?? 0) / 1000;
    const backoff_s = Math.min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** this.#attempts);
    const jittered_s = backoff_s * (0.75 + 0.5 * Math.random()); // not everybody at once
    const wait_s = code === LEAVING && !this.#attempts ? FIRST_WAIT_S : Math.max(hint_s, jittered_s);
    this.#attempts += 1;
    this.#connectIn(wait_s, Phase.WAITING, { code, error, wait_s, after: this.#after });
  }

  #connectIn(wait_s, phase, detail) {
    this.#enter(phase, detail);
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

/** From seconds of stream time to a place on the tape. */
function positionOf(seconds) {
  return Math.round(seconds * SAMPLE_RATE_HZ);
}
