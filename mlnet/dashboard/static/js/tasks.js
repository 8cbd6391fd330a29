// The list of tasks.

import { get } from "/static/js/api.js";
import { fill, h, panel, state, table, track } from "/static/js/dom.js";
import { TERMINAL, between, duration, plain, shortTask, time } from "/static/js/format.js";
import { every } from "/static/js/refresh.js";

const STATES = ["gathering", "forming", "training", "finishing", "completed", "failed", "cancelled"];
const SECONDS = 3;

export function tasks({ main, signal, go, warn }) {
  const list = h("div");
  const filter = h("select", {}, h("option", { value: "" }, "all states"), STATES.map((name) => h("option", { value: name }, name)));
  const pages = [""];
  let next = "";
  const turn = (change) => ({ on: { click: () => (change(), refresh()) } });
  const newer = h("button.small", turn(() => pages.pop()), "Newer");
  const older = h("button.small", turn(() => pages.push(next)), "Older");
  const turning = h("div.actions.pages", {}, newer, older);

  async function load() {
    const wanted = filter.value;
    const found = await get(`/api/tasks?${new URLSearchParams({ state: wanted, page_token: pages.at(-1) })}`, signal);
    next = found.next_page_token;
    newer.disabled = pages.length === 1;
    older.disabled = !next;
    turning.hidden = newer.disabled && older.disabled;
    fill(list, rows(found.tasks, wanted));
  }

  fill(main,
    h("div.head", {},
      h("div", {}, h("h1", {}, "Tasks"), h("p.quiet", {}, "of which this node is the client")),
      h("div.actions", {}, h("label", {}, h("span.unseen", {}, "State"), filter),
        h("button.primary", { on: { click: () => go("/submit") } }, "Submit a task"))),
    panel("Latest first", "", list),
    turning);
  filter.addEventListener("change", () => (pages.splice(1), refresh()));
  const refresh = every(SECONDS, load, signal, warn);
}

function rows(found, filtered) {
  const columns = ["Task", "State", "Phase", "Progress", { title: "Submitted", number: true }, { title: "Took", number: true }];
  const empty = filtered ? `No task is ${filtered}.` : "This node has submitted no task yet.";
  return table("Tasks", columns, found.map((one) => {
    const over = TERMINAL.has(one.state);
    return [
      h("a", { href: `/tasks/${one.id}` }, one.name ? [one.name, " "] : null, h("code", {}, shortTask(one.id))),
      state(one.state, !over),
      h("span.quiet", {}, over ? plain(one.reason) : one.phase),
      progress(one),
      time(one.created_at),
      duration(between(one.created_at, one.ended_at)),
    ];
  }), empty);
}

function progress({ id, state: name, progress: at }) {
  const share = name === "completed" ? 1 : at?.steps ? at.step / at.steps : null;
  return share === null ? "" : track(share, `progress of ${shortTask(id)}`);
}
