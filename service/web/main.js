// The page: builds its parts and lets sound, stream and views know of each other.

import { CaptionStream, Phase } from "./caption_stream.js";
import { Captions } from "./captions.js";
import { CaptionsView } from "./captions_view.js";
import { FORMATS } from "./cues.js";
import { Dial } from "./dial.js";
import { KeyForm } from "./key.js";
import { LevelMeter } from "./level_meter.js";
import { NoticeView } from "./notice_view.js";
import { aboutReadiness, aboutRefusal, aboutSound, aboutWaiting } from "./notices.js";
import { Readout } from "./readouts.js";
import { Rates } from "./rates.js";
import { SoundError, openFile, openMicrophone, openTab } from "./sound.js";

const MODEL_RETRY_MS = 2000;
const GIGA = 1e9;
const CARRIES_LAYERS = new Set(["ready", "partial", "depth"]); // of now, not of a whole utterance
const UNAUTHORIZED = 401;
const KEY_REFUSED = 4401;
const NO_CODE = 1006; // no close code came: a refused handshake, or a line that broke
const STATUS = {
  [Phase.IDLE]: "Ready",
  [Phase.CONNECTING]: "Connecting",
  [Phase.LIVE]: "Listening",
  [Phase.WAITING]: "Not connected",
  [Phase.MOVING]: "Changing servers",
  [Phase.FINISHING]: "Finishing",
  [Phase.FAILED]: "Refused",
};

