// Values for people, as the commands of mlnet-node write them.

export const TERMINAL = new Set(["completed", "failed", "cancelled"]);

/** A node's short name: the last six characters of its peer id, since the first ones are the same for all. */
export const short = (peer) => (peer ? peer.slice(-6) : "");

/** The digits of a task's id that are shown. */
export const shortTask = (id) => id.slice(0, 12);

const PEER_ID = /(?<!\/p2p\/)\b12D3KooW[1-9A-HJ-NP-Za-km-z]{44}\b/g;
/** A sentence in which peer ids are short names. */
export const plain = (text) => (text || "").replace(PEER_ID, (id) => short(id));

/** Seconds: 0.4 s, 37 s, 14:05, 1:02:03, 3 d 4 h. */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "";
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  if (whole >= 172800) return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
  const two = (value) => String(value).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes}:${two(whole % 60)}` : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`;
}

/** Micro-units as an exact decimal. */
export function amount(micro) {
  const whole = Math.trunc(micro / 1e6);
  const rest = String(Math.abs(micro % 1e6)).padStart(6, "0").replace(/0+$/, "");
  return (micro < 0 && !whole ? "-" : "") + whole + (rest ? `.${rest}` : "");
}

/** A share of 1. */
export const percent = (value) => (Number.isFinite(value) ? `${(100 * value).toFixed(2)} %` : "none");

/** A loss or a metric. JSON has no NaN and no infinity: they come as null. */
export function figure(value) {
  if (value === null) return "not a number";
  if (value === undefined) return "";
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e6) ? value.toExponential(3) : value.toFixed(size >= 100 ? 1 : 4);
}

/** Microseconds as ms. */
export function milliseconds(microseconds) {
  const ms = microseconds / 1000;
  return ms >= 100 ? ms.toFixed(0) : ms >= 10 ? ms.toFixed(1) : ms.toFixed(2);
}

export function bytes(size) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (size >= 1024 && at < units.length - 1) [size, at] = [size / 1024, at + 1];
  return `${at && size < 100 ? size.toFixed(1) : Math.round(size)} ${units[at]}`;
}

export const count = (value) => value.toLocaleString("en-US");

/** A time of this day as 14:05:09, of another with its date. */
export function time(iso) {
  if (!iso) return "";
  const moment = new Date(iso);
  const two = (value) => String(value).padStart(2, "0");
  const clock = `${two(moment.getHours())}:${two(moment.getMinutes())}:${two(moment.getSeconds())}`;
  if (moment.toDateString() === new Date().toDateString()) return clock;
  return `${moment.getFullYear()}-${two(moment.getMonth() + 1)}-${two(moment.getDate())} ${clock}`;
}

export const between = (from, to) => (from ? (new Date(to ?? Date.now()) - new Date(from)) / 1000 : NaN);
