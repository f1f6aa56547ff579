// The charts of the shown jobs.

import { Chart, smooth, style } from "./chart.js";
import { CHARTS, CURVES } from "./dashboard_words.js";
import { COLORS } from "./state.js";

export class Charts {
  #charts = Object.fromEntries(
    Object.entries(CHARTS).map(([name, title]) => [name, new Chart(`${name}-chart`, title)]),
  );

  /** Draw the runs of jobs, with their names, as the preferences are. */
  draw(runs, { smoothing, log }) {
    const curves = { loss: [], rate: [], norm: [], memory: [] };
    runs.forEach(({ name, run }, place) => {
      const mine = curvesOf(run, name, place, runs.length === 1, smoothing);
      for (const [chart, some] of Object.entries(mine)) curves[chart].push(...some);
    });
    for (const [name, chart] of Object.entries(this.#charts)) chart.draw(curves[name], log && name === "loss");
  }
}

/** The curves of a run by their chart; one that is alone has their names in place of its own. */
function curvesOf({ train, held }, name, place, alone, smoothing) {
  const color = style(COLORS[place]);
  const dashed = { color: alone ? style(COLORS[1]) : color, dashed: true, beside: true };
  const xs = train.steps;
  const faint = { name: "", color, faint: true, xs, ys: train.loss };
  const onGpu = train.gpu.some((bytes) => bytes !== null);
  return {
    loss: [
      ...(smoothing ? [faint] : []),
      { name: alone ? CURVES.train : name, color, xs, ys: smooth(train.loss, smoothing) },
      { name: CURVES.held, ...dashed, xs: held.steps, ys: held.loss },
    ],
    rate: [{ name: alone ? "" : name, color, xs, ys: train.rate }],
    norm: [{ name: alone ? "" : name, color, xs, ys: train.norm }],
    memory: [
      { name: alone ? CURVES.host : name, color, xs, ys: train.memory },
      ...(onGpu ? [{ name: CURVES.gpu, ...dashed, xs, ys: train.gpu }] : []),
    ],
  };
}
