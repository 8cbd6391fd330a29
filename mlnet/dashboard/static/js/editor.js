// A text area with line numbers, on which problems are marked.

import { h } from "/static/js/dom.js";

const LINE_HEIGHT = 19;

export class Editor {
  /** @param {{label: string, describedBy: string, onInput: () => void}} options */
  constructor({ label, describedBy, onInput }) {
    this.gutter = h("div.gutter", { "aria-hidden": "true" });
    this.area = h("textarea", { "aria-label": label, "aria-describedby": describedBy, spellcheck: "false", autocomplete: "off",
      autocapitalize: "off", wrap: "off", on: { input: () => (this.number(), onInput()), scroll: () => this.follow(), keydown: (event) => this.indent(event) } });
    this.element = h("div.editor", {}, this.gutter, this.area);
    this.lines = 0;
    this.number();
  }

  get text() {
    return this.area.value;
  }

  set text(value) {
    this.area.value = value;
    this.area.scrollTop = 0;
    this.area.setSelectionRange(0, 0);
    this.number();
  }

  number() {
    const lines = this.text.split("\n").length;
    while (this.lines < lines) this.gutter.append(h("span", {}, ++this.lines));
    while (this.lines > lines) {
      this.gutter.lastChild.remove();
      this.lines -= 1;
    }
    this.follow();
  }

  follow() {
    this.gutter.scrollTop = this.area.scrollTop;
  }

  /** Marks the lines of problems. */
  mark(problems) {
    const byLine = new Map(problems.filter((one) => one.line).map((one) => [one.line, one.problem]));
    [...this.gutter.children].forEach((line, at) => {
      if (byLine.has(at + 1)) {
        line.dataset.problem = "";
        line.title = byLine.get(at + 1);
      } else {
        delete line.dataset.problem;
        line.removeAttribute("title");
      }
    });
    this.area.setAttribute("aria-invalid", String(problems.length > 0));
  }

  /** Puts the cursor at a place, both from 1, and shows it. */
  goTo(line, column) {
    const lines = this.text.split("\n");
    const start = lines.slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0);
    const width = (lines[line - 1] ?? "").length;
    this.area.focus();
    this.area.setSelectionRange(start + Math.min(Math.max(column - 1, 0), width), start + width);
    this.area.scrollTop = Math.max(0, (line - 6) * LINE_HEIGHT);
  }

  /** Enter keeps the indentation. Tab stays what moves the focus, so that nobody is caught here. */
  indent(event) {
    if (event.key !== "Enter" || event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
    const before = this.text.slice(0, this.area.selectionStart).split("\n").at(-1);
    const depth = /^ */.exec(before)[0] + (/:\s*$/.test(before) ? "  " : "");
    if (!depth) return;
    event.preventDefault();
    this.area.setRangeText(`\n${depth}`, this.area.selectionStart, this.area.selectionEnd, "end");
    this.area.dispatchEvent(new Event("input"));
  }
}
