// A task: its page follows the events as they happen.

import { ApiError, download, get, post, stream } from "/static/js/api.js";
import { Charts } from "/static/js/charts.js";
import { fill, h, panel, state, table } from "/static/js/dom.js";
import { TERMINAL, amount, plain, shortTask, time } from "/static/js/format.js";
import { TaskModel } from "/static/js/task_model.js";
import * as parts from "/static/js/task_parts.js";

const TICK = 1000;
const ENDS = { completed: "The task has completed.", failed: "The task has failed.", cancelled: "The task was cancelled." };

export function task(page) {
  new TaskPage(page).start();
}

class TaskPage {
  constructor({ main, signal, argument, title, warn }) {
    Object.assign(this, { signal, id: argument, title, warn, model: new TaskModel(), task: null, stale: new Set(), drawing: false });
    this.charts = new Charts(signal);
    this.boxes = Object.fromEntries(
      ["title", "buttons", "phases", "members", "votes", "pings", "order", "progress", "result", "rewards", "audit", "log"]
        .map((name) => [name, h(name === "phases" ? "ol.phases" : "div", name === "phases" ? { "aria-label": "Phases" } : {})]));
    this.waiting = h("p.waiting", { role: "status" });
    this.live = h("span.quiet", { role: "status" });
    this.settled = h("span");
    this.lay(main);
  }

  lay(main) {
    const { boxes } = this;
    const body = (...children) => h("div.body", {}, ...children);
    fill(main,
      h("div.head", {}, boxes.title, boxes.buttons),
      boxes.phases, this.waiting,
      h("div.grid", {},
        h("div.column.w7", {},
          panel("Training", "", body(boxes.progress, this.charts.element)),
          panel("Members", "", boxes.members),
          panel("Pings and Borda points", "milliseconds", boxes.pings),
          panel("Votes for the committee", "the minority stays", boxes.votes)),
        h("div.column.w5", {},
          panel("Model", "", body(boxes.result)),
          panel("Rewards", this.settled, boxes.rewards),
          panel("Segments in the voted order", "", boxes.order),
          panel("Transcript", "signed messages of all", body(boxes.audit)),
          panel("Events", this.live, boxes.log))));
    this.audit();
  }

  async start() {
    try {
      await this.load();
    } catch (error) {
      if (!this.signal.aborted) this.warn(error.message);
      if (error instanceof ApiError && error.status === 404) return;
    }
    this.draw(Object.keys(this.boxes).concat("phase", "state"));
    const timer = setInterval(() => this.model.ended || this.draw(["phases"]), TICK);
    this.signal.addEventListener("abort", () => clearInterval(timer));
    await stream(`/api/tasks/${this.id}/events`, (event) => this.take(event), (up, error) => this.connected(up, error), this.signal);
  }

  async load() {
    this.task = (await get(`/api/tasks/${this.id}`, this.signal)).task;
    if (this.id !== this.task.id) history.replaceState(null, "", `/tasks/${this.task.id}`);
    this.id = this.task.id;
    this.title(`${this.task.name || shortTask(this.id)} ${this.task.state}`);
  }

  connected(up, error) {
    if (this.model.ended) return this.warn("");
    this.live.textContent = up ? "live" : "not connected";
    this.warn(up ? "" : `The events have stopped: ${plain(error?.message ?? "the connection is gone")}. Trying again.`);
  }

  take({ type, data }) {
    const event = JSON.parse(data);
    if (type === "waiting") {
      this.model.waiting = event.waiting;
      this.draw(["phase"]);
      return;
    }
    this.draw(this.model.take(event));
    if (event.kind === "ended") this.finish();
  }

  async finish() {
    this.live.textContent = "ended";
    try {
      await this.load();
    } catch (error) {
      if (!this.signal.aborted) this.warn(error.message);
    }
    this.draw(["state", "result"]);
  }

  /** Draws parts anew, all that changed within a frame at once; also while the page is not seen. */
  draw(names) {
    names.forEach((name) => this.stale.add(name));
    if (this.drawing) return;
    this.drawing = true;
    const now = () => {
      this.drawing = false;
      const stale = [...this.stale];
      this.stale.clear();
      if (!this.signal.aborted) stale.forEach((name) => DRAW[name]?.(this));
    };
    if (document.hidden) setTimeout(now, 200);
    else requestAnimationFrame(now);
  }

  get state() {
    return this.model.state || this.task?.state || "";
  }

