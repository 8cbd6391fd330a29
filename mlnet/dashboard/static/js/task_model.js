// What is known of a task: its events, one after the other. No element is touched here.

export const PHASES = ["gathering", "voting", "measuring", "ready", "ballots", "order", "training", "scoring", "rewards"];
const MOST_LOGGED = 2000;

export class TaskModel {
  constructor() {
    Object.assign(this, {
      revision: 0, state: "", phase: "", since: null, waiting: "", seconds: {}, attempt: 0, attempts: [], answers: new Map(), members: [],
      votes: [], committee: null, pings: null, bound: null, order: null, points: [], ranks: new Map(), latest: null, changes: new Map(),
      validated: null, scored: null, rewards: null, ended: null, log: [], unlogged: 0, from: null,
    });
  }

  /**
   * Takes an event in; one that was seen before is none.
   * @returns {string[]} the parts of the page that it changes
   */
  take(event) {
    if (event.revision <= this.revision) return [];
    this.revision = event.revision;
    this.from ??= event.time;
    const changed = (HANDLERS[event.kind] ?? unknown)(this, event[event.kind] ?? {}, event);
    const moved = this.state !== event.state;
    this.state = event.state;
    return moved ? ["state", ...changed] : changed;
  }

  /** Seconds in a phase up to a moment; undefined when the task was never in it. */
  spent(phase, now) {
    const running = phase === this.phase && !this.ended ? Math.max(0, (now - new Date(this.since)) / 1000) : undefined;
    const before = this.seconds[phase];
    return running === undefined ? before : running + (before ?? 0);
  }

  note(event, text, level = "") {
    if (this.log.length >= MOST_LOGGED) this.unlogged += this.log.splice(0, MOST_LOGGED / 10).length;
    this.log.push({ revision: event.revision, time: event.time, text, level });
  }

  /** Everybody who has a part in the task: the members by rank, then those who answered or are lost. */
  everybody() {
    const named = this.bound?.nodes.length ? this.bound.nodes : this.members;
    return [...new Set([...named, ...this.answers.keys(), ...this.changes.keys()])];
  }

  roles(peer) {
    const found = [];
    if (this.pings?.master === peer) found.push("master");
    if (this.pings?.replica === peer) found.push("replica");
    if ((this.bound ?? this.committee)?.committee.includes(peer)) found.push("committee");
    else if (this.members.includes(peer) && this.committee) found.push("worker");
    return found;
  }

  leave(time) {
    if (this.phase) this.seconds[this.phase] = (this.seconds[this.phase] ?? 0) + (new Date(time) - new Date(this.since)) / 1000;
  }
}

const HANDLERS = {
  phase(model, { phase, waiting }, event) {
    if (phase !== model.phase) {
      model.leave(event.time);
      model.phase = phase;
      model.since = event.time;
      model.note(event, `phase ${phase}`);
    }
    model.waiting = waiting;
    return ["phase", "members", "log"];
  },
  answer(model, answer, event) {
    model.answers.set(answer.peer, answer);
    const port = answer.open ? `its port is open at ${answer.host}` : `its port is closed${answer.closed ? `: ${answer.closed}` : ""}`;
    if (answer.refusal) model.note(event, `${answer.peer} does not take part: ${answer.refusal}`, "warn");
    else model.note(event, `${answer.peer} answered; ${port}`);
    return ["members", "log"];
  },
  members(model, chosen, event) {
    model.attempt = chosen.attempt;
    model.members = chosen.members;
    if (chosen.attempt > 1) {
      model.attempts.push(chosen);
      Object.assign(model, { votes: [], committee: null, pings: null, bound: null, order: null });
      const left = chosen.without.join(" ") || "nobody";
      model.note(event, `attempt ${chosen.attempt}, without ${left}: ${chosen.reason}`, "warn");
    } else model.note(event, `${chosen.members.length} members: ${chosen.members.join(" ")}`);
    return ["members", "votes", "pings", "order", "log"];
  },
  vote(model, vote, event) {
    model.votes.push(vote);
    model.note(event, `cycle ${vote.cycle}: ${vote.reason}`);
    return ["votes", "log"];
  },
  committee(model, elected, event) {
    model.committee = elected;
    model.note(event, `committee: ${elected.committee.join(" ")}${elected.reason ? ` (${elected.reason})` : ""}`);
    return ["votes", "members", "log"];
  },
  pings(model, ranked, event) {
    model.pings = { ...ranked, matrix: ranked.matrix.map((row) => row.microseconds) };
    if (ranked.master) model.note(event, `master ${ranked.master}, replica ${ranked.replica}`);
    else model.note(event, `no master: ${ranked.reason}`, "warn");
    return ["pings", "members", "log"];
  },
  bound(model, bound, event) {
    model.bound = bound;
    model.note(event, `the cluster is bound, decision ${bound.decision.slice(0, 12)}`);
    return ["members", "log"];
  },
  order(model, order, event) {
    model.order = order;
    const void_ = order.uncounted?.length ? `; the ballots of ${order.uncounted.join(" ")} did not count` : "";
    model.note(event, `${order.order.length} segments ordered, ${order.held_out.length} held back${void_}`, void_ && "warn");
    return ["order", "log"];
  },
  progress(model, at) {
    model.ranks.set(at.rank, at);
    if (!model.latest || at.step >= model.latest.step) model.latest = { ...model.latest, ...at };
    if ("loss" in at || "accuracy" in at) plotted(model.points, at);
    return ["progress"];
  },
  member(model, change, event) {
    model.changes.set(change.peer, change);
    model.note(event, `${change.peer} ${change.change}${change.reason ? `: ${change.reason}` : ""}`, change.change === "lost" ? "warn" : "");
    return ["members", "log"];
  },
  model(model, made, event) {
    if (made.scored) model.scored = made;
    else model.validated = made;
    model.note(event, made.scored ? "the model is scored on the segments that nobody trained on" : "the members have made a model");
    return ["result", "log"];
  },
  rewards(model, shared, event) {
    model.rewards = shared;
    model.note(event, shared.settled ? "the reward is shared out" : "a split of the reward is claimed and not settled");
    return ["rewards", "members", "log"];
  },
  notice(model, { text }, event) {
    model.note(event, text);
    return ["log"];
  },
  ended(model, ended, event) {
    model.leave(event.time);
    model.ended = { ...ended, time: event.time };
    model.waiting = "";
    model.note(event, `${ended.state}${ended.reason ? `: ${ended.reason}` : ""}`, ended.state === "failed" ? "bad" : "");
    return ["phase", "state", "members", "progress", "result", "log"];
  },
};

function unknown(model, _, event) {
  model.note(event, `an event of a kind that this page does not know: ${event.kind}`);
  return ["log"];
}

/** Adds a point in the order of steps; figures of the same step become one point. */
function plotted(points, { step, epoch, loss, accuracy }) {
  let at = points.length;
  while (at > 0 && points[at - 1].step > step) at -= 1;
  const point = points[at - 1]?.step === step ? points[at - 1] : { step, epoch };
  if (point !== points[at - 1]) points.splice(at, 0, point);
  if (loss !== undefined) point.loss = loss;
  if (accuracy !== undefined) point.accuracy = accuracy;
}
