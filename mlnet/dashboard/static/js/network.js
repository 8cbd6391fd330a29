// This node and its peers.

import { ApiError, get, post } from "/static/js/api.js";
import { fill, facts, h, panel, table, track } from "/static/js/dom.js";
import { amount, between, bytes, count, duration, plain, short, shortTask, time } from "/static/js/format.js";
import { every } from "/static/js/refresh.js";

const SECONDS = 5;
const RECEIPTS = 20;

export function network({ main, signal, warn }) {
  const parts = Object.fromEntries(["node", "peers", "member", "earned", "limits"].map((name) => [name, h("div")]));
  const pings = new Map();
  const heading = h("p.quiet.wrap", {});
  const news = h("p.unseen", { role: "status" });
  let known = [];

  async function ping(peer) {
    pings.set(peer, "…");
    drawPeers();
    try {
      const { round_trips: trips } = await post("/api/ping", { peer, count: 3 }, signal);
      pings.set(peer, `${(1000 * Math.min(...trips)).toFixed(2)} ms`);
    } catch (error) {
      pings.set(peer, error instanceof ApiError ? plain(error.message) : "");
    }
    news.textContent = `${short(peer)}: ${pings.get(peer)}`;
    drawPeers();
  }

  const drawPeers = () => {
    const focused = parts.peers.contains(document.activeElement) ? document.activeElement.dataset.peer : null;
    fill(parts.peers, peerTable(known, pings, ping));
    if (focused) [...parts.peers.querySelectorAll("button")].find((one) => one.dataset.peer === focused)?.focus();
  };

  async function load() {
    const [status, peers, ledger, limits] = await Promise.all([
      get("/api/status", signal), get("/api/peers", signal), get("/api/ledger", signal), get("/api/limits", signal)]);
    known = peers.peers;
    fill(heading, h("code", {}, status.peer));
    fill(parts.node, node(status));
    fill(parts.member, memberships(status));
    fill(parts.earned, earned(ledger));
    fill(parts.limits, limitTable(limits.limits, parts.limits.querySelector("details")?.open ?? false));
    drawPeers();
  }

  fill(main,
    h("div.head", {}, h("div", {}, h("h1", {}, "Network"), heading)), news,
    h("div.grid", {},
      h("div.column.w8", {}, panel("Peers", "", parts.peers), panel("Tasks of others in which this node is a member", "", parts.member),
        panel("Earned", "", parts.earned)),
      h("div.column.w4", {}, panel("This node", "", h("div.body", {}, parts.node)), panel("Limits", "", parts.limits))));
  every(SECONDS, load, signal, warn);
}

function node(status) {
  const [best, ...others] = status.addresses;
  return facts(
    ["Version", status.version],
    ["Runs since", status.started_at ? `${time(status.started_at)} (${duration(between(status.started_at))})` : ""],
    ["Address", best ? h("code", {}, best) : "none"],
    ["Reached", status.reached ? h("span.good", {}, "a peer has dialled it") : h("span.warn", {}, "no peer has dialled it yet")],
    ["Also at", others.length ? h("span.addresses", {}, others.map((one) => h("code", {}, one.split("/p2p/")[0]))) : ""],
    ["Connected", `${count(status.connected_peers)} ${status.connected_peers === 1 ? "peer" : "peers"}`],
    ["Places", `${status.memberships.length} of ${status.most_memberships} taken`],
    ["For each task", [status.memory ? `${bytes(status.memory)} memory` : null, status.threads ? `${status.threads} ${status.threads === 1 ? "thread" : "threads"}` : null,
      status.disk ? `${bytes(status.disk)} disk` : null].filter(Boolean).join(", ")],
  );
}

function peerTable(peers, pings, ping) {
  const order = [...peers].sort((a, b) => Number(b.connected) - Number(a.connected) || (a.id < b.id ? -1 : 1));
  return table("Peers", ["Peer", "State", "Addresses", { title: "Round trip", number: true }, { title: "Clock", number: true }, "Ping"],
    order.map((peer) => [
      h("code", { title: peer.id }, short(peer.id)),
      h("span.state", { "data-state": peer.connected ? "completed" : "cancelled" }, peer.connected ? "connected" : "known"),
      h("span.addresses", {}, peer.addresses.slice(0, 4).map((one) => h("code", {}, one.split("/p2p/")[0])),
        peer.addresses.length > 4 ? h("span.quiet", {}, `and ${peer.addresses.length - 4} more`) : null),
      peer.round_trip === undefined ? "" : `${(1000 * peer.round_trip).toFixed(2)} ms`,
      clock(peer.clock_offset),
      h("span.actions", {}, h("button.small", { "data-peer": peer.id, "aria-label": `Ping ${short(peer.id)}`, on: { click: () => ping(peer.id) } }, "Ping"),
        h("span.quiet", {}, pings.get(peer.id) ?? "")),
    ]), "This node knows no peers. Start another one with the command that it printed.");
}

function clock(offset) {
  if (offset === undefined) return "";
  const text = `${offset < 0 ? "−" : "+"}${duration(Math.abs(offset))}`;
  return Math.abs(offset) > 60 ? h("span.warn", {}, text) : text;
}

function memberships(status) {
  return table("Tasks in which this node is a member", ["Task", "Client", "Phase", "Waits for"],
    status.memberships.map((one) => [h("code", { title: one.task }, shortTask(one.task)), h("code", { title: one.client }, short(one.client)),
      one.phase, h("span.quiet.wrap", {}, plain(one.waiting))]), "None at the moment.");
}

function earned(ledger) {
  const sum = h("p.body", {}, h("b", {}, amount(ledger.settled_micro)), " settled",
    ledger.claimed_micro ? [", ", h("b", {}, amount(ledger.claimed_micro)), " claimed and not settled"] : "");
  if (!ledger.receipts.length) return h("p.empty", {}, "Nothing yet.");
  return [sum, table("Receipts", ["Task", "Client", "State", { title: "Share", number: true }, { title: "Of", number: true }, { title: "When", number: true }],
    ledger.receipts.slice(0, RECEIPTS).map((one) => [h("code", { title: one.task }, shortTask(one.task)), h("code", { title: one.client }, short(one.client)),
      one.settled ? "settled" : h("span.warn", {}, "claimed"), amount(one.amount_micro), amount(one.payment_micro), time(one.recorded_at)]))];
}

/** The limits: first those of which something is used, the others on request. */
function limitTable(limits, open) {
  if (!limits.length) return h("p.empty", {}, "The node names none.");
  const [used, fixed] = [limits.filter((one) => one.used !== undefined), limits.filter((one) => one.used === undefined)];
  const name = (one) => one.name.replaceAll("_", " ");
  const now = table("Limits and what is used of them", ["Limit", { title: "Used", number: true }, { title: "Most", number: true }],
    used.map((one) => [name(one), [quantity(one.used, one.unit), one.most ? track(one.used / one.most, `${name(one)} used`) : ""],
      quantity(one.most, one.unit)]));
  if (!fixed.length) return now;
  const rest = table("Other limits", ["Limit", { title: "Most", number: true }], fixed.map((one) => [name(one), quantity(one.most, one.unit)]));
  return [now, h("details.more", { open }, h("summary", {}, `${fixed.length} more`), rest)];
}

function quantity(value, unit) {
  if (unit.startsWith("bytes")) return bytes(value) + unit.slice("bytes".length);
  return unit && !unit.startsWith("1/") ? `${count(value)} ${unit}` : count(value);
}
