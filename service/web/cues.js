// Captions as files: cues that a viewer has time to read, by the same measures as the server's.

const MAX_CHARS = 84; // two lines of 42 characters
const MAX_S = 7;
const MAX_PAUSE_S = 1.5;
const MIN_SENTENCE_CHARS = 42; // no cue of its own for every "Yes."

/**
 * @typedef {{start: number, end: number, text: string, words?: Word[]}} Caption seconds
 * @typedef {{text: string, start: number, end: number}} Word
 * @typedef {{start: number, end: number, text: string}} Cue
 */

/** @type {Record<string, {type: string, write: (captions: Caption[]) => string}>} */
export const FORMATS = {
  txt: { type: "text/plain", write: asText },
  srt: { type: "application/x-subrip", write: asSrt },
  vtt: { type: "text/vtt", write: asVtt },
};

/**
 * Cut captions into cues; none overlaps the next, and all words are there once, in order.
 * @param {Caption[]} captions
 * @returns {Cue[]}
 */
export function cuesOf(captions) {
  const cues = [];
  let previousEnd = 0;
  for (const cue of captions.flatMap(cuesOfCaption)) {
    const start = Math.max(cue.start, previousEnd);
    const end = Math.max(cue.end, start + 0.001);
    cues.push({ start, end, text: cue.text });
    previousEnd = end;
  }
  return cues;
}

function cuesOfCaption(caption) {
  const words = caption.words ?? [];
  // Words that do not make up the text (or none at all) leave the caption whole.
  if (!words.length || joined(words) !== oneLine(caption.text)) {
    return caption.text ? [{ ...caption, text: oneLine(caption.text) }] : [];
  }
  const cues = [];
  let group = [];
  for (const word of words) {
    if (group.length && endsBefore(group, word)) {
      cues.push(cueOf(group));
      group = [];
    }
    group.push(word);
  }
  return [...cues, cueOf(group)];
}

function endsBefore(group, word) {
  const text = joined(group);
  return (
    text.length + 1 + word.text.length > MAX_CHARS ||
    word.end - group[0].start > MAX_S ||
    word.start - group.at(-1).end > MAX_PAUSE_S ||
    (/[.?!]$/.test(text) && text.length >= MIN_SENTENCE_CHARS)
  );
}

function cueOf(group) {
  return { start: group[0].start, end: group.at(-1).end, text: joined(group) };
}

function joined(words) {
  return words.map((word) => oneLine(word.text)).join(" ");
}

function oneLine(text) {
  return text.split(/\s+/).filter(Boolean).join(" ");
}

function asText(captions) {
  return captions.map((caption) => `${oneLine(caption.text)}\n`).join("");
}

function asSrt(captions) {
  return cuesOf(captions)
    .map((cue, i) => `${i + 1}\n${span(cue, ",")}\n${cue.text}\n\n`)
    .join("");
}

function asVtt(captions) {
  const cues = cuesOf(captions).map((cue) => `${span(cue, ".")}\n${escaped(cue.text)}\n\n`);
  return `WEBVTT\n\n${cues.join("")}`;
}

function span(cue, point) {
  return `${timestamp(cue.start, point)} --> ${timestamp(cue.end, point)}`;
}

function timestamp(seconds, point) {
  const ms = Math.round(seconds * 1000);
  const parts = [ms / 3_600_000, (ms / 60_000) % 60, (ms / 1000) % 60].map((part) => digits(part, 2));
  return parts.join(":") + point + digits(ms % 1000, 3);
}

function digits(value, count) {
  return String(Math.floor(value)).padStart(count, "0");
}

function escaped(text) {
  // In WebVTT these begin a tag, an entity, or the arrow of the next cue.
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
