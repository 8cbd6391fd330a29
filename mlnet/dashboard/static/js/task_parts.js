// The parts of a task's page, each made anew from what is known of the task.

import { facts, h, scroll, table, track } from "/static/js/dom.js";
import { amount, bytes, count, duration, figure, milliseconds, percent, plain, short } from "/static/js/format.js";
import { PHASES } from "/static/js/task_model.js";

const NAMES = { gathering: "gather", voting: "vote", measuring: "ping", ready: "ready", ballots: "ballots", order: "order", training: "train",
  scoring: "score", rewards: "reward" };
const EXPLAINED = {
  gathering: "free nodes answer; each starts a Redis server and has another node test its port",
  voting: "the minority of each vote stays, until there are no more nodes than seats",
  measuring: "the committee pings each other's Redis; a Borda count elects the pair",
  ready: "the replica follows the master, and every member signs the same decision",
  ballots: "secret ballots order the ten segments",
  order: "the first segments train, the last are held back",
  training: "each node trains on its share of the rows; the gradients are averaged",
  scoring: "the model is fetched by its hash and scored on the segments that nobody trained on",
  rewards: "nine tenths by rows trained, one tenth to the committee; all sign the split",
};

const name = (peer) => h("code", { title: peer }, short(peer));

/** The phases with the time spent in each. */
export function phases(model, now) {
  const present = PHASES.indexOf(model.phase);
  return PHASES.map((phase, at) => {
    const spent = model.spent(phase, now);
    const settled = phase === "rewards" && model.rewards !== null; // at once, where everybody had signed before
    const done = settled || (spent !== undefined && (model.state === "completed" || at < present));
    const here = phase === model.phase || (model.phase === "failing" && phase === "training");
    const broken = ["failed", "cancelled"].includes(model.state) && here;
    const stage = broken ? "broken" : model.ended ? (done || here ? "done" : "") : here ? "now" : done ? "done" : "";
    return h("li", { "data-at": stage || null, "aria-current": stage === "now" ? "step" : null, title: EXPLAINED[phase] },
      NAMES[phase], h("small", {}, spent === undefined ? "" : duration(spent)));
  });
}

/** Everybody with a part in the task. */
export function members(model) {
  const everybody = model.everybody();
  const ranks = new Map((model.bound?.nodes ?? []).map((peer, rank) => [peer, rank]));
  const columns = ["Node", "Part", { title: "Rank", number: true }, "State", "Redis port", { title: "Steps", number: true }, { title: "Reward", number: true }];
  const rows = everybody.map((peer) => {
    const answer = model.answers.get(peer);
    const rank = ranks.get(peer);
    const share = model.rewards?.split_micro[peer];
    return [name(peer), parts(model.roles(peer)), rank ?? "", standing(model, peer, answer),
      answer && !answer.refusal ? (answer.open ? h("code", {}, answer.host || "open") : h("span.warn", { title: answer.closed || null }, "closed")) : "",
      rank === undefined ? "" : stepsOf(model, rank), share === undefined ? "" : amount(share)];
  });
  return table("Members", columns, rows, "No node has answered yet.");
}

const parts = (roles) => h("span.actions", {}, roles.map((role) => h(role === "worker" ? "span.tag" : "span.tag.strong", {}, role)));
const stepsOf = (model, rank) => (model.ranks.has(rank) ? count(model.ranks.get(rank).step) : "");

function standing(model, peer, answer) {
  const change = model.changes.get(peer);
  const left = model.attempts.findLast((attempt) => attempt.without.includes(peer));
  if (answer?.refusal) return h("span.quiet.wrap", {}, `declined: ${plain(answer.refusal)}`);
  if (change?.change === "lost") return h("span.bad.wrap", {}, `lost: ${plain(change.reason)}`);
  if (left && !model.members.includes(peer)) return h("span.bad.wrap", {}, `left out of attempt ${left.attempt}: ${plain(left.reason)}`);
  if (change?.change === "noted") return h("span.warn.wrap", {}, plain(change.reason));
  if (model.members.includes(peer)) return "member";
  return model.members.length ? h("span.quiet", {}, "answered, not chosen") : "answered";
}

