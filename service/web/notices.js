// What can go wrong, in words for whoever sits in front of the page.

const SOUND = {
  denied: {
    title: "The browser does not let this page listen",
    text: "Allow the microphone or the sharing in the address bar, then try again.",
  },
  absent: { title: "No microphone found", text: "Plug one in, or caption a tab or a file." },
  busy: { title: "The sound cannot be opened", text: "Another program may be using it." },
  insecure: {
    title: "Browsers give sound to safe pages only",
    text: "Open this page over https, or on the machine itself as localhost.",
  },
  silent: {
    title: "Nothing to hear in what was shared",
    text: "Choose a tab and tick “Also share tab audio”. Some browsers share no sound at all.",
  },
  unreadable: {
    title: "The browser cannot play this file",
    text: "Try wav, mp3, ogg, m4a or webm.",
  },
};

const OVERLOADED = 1013;
const TOO_MANY = 4429;
const LEAVING = 1001;

/** @param {string} code of a SoundError */
export function aboutSound(code) {
  return SOUND[code];
}

/**
 * Why the stream waits before it connects again.
 * @param {{code: number, wait_s: number, error: {message?: string} | null, reason?: string,
 *   after?: string}} detail `reason` is from /readyz, where it could be asked; `after` says why the
 *   connection before ended
 * @param {number} owed_s seconds of sound kept for the next connection
 */
export function aboutWaiting({ code, wait_s, error, reason, after }, owed_s) {
  const again = `Trying again in ${Math.max(1, Math.round(wait_s))} s.`;
  const kept = owed_s >= 1 ? ` The last ${Math.round(owed_s)} s of sound are kept until then.` : "";
  if (code === OVERLOADED || code === TOO_MANY || reason === "saturated") {
    return { title: "The server is full", text: `${again}${kept}` };
  }
  const isRestarting = code === LEAVING || after === "drain";
  if (isRestarting || reason === "draining" || reason === "loading") {
    return { title: "The server is restarting", text: `${again}${kept}` };
  }
  const why = error?.message ? ` (${error.message})` : "";
  return { title: "Connection lost", text: `${again}${kept}${why}` };
}

/** @param {{code: number, message?: string}} detail of a refusal that asking again would not change */
export function aboutRefusal({ code, message }) {
  return { title: "The server refuses this stream", text: message || `It closed with code ${code}.` };
}

/** @param {string | undefined} reason from /readyz */
export function aboutReadiness(reason) {
  const words = {
    loading: "The server is loading its model.",
    draining: "The server is about to stop.",
    saturated: "The server is full.",
  };
  return words[reason] ?? "The server does not answer.";
}
