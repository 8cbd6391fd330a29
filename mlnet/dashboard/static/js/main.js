// The frame around the pages: token, addresses, colours, and what is shown when there is no token.

import { ApiError, get, keepToken, onUnauthorized, token } from "/static/js/api.js";
import { fill, h, panel } from "/static/js/dom.js";
import { short } from "/static/js/format.js";
import { network } from "/static/js/network.js";
import { submit } from "/static/js/submit.js";
import { task } from "/static/js/task.js";
import { tasks } from "/static/js/tasks.js";

const main = document.getElementById("main");
const notice = document.getElementById("notice");
const ROUTES = [
  [/^\/$/, network, "Network"],
  [/^\/tasks$/, tasks, "Tasks"],
  [/^\/tasks\/([0-9a-f]{4,64})$/, task, "Task"],
  [/^\/submit$/, submit, "Submit a task"],
];
let leave = new AbortController();

/** Shows the page of the address. */
function show() {
  leave.abort();
  leave = new AbortController();
  warn("");
  const path = location.pathname;
  for (const link of document.querySelectorAll(".bar nav a")) {
    const here = link.getAttribute("href");
    const current = here === path ? "page" : here !== "/" && path.startsWith(`${here}/`) ? "true" : null;
    if (current) link.setAttribute("aria-current", current);
    else link.removeAttribute("aria-current");
  }
  if (!token()) return gate("");
  const route = ROUTES.find(([pattern]) => pattern.test(path));
  if (!route) {
    title("Not found");
    return fill(main, h("h1", {}, "There is no such page"), h("p", {}, h("a", { href: "/" }, "Network")));
  }
  const [pattern, view, name] = route;
  title(name);
  fill(main);
  view({ main, signal: leave.signal, argument: pattern.exec(path)[1], go, title, warn });
}

/** Goes to another page. */
export function go(path) {
  history.pushState(null, "", path);
  show();
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
}

function title(name) {
  document.title = `${name} · mlnet`;
}

/** A line above the page; empty for none. */
function warn(text) {
  notice.hidden = !text;
  if (notice.textContent !== text) notice.textContent = text;
}

/** What is shown in place of a page when the token is missing or wrong. */
function gate(problem) {
  leave.abort();
  warn("");
  title("Token");
  const field = h("input", { type: "password", id: "token", autocomplete: "off", required: true, "aria-describedby": "token-hint" });
  const enter = (event) => {
    event.preventDefault();
    keepToken(field.value.trim().replace(/^.*#token=/, ""));
    start();
  };
  fill(main, h("div.gate", {}, panel("This page needs its token", "",
    h("form.body", { on: { submit: enter } },
      problem ? h("p.bad", { role: "alert" }, problem) : null,
      h("p", { id: "token-hint" }, "Open the address that ", h("code", {}, "mlnet-node"),
        " printed when it started, or paste it here."),
      h("label.field", {}, h("span", {}, "Token, or the whole address"), field),
      h("div.actions", {}, h("button.primary", {}, "Open"))))));
  field.focus();
}

/** The bar's line about the node. */
async function identify() {
  const line = document.getElementById("node");
  try {
    const { peer, version } = await get("/api/status");
    fill(line, h("span.dot.good", { "aria-hidden": "true" }), h("code", { title: peer }, short(peer)), `mlnet ${version}`);
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) return;
    fill(line, h("span.dot.bad", { "aria-hidden": "true" }), "the node does not answer");
  }
}

function colours() {
  const select = document.getElementById("theme");
  const apply = () => {
    if (select.value) document.documentElement.dataset.theme = select.value;
    else delete document.documentElement.dataset.theme;
    dispatchEvent(new Event("mlnet-theme"));
  };
  select.value = localStorage.getItem("mlnet-theme") ?? "";
  select.addEventListener("change", () => (localStorage.setItem("mlnet-theme", select.value), apply()));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
  apply();
}

/** Links within the page change it without loading it anew. */
function follow(event) {
  const link = event.target.closest?.("a[href^='/']");
  if (!link || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey || link.target) return;
  event.preventDefault();
  go(link.getAttribute("href"));
}

function start() {
  show();
  if (token()) identify();
}

/** The token comes behind #, which browsers send to nobody, and leaves the address at once. */
function takeToken() {
  const found = /^#token=(.+)$/.exec(location.hash);
  if (!found) return;
  keepToken(decodeURIComponent(found[1]));
  history.replaceState(null, "", location.pathname);
}

onUnauthorized(() => {
  sessionStorage.removeItem("mlnet-token");
  gate("The token is not, or no longer, right: the node may have been started anew.");
});
document.addEventListener("click", follow);
addEventListener("popstate", show);
addEventListener("hashchange", () => location.hash.startsWith("#token=") && (takeToken(), start()));
colours();
takeToken();
start();
