// Where sound comes from: the microphone, a tab or window, a file. All end as packets of PCM.

export class SoundError extends Error {
  /** @param {"denied" | "absent" | "busy" | "insecure" | "silent" | "unreadable"} code */
  constructor(code) {
    super(code);
    this.code = code;
  }
}

/**
 * @typedef {{stop: () => void, media?: HTMLMediaElement}} Sound
 * @typedef {{onPacket: (pcm: Int16Array) => void, onEnd: () => void}} Taker
 */

/** @param {Taker} taker @returns {Promise<Sound>} */
export async function openMicrophone(taker) {
  const stream = await asked(() =>
    navigator.mediaDevices.getUserMedia({
      // The model is trained on rooms and noise; a filter for human ears takes away what it needs.
      audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: true },
    }),
  );
  return openTracks(stream, taker);
}

/** @param {Taker} taker @returns {Promise<Sound>} */
export async function openTab(taker) {
  const stream = await asked(() =>
    navigator.mediaDevices.getDisplayMedia({
      video: true, // browsers share no sound without it
      audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
      systemAudio: "include",
    }),
  );
  if (!stream.getAudioTracks().length) {
    stopTracks(stream);
    throw new SoundError("silent");
  }
  for (const track of stream.getVideoTracks()) track.enabled = false;
  return openTracks(stream, taker);
}

/**
 * Play a file aloud and take its sound as it plays.
 * @param {File} file @param {Taker} taker @returns {Promise<Sound>}
 */
export async function openFile(file, taker) {
  const context = new AudioContext();
  const media = document.createElement("audio");
  const url = URL.createObjectURL(file);
  const stop = () => {
    media.onended = null;
    media.pause();
    URL.revokeObjectURL(url);
    context.close();
  };
  media.controls = true;
  media.src = url;
  media.onended = taker.onEnd;
  try {
    const source = context.createMediaElementSource(media);
    source.connect(context.destination);
    await connectPackets(context, source, taker);
    await media.play();
  } catch {
    stop();
    throw new SoundError("unreadable");
  }
  return { stop, media };
}

async function openTracks(stream, taker) {
  const context = new AudioContext();
  const track = stream.getAudioTracks()[0];
  track.onended = taker.onEnd; // unplugged, or "stop sharing"
  await connectPackets(context, context.createMediaStreamSource(stream), taker);
  return {
    stop() {
      track.onended = null;
      stopTracks(stream);
      context.close();
    },
  };
}

async function connectPackets(context, source, taker) {
  await context.audioWorklet.addModule(new URL("./packets_worklet.js", import.meta.url));
  // No output: nothing is played, and the browser still runs the node for its port's sake.
  const node = new AudioWorkletNode(context, "packets", { numberOfInputs: 1, numberOfOutputs: 0 });
  node.port.onmessage = ({ data }) => taker.onPacket(data);
  source.connect(node);
  await context.resume();
}

async function asked(request) {
  if (!navigator.mediaDevices) throw new SoundError("insecure");
  try {
    return await request();
  } catch (error) {
    const codes = { NotAllowedError: "denied", NotFoundError: "absent", NotReadableError: "busy" };
    throw new SoundError(codes[error.name] ?? "busy");
  }
}

function stopTracks(stream) {
  for (const track of stream.getTracks()) track.stop();
}
