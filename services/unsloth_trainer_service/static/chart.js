// A chart of curves over the steps, drawn by uPlot.

import { element, setText, short } from "../assets/pages/words.js";
import { atStep, chartOf, NO_STEPS } from "./dashboard_words.js";

const uPlot = window.uPlot;
const LEAST_SPAN = 1e-6; // of an axis, as a share of its values
const WHOLE_STEPS = [1, 10, 100, 1e3, 1e4, 1e5, 1e6].flatMap((n) => [n, 2 * n, 5 * n]);

/** The value of a CSS variable. */
export const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Average over the steps before; corrected at the start, where there are none. */
export function smooth(values, weight) {
  let [sum, weights] = [0, 0];
  return values.map((value) => {
    if (value === null) return null;
    sum = weight * sum + (1 - weight) * value;
    weights = weight * weights + (1 - weight);
    return sum / weights;
  });
}

/** Values that differ by almost nothing are a flat line: between them there is no place for marks. */
function valueRange(_, low, high) {
  if (low === null) return [low, high];
  const least = Math.max(Math.abs(low), Math.abs(high)) * LEAST_SPAN;
  if (high - low < least) [low, high] = [low - least, high + least];
  return uPlot.rangeNum(low, high, 0.1, true);
}

/** Round numbers between two others for a logarithmic axis. */
function logTicks(low, high) {
  const digits = high / low > 50 ? [1] : high / low > 8 ? [1, 3] : [1, 1.5, 2, 3, 5, 7];
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    for (const digit of digits) ticks.push(Number((digit * 10 ** power).toPrecision(2)));
  }
  return ticks.filter((tick) => tick >= low && tick <= high);
}

export class Chart {
  #uplot = null;
  #shape = "";
  #named = []; // the curves that the legend has

  constructor(id, title) {
    this.title = title;
    this.plot = document.querySelector(`#${id} .plot`);
    this.legend = document.querySelector(`#${id} .legend`);
    new ResizeObserver(() => this.#uplot?.setSize(this.#size())).observe(this.plot);
    this.plot.addEventListener("keydown", (event) => this.#walk(event));
  }

  /** Draw curves {name, color, dashed, faint, beside, xs, ys}. Faint ones are not in the legend. */
  draw(curves, log = false) {
    const drawn = curves.filter(({ xs }) => xs.length);
    const visible = (y) => (log && !(y > 0) ? null : y);
    const tables = drawn.map(({ xs, ys }) => [[...xs], ys.map(visible)]);
    const data = tables.length ? uPlot.join(tables) : [[]];
    const looks = drawn.map(({ name, color, dashed, faint }) => [name, color, dashed, faint]);
    const shape = JSON.stringify([looks, log, style("--grid")]);
    this.#named = drawn.filter(({ faint }) => !faint);
    if (shape !== this.#shape) this.#build(drawn, log, data);
    else if (this.#uplot) this.#update(data);
    this.#shape = shape;
    this.#read();
    this.#describe();
  }

  #size() {
    return { width: this.plot.clientWidth, height: this.plot.clientHeight };
  }

  #update(data) {
    const [old, { min, max }] = [this.#uplot.data[0], this.#uplot.scales.x];
    const zoomed = min > old[0] || max < old.at(-1);
    this.#uplot.setData(data, !zoomed);
    if (zoomed) this.#uplot.setScale("x", { min, max });
  }

  #build(curves, log, data) {
    this.#uplot?.destroy();
    this.#uplot = null;
    this.legend.replaceChildren(...legendOf(this.#named));
    if (!curves.length) return;
    const grid = { stroke: style("--grid"), width: 1 };
    const axis = { stroke: style("--muted"), font: "12px system-ui, sans-serif", grid, ticks: { show: false } };
    const steps = { ...axis, size: 30, incrs: WHOLE_STEPS };
    const values = { ...axis, size: 58, values: (_, ticks) => ticks.map(short) };
    const logAxis = { splits: (_, __, low, high) => logTicks(low, high), filter: (_, ticks) => ticks };
    const logScale = { distr: 3, range: (_, low, high) => [low / 1.05, high * 1.05] };
    const range = (_, low, high) => (low === high ? [low - 1, high + 1] : [low, high]);
    const options = {
      ...this.#size(),
      legend: { show: false },
      cursor: { sync: { key: "steps", setSeries: false }, y: false, points: { size: 7 } },
      hooks: { setCursor: [() => this.#read()] },
      scales: { x: { time: false, range }, y: log ? logScale : { range: valueRange } },
      axes: [steps, log ? { ...values, ...logAxis } : values],
      series: [{}, ...curves.map(seriesOf)],
    };
    this.#uplot = new uPlot(options, data, this.plot);
  }

  /** Show in the legend what lies under the cursor, or the newest numbers. */
  #read() {
    const index = this.#uplot?.cursor.idx;
    const steps = this.#uplot?.data[0] ?? [];
    const step = steps[index ?? steps.length - 1];
    const [where] = this.legend.children;
    if (where) setText(where, atStep(step));
    this.legend.querySelectorAll("b").forEach((node, number) => {
      const { xs, ys, dashed } = this.#named[number];
      let at = xs.length - 1;
      while (at >= 0 && xs[at] > step) at--;
      const isOver = typeof index === "number" && step > xs.at(-1) && !dashed;
      setText(node, isOver ? "–" : short(ys[at]));
    });
  }

  #describe() {
    const points = Math.max(0, ...this.#named.map(({ xs }) => xs.length));
    const newest = this.#named.map(({ name, ys }) => `${name} ${short(ys.at(-1))}`);
    this.plot.dataset.points = points;
    this.plot.dataset.empty = points ? "" : NO_STEPS;
    this.plot.setAttribute("aria-label", chartOf(this.title, points, newest));
  }

  /** Move the cursor by the arrow keys. */
  #walk(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || !this.#uplot) return;
    event.preventDefault();
    const steps = this.#uplot.data[0];
    const from = this.#uplot.cursor.idx ?? (by > 0 ? -1 : steps.length);
    const index = Math.min(steps.length - 1, Math.max(0, from + by));
    this.#uplot.setCursor({ left: this.#uplot.valToPos(steps[index], "x"), top: 1 }, true, true);
  }
}

function seriesOf({ name, color, dashed, faint }) {
  return {
    label: name,
    stroke: faint ? `${color}55` : color,
    width: faint ? 1 : 2,
    dash: dashed ? [6, 4] : undefined,
    spanGaps: true,
    points: { show: dashed || ((u) => u.data[0].length < 3), size: dashed ? 6 : 4, fill: color },
  };
}

/** The step, then each curve; one that is `beside` another of its colour has no item of its own. */
function legendOf(curves) {
  const items = [element("li", "", { class: "step" })];
  curves.forEach(({ name, color, dashed, beside }, index) => {
    if (!beside || curves[index - 1]?.color !== color) {
      items.push(element("li", "", { class: dashed ? "dashed" : "" }));
      items.at(-1).style.setProperty("--color", color);
    }
    items.at(-1).append(element("span", name, { title: name }), element("b"));
  });
  return items;
}