class Page {
  #captions = new Captions();
  #view = new CaptionsView({
    scroller: byId("scroller"),
    finals: byId("finals"),
    tentative: byId("tentative"),
    empty: byId("empty"),
    follow: byId("follow"),
  });
  #dial = new Dial(
    {
      auto: byId("auto"),
      slider: byId("depth"),
      text: byId("depth-text"),
      policy: byId("policy"),
      note: byId("depth-note"),
    },
    () => this.#stream.configure(this.#dial.value),
  );
  #readouts = {
    layers: new Readout(byId("layers"), { format: (value) => this.#layersText(value) }),
    lag: new Readout(byId("lag"), { format: lagText, top: 1 }),
    rtf: new Readout(byId("rtf"), { format: (value) => value.toFixed(3) }),
    flops: new Readout(byId("flops"), { format: (value) => value.toFixed(2) }),
  };
  #rates = new Rates();
  #level = new LevelMeter(byId("level"));
  #key = new KeyForm(byId("key"), () => {
    this.#notice.hide();
    this.#stream.abandon();
    this.#askForModel();
  });
  #notice = new NoticeView(byId("notice"));
  #stream = new CaptionStream(
    {
      onPhase: (phase, detail) => this.#showPhase(phase, detail),
      onMessage: (message) => this.#take(message),
      onGap: (start, end) => this.#view.append(this.#captions.miss(start, end)),
    },
    {
      url: streamUrl(location),
      openSocket: (url) => new WebSocket(url, this.#key.protocols),
    },
  );
  #sound = null;

  begin() {
    const open = { microphone: openMicrophone, tab: openTab };
    for (const button of sourceButtons()) {
      button.addEventListener("click", () => {
        if (button.dataset.source === "file") byId("file").click();
        else this.#start(open[button.dataset.source]);
      });
    }
    byId("file").addEventListener("change", ({ target }) => {
      const [file] = target.files;
      target.value = ""; // so that the same file can be chosen again
      if (file) this.#start((taker) => openFile(file, taker));
    });
    byId("stop").addEventListener("click", () => this.#stop());
    byId("clear").addEventListener("click", () => this.#clear());
    for (const button of saveButtons()) {
      button.addEventListener("click", () => this.#save(button.dataset.format));
    }
    this.#askForModel();
  }

  async #askForModel() {
    const { status, body: model } = await fetched("/v1/models", this.#key.headers);
    if (status === UNAUTHORIZED) {
      this.#askForKey();
      return;
    }
    if (!model) {
      this.#say(Phase.WAITING, aboutReadiness((await fetched("/readyz")).body?.reason));
      setTimeout(() => this.#askForModel(), MODEL_RETRY_MS);
      return;
    }
    this.#dial.offer(model);
    this.#view.layersTotal = model.layers_total;
    this.#readouts.layers.top = model.layers_total;
    this.#showPhase(Phase.IDLE, {});
  }

  #askForKey() {
    this.#say(Phase.FAILED, "Needs a key");
    for (const button of sourceButtons()) button.disabled = true;
    this.#key.ask();
  }

  async #start(open) {
    this.#notice.hide();
    for (const button of sourceButtons()) button.disabled = true;
    try {
      const taker = { onPacket: (pcm) => this.#hear(pcm), onEnd: () => this.#stop() };
      const sound = await open(taker);
      this.#clear();
      this.#sound = sound;
      byId("stop").textContent = "Stop";
      byId("player").replaceChildren(...(sound.media ? [sound.media] : []));
      byId("player").hidden = !sound.media;
      this.#level.show(!sound.media);
      this.#stream.start(this.#dial.value);
    } catch (error) {
      if (!(error instanceof SoundError)) throw error;
      this.#notice.show(aboutSound(error.code), { label: "Try again", act: () => this.#start(open) });
      this.#showPhase(Phase.IDLE, {});
    }
  }

  #hear(pcm) {
    this.#level.add(pcm);
    this.#stream.push(pcm);
  }

  #stop() {
    const isSecondTime = !this.#sound;
    this.#closeSound();
    if (isSecondTime || this.#stream.phase === Phase.FAILED) this.#stream.abandon();
    else this.#stream.stop();
  }

  #closeSound() {
    this.#sound?.stop();
    this.#sound = null;
    byId("stop").textContent = "Stop now"; // what is still owed is given up
    this.#level.show(false);
    byId("player").hidden = true;
  }

  #take(message) {
    const now_s = performance.now() / 1000;
    if (message.type === "partial") this.#captions.hear(message);
    if (message.type === "final") {
      const caption = this.#captions.settle(message);
      if (caption) this.#view.append(caption);
      this.#showSaving();
    }
    if (message.type === "partial" || message.type === "final") {
      this.#view.showTentative(this.#captions.tentative);
    }
    if (message.type === "depth") this.#dial.announce(message.applies);
    if (message.code === "audio_dropped") {
      this.#view.append(this.#captions.miss(message.start, message.end));
    } else if (message.type === "warning") {
      this.#say(Phase.MOVING, "Changing servers soon"); // captions go on: nothing to be alarmed about
    }
    this.#measure(message, now_s);
  }

  #measure(message, now_s) {
    if (CARRIES_LAYERS.has(message.type)) {
      this.#readouts.layers.add(now_s, message.layers);
      this.#dial.follow(message.layers);
    }
    if (typeof message.end === "number") this.#readouts.lag.add(now_s, this.#stream.behind_s);
    const rates = this.#rates.take(message);
    if (!rates) return;
    this.#readouts.rtf.add(now_s, rates.rtf);
    this.#readouts.flops.add(now_s, rates.flops_per_s / GIGA);
  }

  #showPhase(phase, detail) {
    this.#say(phase, STATUS[phase]);
    const isIdle = phase === Phase.IDLE;
    for (const button of sourceButtons()) {
      button.disabled = !isIdle;
      button.hidden = !isIdle;
    }
    byId("stop").hidden = isIdle;
    if (isIdle) this.#view.showTentative(null);
    if (phase === Phase.LIVE) this.#notice.hide();
    if (phase === Phase.WAITING) this.#showWaiting(detail);
    if (phase === Phase.FAILED) {
      this.#closeSound();
      this.#notice.show(aboutRefusal(detail));
      if (detail.code === KEY_REFUSED) this.#askForKey();
    }
  }

  async #showWaiting(detail) {
    const again = { label: "Connect now", act: () => this.#stream.retry() };
    this.#notice.show(aboutWaiting(detail, this.#stream.owed_s), again);
    if (detail.code !== NO_CODE) return;
    const reason = (await fetched("/readyz")).body?.reason;
    if (reason && this.#stream.phase === Phase.WAITING) {
      this.#notice.show(aboutWaiting({ ...detail, reason }, this.#stream.owed_s), again);
    }
  }

  #say(phase, text) {
    byId("status").dataset.phase = phase;
    byId("status").textContent = text;
  }

  #clear() {
    this.#captions.clear();
    this.#view.clear();
    for (const readout of Object.values(this.#readouts)) readout.clear();
    this.#showSaving();
  }

  #showSaving() {
    for (const button of [...saveButtons(), byId("clear")]) {
      button.disabled = !this.#captions.settled.length;
    }
  }

  #save(format) {
    const { type, write } = FORMATS[format];
    const url = URL.createObjectURL(new Blob([write(this.#captions.settled)], { type }));
    const link = document.createElement("a");
    link.href = url;
    link.download = `captions.${format}`;
    link.click();
    URL.revokeObjectURL(url);
  }

  #layersText(layers) {
    return `${Number(layers.toFixed(1))}/${this.#dial.layersTotal}`;
  }
}

function streamUrl({ protocol, host }) {
  return `${protocol === "https:" ? "wss:" : "ws:"}//${host}/v1/stream`;
}

/** Give an answer's status and, where it holds what was asked for, its body. */
async function fetched(path, headers = {}) {
  try {
    const answer = await fetch(path, { headers });
    const isWanted = answer.ok || path === "/readyz";
    return { status: answer.status, body: isWanted ? await answer.json() : null };
  } catch {
    return { status: 0, body: null }; // the status line says that nobody answers
  }
}

function lagText(lag_s) {
  return lag_s < 10 ? `${lag_s.toFixed(2)} s` : `${Math.round(lag_s)} s`;
}

function sourceButtons() {
  return [...document.querySelectorAll("[data-source]")];
}

function saveButtons() {
  return [...document.querySelectorAll("[data-format]")];
}

function byId(id) {
  return document.getElementById(id);
}

new Page().begin();
