// Writing a definition, with what is wrong with it shown as it is written, and submitting it.

import { ApiError, get, post, upload } from "/static/js/api.js";
import { fill, h, panel, track } from "/static/js/dom.js";
import { bytes, count, plain } from "/static/js/format.js";
import { Editor } from "/static/js/editor.js";

const DRAFT = "mlnet-draft";
const REST = 350;

export function submit(page) {
  new SubmitPage(page).start();
}

class SubmitPage {
  constructor({ main, signal, go, warn }) {
    Object.assign(this, { signal, go, warn, timer: 0, asked: 0, token: null, stored: new Map() });
    this.findings = h("div");
    this.verdict = h("p.verdict", { role: "status", id: "verdict" });
    this.editor = new Editor({ label: "Task definition, YAML", describedBy: "verdict", onInput: () => this.changed() });
    this.problem = h("div", { role: "alert" });
    this.button = h("button.primary", { type: "submit" }, "Submit");
    this.dataset = this.datasetFields();
    this.waiting = h("input", { type: "text", placeholder: "as the definition says", "aria-describedby": "waiting-hint", on: { input: () => this.renew() } });
    this.nodes = h("textarea", { rows: "2", spellcheck: "false", placeholder: "all", "aria-describedby": "nodes-hint", on: { input: () => this.renew() } });
    this.lay(main);
  }

  lay(main) {
    const field = (title, input, id, hint) => h("label.field", {}, h("span", {}, title), input, h("span.hint", { id }, hint));
    const options = panel("Options", "", h("div.body", {}, this.dataset,
      field("Waiting period", this.waiting, "waiting-hint", "how long nodes may answer, such as 30s or 15m"),
      field("Only these nodes", this.nodes, "nodes-hint", "peer ids, separated by spaces or lines"),
      this.problem, h("div.actions", {}, this.button)));
    fill(main, h("form", { on: { submit: (event) => (event.preventDefault(), this.submit()) } },
      h("div.head", {}, h("div", {}, h("h1", {}, "Submit a task"), this.verdict),
        h("div.actions", {}, h("button", { type: "button", on: { click: () => this.example() } }, "Start from the example"))),
      h("div.grid", {}, h("div.w7", {}, this.editor.element),
        h("div.column.w5", {}, panel("Check", "while you write", this.findings), options))));
  }

  async start() {
    const draft = sessionStorage.getItem(DRAFT);
    if (draft) {
      this.editor.text = draft;
      this.changed();
    } else await this.example();
  }

  async example() {
    try {
      this.editor.text = (await get("/api/example", this.signal)).definition;
      this.changed();
    } catch (error) {
      if (!this.signal.aborted) this.warn(error.message);
    }
  }

  /** A call that is repeated as it was has the same token; what was changed is another task. */
  renew() {
    this.token = null;
  }

  changed() {
    this.renew();
    sessionStorage.setItem(DRAFT, this.editor.text);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.validate(), REST);
  }

  async validate() {
    const number = ++this.asked;
    try {
      const found = await post("/api/validate", { definition: this.editor.text }, this.signal);
      if (number === this.asked) this.show(found);
    } catch (error) {
      if (!this.signal.aborted && number === this.asked) this.verdict.textContent = plain(error.message);
    }
  }

  show({ problems, summary, warnings }) {
    const { verdict, findings } = this;
    this.editor.mark(problems);
    const text = problems.length ? (problems.length === 1 ? "1 problem" : `${count(problems.length)} problems`) : "The definition is valid.";
    verdict.className = `verdict ${problems.length ? "bad" : "good"}`;
    if (verdict.textContent !== text) verdict.textContent = text;
    if (problems.length) fill(findings, h("ul.problems", {}, problems.map((one) => h("li", {}, this.finding(one)))));
    else fill(findings, h("div.body", {}, warnings.map((one) => h("p.warn", {}, plain(one))), h("pre.summary", {}, summary.join("\n"))));
  }

  finding({ path, problem, fix, line, column }) {
    const go = () => line && this.editor.goTo(line, column || 1);
    return h("button", { type: "button", on: { click: go } }, h("span.where", {}, line ? `line ${line}` : "–"),
      h("span", {}, path ? [h("code", {}, path), ": "] : null, problem), fix ? h("small", {}, fix) : null);
  }

  datasetFields() {
    const { progress, file, labels, path, link } = (this.inputs = {
      progress: h("div", { role: "status" }),
      file: h("input", { type: "file", "aria-label": "File to upload", on: { change: () => this.choose("blob") } }),
      labels: h("input", { type: "file", on: { change: () => this.choose("blob") } }),
      path: h("input", { type: "text", "aria-label": "Path on the node's machine", placeholder: "/data/digits.npz", on: { input: () => this.choose("path") } }),
      link: h("input", { type: "text", "aria-label": "Link", placeholder: "https://…", on: { input: () => this.choose("link") } }),
    });
    const choice = (value, text, ...more) => [h("label.choice", {}, h("input", { type: "radio", name: "dataset", value, checked: value === "definition",
      on: { change: () => this.renew() } }), text), ...more];
    return h("fieldset", {}, h("legend", {}, "Dataset"),
      choice("definition", "as the definition says: a path on the node's machine"),
      choice("path", "another path on the node's machine", path),
      choice("blob", "a file of this computer, uploaded to the node", file,
        h("label.choice.labels", {}, h("span.hint", {}, "labels, if they have a file of their own"), labels), progress),
      choice("link", "a link that the node fetches", link));
  }

  choose(value) {
    this.renew();
    this.dataset.querySelector(`[value=${value}]`).checked = true;
    if (value === "blob") this.stored = new Map();
  }

  async source() {
    const kind = this.dataset.querySelector(":checked").value;
    const { path, link, file, labels } = this.inputs;
    if (kind === "path") return { path: path.value.trim() };
    if (kind === "link") return { link: link.value.trim() };
    if (kind !== "blob") return null;
    const [features, apart] = [file.files[0], labels.files[0]];
    if (!features) throw new ApiError("choose the file to upload", 0);
    const source = await this.put(features);
    return apart ? { ...source, labels: await this.put(apart) } : source;
  }

  /** Uploads a file, once. */
  async put(file) {
    if (!this.stored.has(file)) this.stored.set(file, await this.send(file));
    return { blob_sha256: this.stored.get(file).sha256, name: file.name };
  }

  async send(file) {
    const { progress } = this.inputs;
    const say = (share) => fill(progress, h("span.hint", {}, `${file.name}, ${bytes(file.size)}`), track(share, "upload"));
    say(0);
    const stored = await upload(file, say, this.signal);
    fill(progress, h("span.hint.good", {}, `${file.name} is uploaded, ${bytes(stored.size)}`));
    return stored;
  }

  async submit() {
    this.button.disabled = true;
    fill(this.problem);
    try {
      const dataset = await this.source();
      this.token ??= crypto.randomUUID();
      const { task } = await post("/api/tasks", { definition: this.editor.text, dataset, waiting_period: this.waiting.value.trim(),
        allowed_nodes: this.nodes.value.split(/[\s,]+/).filter(Boolean), idempotency_token: this.token }, this.signal);
      sessionStorage.removeItem(DRAFT);
      this.go(`/tasks/${task.id}`);
    } catch (error) {
      if (this.signal.aborted) return;
      this.refused(error);
    }
    this.button.disabled = false;
  }

  refused(error) {
    const problems = error.problems ?? [];
    fill(this.problem, h("p.bad.wrap", {}, plain(error.message)),
      problems.length ? h("ul.problems", {}, problems.map((one) => h("li", {}, this.finding(one)))) : null);
  }
}
