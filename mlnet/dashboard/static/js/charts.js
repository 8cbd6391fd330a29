// Curves of a training, drawn by uPlot in the colours of the page, and the same figures as a table.

import uPlot from "/static/vendor/uplot/uPlot.esm.js";
import { fill, h, table } from "/static/js/dom.js";
import { figure, percent } from "/static/js/format.js";

const HEIGHT = 190;
const MOST_ROWS = 200;
const WIDE = 50;

/** A curve over the steps. `value` formats a figure, `range` bounds the axis; without it, it is logarithmic where that tells more. */
class Curve {
  constructor(title, field, value, range = null) {
    Object.assign(this, { field, value, range, plot: null, points: [], wide: false });
    this.now = h("span");
    this.scale = h("span");
    this.box = h("div.plot", { role: "img", "aria-label": `${title}: no figures yet` });
    this.element = h("div.chart", {}, h("h3", {}, h("b", {}, title, this.scale), this.now), this.box);
    this.title = title;
    this.sizes = new ResizeObserver(() => this.plot?.setSize({ width: this.box.clientWidth, height: HEIGHT }));
    this.sizes.observe(this.box);
    fill(this.box, h("p.empty", {}, "no figures yet"));
  }

  show(points) {
    this.points = points.filter((point) => point[this.field] !== undefined);
    if (!this.points.length) return;
    const data = [this.points.map((point) => point.step), this.points.map((point) => point[this.field])];
    const wide = !this.range && isWide(data[1]);
    if (this.plot && wide === this.wide) this.plot.setData(data);
    else this.draw(data, wide);
    const last = this.points.at(-1);
    this.now.textContent = this.value(last[this.field]);
    this.box.setAttribute("aria-label",
      `${this.title}: ${this.points.length} points, from ${this.value(this.points[0][this.field])} to ${this.value(last[this.field])} at step ${last.step}`);
  }

  draw(data, wide) {
    this.plot?.destroy();
    this.wide = wide;
    this.scale.textContent = wide ? ", logarithmic" : "";
    fill(this.box);
    const [ink, line, accent] = ["--quiet", "--line", "--accent"].map(colour);
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1, size: 4 }, font: "11px system-ui, sans-serif" };
    this.plot = new uPlot({
      width: this.box.clientWidth,
      height: HEIGHT,
      padding: [8, 10, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { size: 7 }, drag: { x: true, y: false } },
      scales: { x: { time: false }, y: wide ? { distr: 3 } : { range: this.range ?? fromZero } },
      axes: [{ ...axis, size: 26, space: 60 }, { ...axis, size: 50, space: 34, values: (_, ticks) => ticks.map((tick) => this.tick(tick)), ...(wide && { splits: decades }) }],
      series: [{}, { stroke: accent, width: 1.5, points: { show: (plot) => plot.data[0].length < 60, size: 4, fill: accent }, spanGaps: true }],
      hooks: { setCursor: [(plot) => this.point(plot.cursor.idx)] },
    }, data, this.box);
  }

  tick(value) {
    if (value === null) return "";
    return this.field === "accuracy" ? `${+(100 * value).toFixed(1)} %` : `${+value.toPrecision(3)}`;
  }

  point(index) {
    const shown = this.points[index ?? this.points.length - 1];
    if (!shown) return;
    const where = index === null || index === undefined ? "" : `step ${shown.step}: `;
    this.now.textContent = where + this.value(shown[this.field]);
  }

  restyle() {
    if (!this.plot) return;
    this.plot.destroy();
    this.plot = null;
    this.show(this.points);
  }

  close() {
    this.sizes.disconnect();
    this.plot?.destroy();
  }
}

/** Whether a first figure that is far above the others would press them flat. */
function isWide(values) {
  const finite = values.filter((value) => value !== null);
  const [low, high] = [Math.min(...finite), Math.max(...finite)];
  return low > 0 && high / low > WIDE;
}

/** The powers of ten within an axis. */
function decades(_, axis, low, high) {
  const [from, to] = [Math.ceil(Math.log10(low) - 1e-9), Math.floor(Math.log10(high) + 1e-9)];
  return Array.from({ length: Math.max(0, to - from + 1) }, (_, at) => 10 ** (from + at));
}

const fromZero = (_, low, high) => uPlot.rangeNum(Math.min(0, low), high > low ? high : low + 1, 0.1, true);

/** The concrete value of a colour of the style sheet in the present theme. */
function colour(name) {
  const probe = h("span", { hidden: true });
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

export class Charts {
  constructor(signal) {
    this.curves = [
      new Curve("Loss", "loss", figure),
      new Curve("Accuracy on the validation rows", "accuracy", percent, (_, low) => [Math.max(0, Math.floor(10 * low - 0.5) / 10), 1]),
    ];
    this.points = [];
    this.rows = h("div");
    this.details = h("details", { on: { toggle: () => this.list() } }, h("summary", {}, "The figures as a table"), this.rows);
    this.element = h("div", {}, h("div.charts", {}, this.curves.map((curve) => curve.element)), this.details);
    addEventListener("mlnet-theme", () => this.curves.forEach((curve) => curve.restyle()), { signal });
    signal.addEventListener("abort", () => this.curves.forEach((curve) => curve.close()));
  }

  show(points) {
    this.points = points;
    for (const curve of this.curves) curve.show(points);
    this.list();
  }

  list() {
    if (!this.details.open) return;
    const every = Math.ceil(this.points.length / MOST_ROWS);
    const shown = this.points.filter((_, at) => at % every === 0 || at === this.points.length - 1);
    const columns = ["Step", { title: "Epoch", number: true }, { title: "Loss", number: true }, { title: "Accuracy", number: true }];
    fill(this.rows, table("Loss and accuracy by step", columns, shown.map((point) => [point.step, point.epoch, figure(point.loss),
      point.accuracy === undefined ? "" : percent(point.accuracy)]), "No figures yet."));
  }
}
