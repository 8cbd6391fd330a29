// Elements are made here and nowhere else. Texts become text nodes: nothing that the network says is ever parsed as HTML.

/**
 * An element.
 * @param {string} tag its name, with classes: "p.quiet.mono"
 * @param {object} [props] attributes; `on` maps events to listeners, `props` sets properties; null and false are left out
 * @param {...(Node|string|number|null|Array)} children
 */
export function h(tag, props = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const made = document.createElement(name);
  if (classes.length) made.className = classes.join(" ");
  for (const [key, value] of Object.entries(props)) {
    if (key === "on") for (const [event, listener] of Object.entries(value)) made.addEventListener(event, listener);
    else if (key === "props") Object.assign(made, value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : String(value));
  }
  made.append(...flat(children));
  return made;
}

function flat(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : String(child)));
}

/** Puts children in place of what an element holds. */
export function fill(element, ...children) {
  element.replaceChildren(...flat(children));
  return element;
}

/** A section with a heading, which names it for screen readers. */
let sections = 0;
export function panel(title, aside, ...body) {
  const id = `section-${++sections}`;
  return h("section.panel", { "aria-labelledby": id },
    h("header", {}, h("h2", { id }, title), aside ? h("span.quiet", {}, aside) : null), ...body);
}

/**
 * A table in a box that scrolls sideways where it does not fit.
 * @param {string} name for screen readers
 * @param {Array} columns titles; {title, number: true} for figures
 * @param {Array<Array>} rows cells; the first one heads its row
 */
export function table(name, columns, rows, empty = "") {
  if (!rows.length && empty) return h("p.empty", {}, empty);
  const numeric = columns.map((column) => typeof column === "object" && column.number);
  const heads = columns.map((column, at) =>
    h(numeric[at] ? "th.number" : "th", { scope: "col" }, column.title ?? column));
  const lines = rows.map((row) =>
    h("tr", {}, row.map((cell, at) =>
      h((at === 0 ? "th" : "td") + (numeric[at] ? ".number" : ""), at === 0 ? { scope: "row" } : {}, cell))));
  return scroll(name, h("table", { "aria-label": name }, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, lines)));
}

/** A box that scrolls sideways, also by keyboard. It is no landmark: the section around it is. */
export function scroll(name, ...children) {
  return h("div.scroll", { tabindex: "0", role: "group", "aria-label": name }, ...children);
}

/** A list of terms and what they are; pairs without a value are left out. */
export function facts(...pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return h("dl.facts", {}, shown.map(([term, value]) => [h("dt", {}, term), h("dd", {}, value)]));
}

/** A bar that fills with a share from 0 to 1. */
export function track(share, label) {
  const percent = Math.round(100 * Math.min(1, Math.max(0, share || 0)));
  const filled = h("i");
  filled.style.width = `${percent}%`;
  return h("div.track" + (percent === 100 ? ".done" : ""),
    { role: "progressbar", "aria-label": label, "aria-valuenow": percent, "aria-valuemin": 0, "aria-valuemax": 100 }, filled);
}

/** A task's state. */
export function state(name, live = false) {
  return h("span.state", { "data-state": name, "data-live": live }, name || "unknown");
}
