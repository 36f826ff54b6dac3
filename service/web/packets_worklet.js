// On the audio thread: any input to 16 kHz mono 16-bit packets.

import { Resampler } from "./resampler.js";

const OUTPUT_HZ = 16000;
const PACKET_SAMPLES = 800; // 50 ms
const SILENCE = new Float32Array(128); // what a browser gives at a time

class PacketProcessor extends AudioWorkletProcessor {
  #resampler = new Resampler(sampleRate, OUTPUT_HZ);
  #packet = new Int16Array(PACKET_SAMPLES);
  #filled = 0;

  process(inputs) {
    const channels = inputs[0];
    // A source that pauses gives nothing; to the server that is silence, not a client that has gone.
    const samples = channels.length ? mixed(channels) : SILENCE;
    this.#take(this.#resampler.push(samples));
    return true;
  }

  #take(samples) {
    for (const sample of samples) {
      const clipped = Math.max(-1, Math.min(1, sample));
      this.#packet[this.#filled] = Math.round(clipped * 32767);
      this.#filled += 1;
      if (this.#filled === PACKET_SAMPLES) this.#send();
    }
  }

  #send() {
    this.port.postMessage(this.#packet, [this.#packet.buffer]);
    this.#packet = new Int16Array(PACKET_SAMPLES);
    this.#filled = 0;
  }
}

function mixed(channels) {
  if (channels.length === 1) return channels[0];
  return channels[0].map((_, i) => channels.reduce((sum, one) => sum + one[i], 0) / channels.length);
}

registerProcessor("packets", PacketProcessor);