  heading() {
    const over = TERMINAL.has(this.state);
    const ended = this.model.ended ?? this.task;
    fill(this.boxes.title,
      h("h1", {}, this.task?.name || ["Task ", h("code", {}, shortTask(this.id))]),
      h("p.quiet.headline", {}, state(this.state, !over), h("code.wrap", {}, this.id),
        this.task ? h("span", {}, `submitted ${time(this.task.created_at)}`) : null),
      over && ended?.reason ? h("p.wrap", { class: this.state === "failed" ? "bad" : "quiet" }, plain(ended.reason), ended.code ? ` (${ended.code})` : "") : null);
    const model = h("button.primary", { on: { click: () => download(`/api/tasks/${this.id}/model`) } }, "Download the model");
    const cancel = h("button.danger", { on: { click: () => this.cancel() } }, "Cancel the task");
    fill(this.boxes.buttons, h("div.actions", {}, this.state === "completed" ? model : null, over ? null : cancel));
  }

  /** Says what is waited for, and from whom; screen readers hear of it. */
  say() {
    const { model } = this;
    const waiting = plain(model.revision ? model.waiting : this.task?.waiting);
    const phase = model.phase || this.task?.phase || "starting";
    const going = phase === "training" && model.latest ? `epoch ${model.latest.epoch} of ${model.latest.epochs}` : waiting || "going on";
    const text = ENDS[this.state] ?? `${phase}: ${going}`;
    if (this.waiting.textContent !== text) this.waiting.textContent = text;
  }

  log() {
    const { model } = this;
    const before = this.boxes.log.firstChild;
    const [top, from] = [before?.scrollTop ?? 0, before ? before.scrollHeight : 0];
    const shown = model.log.toReversed().slice(0, 400);
    const rows = shown.map((one) => [one.revision, time(one.time), h(one.level ? `span.wrap.${one.level}` : "span.wrap", {}, plain(one.text))]);
    fill(this.boxes.log, table("Events", ["No.", "Time", "What happened"], rows, "None yet."));
    const box = this.boxes.log.firstChild;
    box.classList.add("log");
    if (top > 0) box.scrollTop = top + box.scrollHeight - from;
  }

  audit() {
    const found = h("div.findings", { role: "status" });
    const check = h("button", { on: { click: () => this.check(check, found) } }, "Check the transcript");
    const save = h("button", { on: { click: () => download(`/api/tasks/${this.id}/transcript`) } }, "Download it");
    fill(this.boxes.audit, h("p.quiet", {}, "Committee, Redis pair, order and rewards are derived from the signed messages once more."),
      h("div.actions.buttons", {}, check, save), found);
  }

  async check(button, found) {
    button.disabled = true;
    fill(found, h("p.quiet", {}, "Checking every signature…"));
    try {
      fill(found, parts.audit(await get(`/api/tasks/${this.id}/audit`, this.signal)));
    } catch (error) {
      if (!this.signal.aborted) fill(found, h("p.bad.wrap", {}, plain(error.message)));
    }
    button.disabled = false;
  }

  cancel() {
    const reason = h("input", { type: "text", id: "reason", maxlength: "200", placeholder: "cancelled by the user" });
    const problem = h("p.bad", { role: "alert" });
    const close = () => dialog.close();
    const confirm = async (event) => {
      event.preventDefault();
      try {
        await post(`/api/tasks/${this.id}/cancel`, { reason: reason.value }, this.signal);
        close();
      } catch (error) {
        problem.textContent = plain(error.message);
      }
    };
    const dialog = h("dialog", { "aria-labelledby": "cancel-title", on: { close: () => dialog.remove() } },
      h("form", { on: { submit: confirm } }, h("h2", { id: "cancel-title" }, "Cancel this task?"),
        h("p.quiet", {}, "Its nodes are told and stop. This cannot be taken back."),
        h("label.field.spaced", {}, h("span", {}, "Reason, told to the nodes"), reason), problem,
        h("div.actions", {}, h("button", { type: "button", on: { click: close } }, "Keep it running"), h("button.danger", {}, "Cancel the task"))));
    document.body.append(dialog);
    dialog.showModal();
    this.signal.addEventListener("abort", close);
  }
}

/** How each part is drawn. */
const DRAW = {
  state: (page) => (page.heading(), page.say()),
  phase: (page) => (page.say(), DRAW.phases(page)),
  phases: (page) => fill(page.boxes.phases, parts.phases(page.model, Date.now())),
  members: (page) => fill(page.boxes.members, parts.members(page.model)),
  votes: (page) => fill(page.boxes.votes, parts.votes(page.model)),
  pings: (page) => fill(page.boxes.pings, parts.pings(page.model)),
  order: (page) => fill(page.boxes.order, parts.order(page.model)),
  progress(page) {
    fill(page.boxes.progress, parts.progress(page.model));
    page.charts.show(page.model.points);
    page.say();
    DRAW.members(page);
  },
  result: (page) => fill(page.boxes.result, parts.result(page.model, page.task)),
  rewards(page) {
    const { rewards } = page.model;
    fill(page.boxes.rewards, parts.rewards(page.model));
    page.settled.textContent = rewards ? `${amount(rewards.payment_micro)}, ${rewards.settled ? "settled" : "claimed, not settled"}` : "";
  },
  log: (page) => page.log(),
};