/** Who voted what in each cycle, and who stayed. */
export function votes(model) {
  if (!model.votes.length) return h("p.empty", {}, model.committee ? "Nobody had to vote." : "No cycle has ended yet.");
  const voters = [...new Set(model.votes.flatMap((vote) => [...Object.keys(vote.votes), ...vote.kept]))].sort();
  const columns = ["Node", ...model.votes.map((vote) => ({ title: `Cycle ${vote.cycle}` })), "Seat"];
  const rows = voters.map((peer) => [name(peer), ...model.votes.map((vote) => ballot(vote, peer)),
    model.committee?.committee.includes(peer) ? h("span.tag.strong", {}, "committee") : ""]);
  const reasons = model.votes.map((vote) => h("li", {}, `Cycle ${vote.cycle}: ${plain(vote.reason)}`));
  const seated = model.committee?.reason ? h("li", {}, `Committee: ${plain(model.committee.reason)}`) : null;
  return [table("Votes by cycle", columns, rows), h("div.body", {}, h("ul.reasons", {}, reasons, seated))];
}

function ballot(vote, peer) {
  const kept = vote.kept.includes(peer);
  if (!(peer in vote.votes)) return h("span.quiet", {}, kept ? "stays" : "");
  return h(kept ? "span.vote.kept" : "span.vote.out", { title: kept ? "stays" : "leaves" },
    vote.votes[peer], h("span.unseen", {}, kept ? " stays" : " leaves"));
}

/** The times between members as a heat map, and the Borda points that follow. */
export function pings(model) {
  const ranked = model.pings;
  if (!ranked) return h("p.empty", {}, "Not measured yet.");
  const known = ranked.matrix.flatMap((row, at) => row.filter((time, to) => to !== at && time > 0));
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const share = (time) => (high > low ? Math.log(time / low) / Math.log(high / low) : 0);
  const heads = ranked.members.map((peer) => h("th.number", { scope: "col" }, name(peer)));
  const rows = ranked.members.map((peer, from) => h("tr", {},
    h("th", { scope: "row" }, name(peer)),
    ranked.members.map((_, to) => cell(ranked.matrix[from]?.[to], from === to, share)),
    h("td.number", {}, ranked.points[from] ?? ""),
    h("td", {}, peer === ranked.master ? h("span.tag.strong", {}, "master") : peer === ranked.replica ? h("span.tag.strong", {}, "replica") : "")));
  const grid = h("table.heat", { "aria-label": "Pings in milliseconds, and Borda points" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "From \\ to"), heads, h("th.number", { scope: "col" }, "Borda"), h("th", { scope: "col" }, "Elected"))),
    h("tbody", {}, rows));
  const scale = known.length ? h("span.scale", {}, `${milliseconds(low)} ms`, h("i", { "aria-hidden": "true" }), `${milliseconds(high)} ms`) : null;
  return [scroll("Pings", grid), h("div.body", {}, scale, ranked.reason ? h("p.reason", {}, plain(ranked.reason)) : null)];
}

function cell(time, self, share) {
  if (self) return h("td.cell.self", {}, "–");
  if (time === undefined || time === null || time < 0) return h("td.cell.bad", {}, "none");
  const made = h("td.cell", {}, milliseconds(time));
  made.style.backgroundColor = `color-mix(in oklab, var(--heat) ${Math.round(100 * share(Math.max(time, 1)))}%, var(--soft))`;
  return made;
}

/** The segments in the voted order. */
export function order(model) {
  if (!model.order) return h("p.empty", {}, "Not voted yet.");
  const held = new Set(model.order.held_out);
  const counted = model.order.counted ?? [];
  const whose = counted.length ? h("p.reason", {}, `ballots of ${counted.map(short).join(" ")} count`) : null;
  const kept = h("p.reason", {}, `The last ${held.size} are held back: nobody trains on them, and the client scores the model there.`);
  return h("div.body", {}, h("ol.segments", {}, model.order.order.map((hash, at) =>
    h(held.has(hash) ? "li.held" : "li", { title: hash }, h("b", {}, at + 1), " ", h("small", {}, held.has(hash) ? "held" : "trains"),
      h("code", {}, hash.slice(0, 8))))), kept, whose);
}

/** How far the training is. */
export function progress(model) {
  const at = model.latest;
  if (!at) {
    const loading = model.phase === "training" ? "The nodes fetch their segments, load PyTorch and meet." : "It has not begun.";
    return h("p.quiet", {}, model.ended ? "There was no step of training." : loading);
  }
  const last = (field) => model.points.findLast((point) => point[field] !== undefined)?.[field];
  const shown = [["Epoch", `${count(at.epoch)} of ${count(at.epochs)}`], ["Step", `${count(at.step)} of ${count(at.steps)}`],
    ["Loss", figure(last("loss"))], ["Accuracy", last("accuracy") === undefined ? "" : percent(last("accuracy"))]];
  return [h("dl.figures", {}, shown.filter(([, value]) => value).map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value)))),
    track(at.steps ? at.step / at.steps : 0, "training")];
}

/** What came of it. */
export function result(model, task) {
  const { validated, scored } = model;
  const found = task?.result;
  if (!validated && !scored && !found?.model_sha256) return h("p.quiet", {}, model.ended ? "There is no model." : "There is no model yet.");
  const metrics = Object.entries(scored?.metrics ?? found?.metrics ?? {});
  const held = scored?.accuracy ?? found?.held_out_accuracy;
  const own = validated?.accuracy ?? found?.validation_accuracy;
  return [
    h("dl.figures", {}, [["Held-out accuracy", held], ["Validation accuracy", own]].filter(([, value]) => value !== undefined)
      .map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, percent(value))))),
    facts(...metrics.map(([metric, value]) => [metric, figure(value)]),
      ["Model", found?.model_size ? bytes(found.model_size) : ""],
      ["SHA-256", found?.model_sha256 || validated?.sha256 ? h("code", {}, found?.model_sha256 || validated.sha256) : ""],
      ["Signed by members", found?.attested_sha256 ? h("code", {}, found.attested_sha256) : ""],
      ["Directory", task?.output ? h("code", {}, task.output) : ""]),
  ];
}

/** Who gets what. */
export function rewards(model) {
  const shared = model.rewards;
  if (!shared) return h("p.empty", {}, model.ended ? "None was shared out." : "Shared out at the end.");
  const split = Object.entries(shared.split_micro).sort(([, a], [, b]) => b - a);
  return table("Rewards", ["Node", "", { title: "Share", number: true }], split.map(([peer, micro]) => [name(peer),
    track(shared.payment_micro ? micro / shared.payment_micro : 0, `share of ${short(peer)}`), amount(micro)]));
}

/** What follows from the signed messages. */
export function audit(found) {
  const list = (peers) => h("span.actions", {}, peers.map(name));
  return [
    found.lies.length
      ? h("p.bad", {}, `${found.lies.length} signed ${found.lies.length === 1 ? "statement does" : "statements do"} not follow from the rules:`)
      : h("p.good", {}, "Everything that was signed follows from the rules."),
    found.lies.length ? h("ul.reasons", {}, found.lies.map((lie) => h("li", {}, name(lie.peer), ` ${plain(lie.what)}`))) : null,
    found.missing.length ? h("ul.reasons", {}, found.missing.map((what) => h("li", {}, `not derived: ${plain(what)}`))) : null,
    facts(["Messages", count(found.messages)], ["Attempt", found.attempt || ""], ["Committee", found.committee.length ? list(found.committee) : ""],
      ["Master", found.master ? name(found.master) : ""], ["Replica", found.slave ? name(found.slave) : ""],
      ["Order", found.order.length ? h("code", {}, found.order.map((hash) => hash.slice(0, 6)).join(" ")) : ""],
      ["Model", found.model ? h("code", {}, found.model) : ""],
      ["Rewards", Object.keys(found.rewards).length ? (found.settled ? "settled" : "not settled") : ""]),
  ];
}
