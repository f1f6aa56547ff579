// The dashboard of the trainer service. Jobs come from GET /jobs every two seconds; the numbers
// and messages of those that are shown come as server-sent events. Whatever a job says goes into
// the page as text, never as markup.

const REFRESH_MS = 2000;
const DRAW_MS = 60;
const MOST_SHOWN = 5; // colours; and a browser has six connections to a host
const MOST_MESSAGES = 300;
const PAGE = 100; // of GET /jobs
const FINAL = new Set(["succeeded", "failed", "cancelled", "interrupted"]);
const STATES = new Set(["queued", "running", ...FINAL]);
const MARKS = { queued: "◷", running: "●", succeeded: "✓", failed: "✕", cancelled: "⊘", interrupted: "❚❚" };
const STORED = "trainer dashboard";

const $ = (id) => document.getElementById(id);
const jobs = new Map(); // id -> the newest record
const runs = new Map(); // id -> Run, of those that are shown
const settings = { smoothing: 0.6, log: false, steps: false, ...stored() };
const dark = matchMedia("(prefers-color-scheme: dark)");

// --- words and numbers -------------------------------------------------------------------------

/** Make an element with text and attributes. */
function element(name, text = "", attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** Set what changed, and nothing else: no flicker, no lost selection. */
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function short(number) {
  if (number === null || number === undefined) return "–";
  const size = Math.abs(number);
  if (size && (size < 1e-3 || size >= 1e6)) {
    return number.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
  }
  return String(Number(number.toPrecision(4)));
}

function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  const whole = Math.max(0, Math.round(seconds));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  if (hours >= 48) return `${Math.floor(hours / 24)} d ${hours % 24} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
}

let clockSkewMs = 0; // of the server against this device
const since = (time) => (Date.now() + clockSkewMs - Date.parse(time)) / 1000;
const nameOf = (job) => job.request.output_dir || job.job_id;

function spent(job) {
  if (!job.started_at) return null;
  return job.ended_at ? (Date.parse(job.ended_at) - Date.parse(job.started_at)) / 1000 : since(job.started_at);
}

function when(job) {
  if (job.status === "queued") return job.position ? `no. ${job.position} in the queue` : "in the queue";
  if (job.status === "running") return `for ${duration(spent(job))}`;
  const ago = since(job.ended_at ?? job.created_at);
  const past = ago < 60 ? "just now" : `${duration(ago - (ago % 60)).replace(" 0 s", "")} ago`;
  return job.started_at ? `${past}, took ${duration(spent(job))}` : past;
}

function fullTime(time) {
  return time ? new Date(time).toLocaleString() : "–";
}

// --- the API -----------------------------------------------------------------------------------

/** Return the JSON of an answer; throws an Error that says in words what went wrong. */
async function api(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("the service cannot be reached");
  }
  const date = Date.parse(response.headers.get("Date"));
  if (date) clockSkewMs = Math.abs(date - Date.now()) > 2000 ? date - Date.now() : 0;
  if (!response.ok) throw new Error(await complaint(response));
  return response.json();
}

async function complaint(response) {
  const body = await response.json().catch(() => null);
  return body?.description ?? body?.error?.message ?? `the service answered ${response.status}`;
}

const jobPath = (id, rest = "") => `jobs/${encodeURIComponent(id)}${rest}`;

function tell(message) {
  $("notice").firstElementChild.textContent = message;
  $("notice").hidden = false;
}

// --- a shown job: its events, and what they add up to ------------------------------------------

class Run {
  constructor(id) {
    this.id = id;
    this.last = 0; // id of the newest event: none is taken twice
    this.ended = false; // all events are here
    this.stopping = false;
    this.now = {};
    this.phase = "";
    this.messages = [];
    this.train = { steps: [], loss: [], rate: [], norm: [] };
    this.eval = { steps: [], loss: [] };
  }

  open() {
    this.close();
    this.ended = false;
    const source = new EventSource(jobPath(this.id, `/events?after=${this.last}`));
    this.source = source;
    source.addEventListener("init", (event) => jobs.set(this.id, JSON.parse(event.data)));
    for (const type of ["status", "progress", "log", "complete", "error"]) {
      source.addEventListener(type, (event) => {
        if (this.source !== source) return;
        // The job's own "error" has data; the connection's has none.
        if (event.data === undefined) this.disconnected();
        else this.take(type, Number(event.lastEventId), JSON.parse(event.data));
        drawSoon();
      });
    }
  }

  close() {
    this.source?.close();
    this.source = null;
  }

  /** Open it if there is something to come that nobody listens for. */
  keepOpen() {
    const open = this.source && this.source.readyState !== EventSource.CLOSED;
    const job = jobs.get(this.id);
    const over = this.ended && (!job || (FINAL.has(job.status) && job.attempt === this.attempt));
    if (!open && !over) this.open();
  }

  disconnected() {
    const job = jobs.get(this.id);
    if (this.source.readyState === EventSource.CONNECTING && !(job && FINAL.has(job.status))) return;
    this.ended = Boolean(job && FINAL.has(job.status));
    this.attempt = job?.attempt;
    this.close();
    if (!job) find(this.id);
  }

  take(type, id, data) {
    if (id <= this.last) return;
    this.last = id;
    if (type === "progress") return this.step(data);
    if (type === "status") this.status(data);
    if (type === "complete") jobs.set(this.id, { ...jobs.get(this.id), result: data });
    const level = type === "error" ? "ERROR" : (data.level ?? "INFO");
    const text = type === "complete" ? `Done: ${data.model ?? "the result is there"}` : data.message;
    this.note(String(level).toUpperCase(), String(text ?? type));
  }

  status(data) {
    if (!STATES.has(data.status)) {
      this.phase = String(data.message ?? data.status);
      return;
    }
    this.stopping = false;
    this.phase = "";
    const job = jobs.get(this.id);
    if (job) jobs.set(this.id, { ...job, status: data.status });
  }

  step(data) {
    this.now = { ...this.now, ...data };
    const { train, eval: held } = this;
    if (data.eval_loss !== undefined && data.eval_loss !== null) {
      rewind(held, data.step);
      held.steps.push(data.step);
      held.loss.push(data.eval_loss);
      this.note("EVAL", `loss ${short(data.eval_loss)} on the held-out examples`);
      return;
    }
    // A job that goes on from a checkpoint does some steps again.
    rewind(train, data.step);
    rewind(held, data.step);
    train.steps.push(data.step);
    train.loss.push(data.loss ?? null);
    train.rate.push(data.learning_rate ?? null);
    train.norm.push(data.grad_norm ?? null);
    const took = data.step_time ? `, ${duration(data.step_time * 10) && short(data.step_time)} s` : "";
    this.note("STEP", `loss ${short(data.loss)}, learning rate ${short(data.learning_rate)}${took}`);
  }

  note(level, text) {
    const kept = this.messages;
    kept.push({ level, text, step: this.now.step, number: this.last });
    if (kept.length > 2 * MOST_MESSAGES) {
      const isStep = (message) => message.level === "STEP";
      const notes = kept.filter((message) => !isStep(message)).slice(-MOST_MESSAGES);
      const steps = kept.filter(isStep).slice(-MOST_MESSAGES);
      this.messages = [...notes, ...steps].sort((a, b) => a.number - b.number);
    }
  }
}

/** Forget what a curve has from a step on. */
function rewind(curve, step) {
  while (curve.steps.length && curve.steps.at(-1) >= step) {
    for (const column of Object.values(curve)) column.pop();
  }
}

// --- charts ------------------------------------------------------------------------------------

/** Average over the steps before; corrected at the start, where there are none. */
function smooth(values, weight) {
  let [mean, sum] = [0, 0];
  return values.map((value) => {
    if (value === null) return null;
    mean = weight * mean + (1 - weight) * value;
    sum = weight * sum + (1 - weight);
    return mean / sum;
  });
}

/** Ticks at 1, 1.5, 2, 3, 5, 7 and 10 of each power of ten; fewer where there are many powers. */
function logTicks(low, high) {
  const digits = high / low > 50 ? [1] : high / low > 8 ? [1, 3] : [1, 1.5, 2, 3, 5, 7];
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    for (const digit of digits) ticks.push(Number((digit * 10 ** power).toPrecision(2)));
  }
  return ticks.filter((tick) => tick >= low && tick <= high);
}

class Chart {
  constructor(id, title) {
    this.title = title;
    this.plot = document.querySelector(`#${id} .plot`);
    this.legend = document.querySelector(`#${id} .legend`);
    new ResizeObserver(() => this.uplot?.setSize(this.size())).observe(this.plot);
    this.plot.addEventListener("keydown", (event) => this.walk(event));
  }

  size() {
    return { width: this.plot.clientWidth, height: this.plot.clientHeight };
  }

  /** Draw curves {name, color, dash, faint, points, xs, ys}; each has its own steps. */
  draw(curves, log = false) {
    curves = curves.filter((curve) => curve.xs.length);
    const visible = (y) => (log && !(y > 0) ? null : y);
    const data = curves.length ? uPlot.join(curves.map(({ xs, ys }) => [xs, ys.map(visible)])) : [[]];
    const look = curves.map(({ name, color, dash, faint, points }) => [name, color, dash, faint, points]);
    const shape = JSON.stringify([look, log, dark.matches]);
    if (shape !== this.shape) this.build(curves, log, data);
    else if (this.uplot) this.update(data);
    this.shape = shape;
    this.curves = curves;
    this.read();
    const steps = Math.max(0, ...curves.map((curve) => curve.xs.length));
    const lasts = curves.filter((curve) => !curve.faint).map(({ name, ys }) => `${name} ${short(ys.at(-1))}`);
    this.plot.dataset.points = steps;
    this.plot.setAttribute("aria-label", `${this.title}, ${steps} points. ${lasts.join(", ")}`);
  }

  update(data) {
    const [old, { min, max }] = [this.uplot.data[0], this.uplot.scales.x];
    const zoomed = min > old[0] || max < old.at(-1);
    this.uplot.setData(data, !zoomed);
    if (zoomed) this.uplot.setScale("x", { min, max });
  }

  build(curves, log, data) {
    this.uplot?.destroy();
    this.uplot = null;
    this.legend.replaceChildren(...curves.filter((curve) => !curve.faint).map(legendItem));
    if (!curves.length) return;
    const style = getComputedStyle(document.documentElement);
    const [text, grid] = [style.getPropertyValue("--muted"), style.getPropertyValue("--grid")];
    const font = "12px system-ui, sans-serif";
    const axis = { stroke: text, font, grid: { stroke: grid, width: 1 }, ticks: { show: false } };
    const values = (_, ticks) => ticks.map(short);
    const range = (low, high) => (low === high ? [low - 1, high + 1] : [low, high]);
    this.uplot = new uPlot({
      ...this.size(),
      legend: { show: false },
      cursor: { sync: { key: "steps", setSeries: false }, points: { size: 7 }, y: false },
      hooks: { setCursor: [() => this.read()] },
      scales: {
        x: { time: false, range: (_, low, high) => range(low, high) },
        y: log ? { distr: 3, range: (_, low, high) => [low / 1.05, high * 1.05] } : {},
      },
      axes: [
        { ...axis, size: 30, incrs: [1, 2, 5].flatMap((n) => [1, 10, 100, 1e3, 1e4, 1e5, 1e6].map((p) => n * p)).sort((a, b) => a - b) },
        { ...axis, size: 58, values, ...(log && { splits: (_, __, low, high) => logTicks(low, high), filter: (_, ticks) => ticks }) },
      ],
      series: [{}, ...curves.map((curve) => ({
        label: curve.name,
        stroke: curve.faint ? `${curve.color}55` : curve.color,
        width: curve.faint ? 1 : 2,
        dash: curve.dash ? [6, 4] : undefined,
        spanGaps: true,
        points: { show: curve.points || ((u) => u.data[0].length < 3), size: curve.points ? 6 : 4, fill: curve.color },
      }))],
    }, data, this.plot);
  }

  /** Show in the legend what lies under the cursor, or the newest numbers. */
  read() {
    const at = this.uplot?.cursor.idx;
    const step = at === null || at === undefined ? null : this.uplot.data[0][at];
    const shown = (this.curves ?? []).filter((curve) => !curve.faint);
    this.legend.querySelectorAll("b").forEach((node, index) => {
      const { xs, ys } = shown[index] ?? { xs: [], ys: [] };
      let last = xs.length - 1;
      while (step !== null && last > 0 && xs[last] > step) last--;
      setText(node, `${short(ys[last])}${step === null || !shown[index] ? "" : ` at ${xs[last]}`}`);
    });
  }

  /** Move the cursor by the arrow keys. */
  walk(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || !this.uplot) return;
    event.preventDefault();
    const steps = this.uplot.data[0];
    const now = this.uplot.cursor.idx ?? (by > 0 ? -1 : steps.length);
    const index = Math.min(steps.length - 1, Math.max(0, now + by));
    this.uplot.setCursor({ left: this.uplot.valToPos(steps[index], "x"), top: 1 });
  }
}

function legendItem({ name, color, dash }) {
  const item = element("li", "", { class: dash ? "dash" : "" });
  item.style.setProperty("--color", color);
  item.append(element("span", name), element("b", "–"));
  return item;
}

const charts = {
  loss: new Chart("loss-chart", "Loss"),
  rate: new Chart("rate-chart", "Learning rate"),
  norm: new Chart("norm-chart", "Gradient norm"),
};

function drawCharts() {
  const style = getComputedStyle(document.documentElement);
  const colors = [1, 2, 3, 4, 5].map((number) => style.getPropertyValue(`--curve-${number}`).trim());
  const [loss, rate, norm] = [[], [], []];
  const alone = shown().length === 1;
  shown().forEach((id, index) => {
    const { train, eval: held } = runs.get(id);
    const color = colors[index];
    const name = jobs.has(id) ? nameOf(jobs.get(id)) : id;
    const label = (what) => (alone ? what : what === "train" ? name : `${name}, ${what}`);
    if (settings.smoothing > 0) loss.push({ name: "", color, faint: true, xs: train.steps, ys: train.loss });
    loss.push({ name: label("train"), color, xs: train.steps, ys: smooth(train.loss, settings.smoothing) });
    loss.push({ name: label("eval"), color: alone ? colors[1] : color, dash: true, points: true, xs: held.steps, ys: held.loss });
    rate.push({ name: alone ? "learning rate" : name, color, xs: train.steps, ys: train.rate });
    norm.push({ name: alone ? "norm" : name, color, xs: train.steps, ys: train.norm });
  });
  charts.loss.draw(loss, settings.log);
  charts.rate.draw(rate);
  charts.norm.draw(norm);
}

// --- the list ----------------------------------------------------------------------------------

const cards = new Map(); // id -> list item

function setStatus(node, status, stopping = false) {
  node.className = `status ${status}`;
  setText(node, `${MARKS[status] ?? "?"} ${stopping ? "saving and stopping" : status}`);
}

function newCard(id) {
  const card = $("job-card").content.firstElementChild.cloneNode(true);
  card.dataset.job = id;
  card.querySelector(".pick").addEventListener("click", () => choose(id));
  const box = card.querySelector("input");
  box.addEventListener("change", () => compare(id, box.checked));
  cards.set(id, card);
  return card;
}

function fillCard(card, job) {
  const part = (name) => card.querySelector(`.${name}`);
  const { step, total_steps: total, loss, progress = 0 } = job.progress;
  setStatus(part("status"), job.status, runs.get(job.job_id)?.stopping);
  setText(part("when"), when(job));
  part("when").title = `Queued ${fullTime(job.created_at)}, started ${fullTime(job.started_at)}, ended ${fullTime(job.ended_at)}`;
  setText(part("name"), nameOf(job));
  setText(part("base"), job.request.model_name ?? job.job_id);
  setText(part("steps"), step === undefined ? "no step yet" : `step ${step} / ${total ?? "?"}`);
  setText(part("loss"), loss === undefined ? "" : `loss ${short(loss)}`);
  part("track").firstElementChild.style.width = `${job.status === "succeeded" ? 100 : progress}%`;
  card.className = `job ${job.status}`;
  const selected = job.job_id === choice.job;
  part("pick").setAttribute("aria-current", String(selected));
  const box = card.querySelector("input");
  box.checked = selected || choice.with.includes(job.job_id);
  box.disabled = selected || (!box.checked && shown().length >= MOST_SHOWN);
  box.setAttribute("aria-label", `Compare ${nameOf(job)}`);
}

/** Those at work first, then the queue in its order, then the others, newest first. */
function ordered() {
  const rank = ({ status }) => ["running", "queued"].indexOf(status) >>> 0;
  const newest = (a, b) => (a.created_at < b.created_at ? 1 : -1);
  const place = (a, b) => (a.position && b.position ? a.position - b.position : newest(a, b));
  return [...jobs.values()].sort((a, b) => rank(a) - rank(b) || place(a, b));
}

function drawList() {
  const all = ordered();
  const focused = document.activeElement;
  all.forEach((job, index) => {
    const card = cards.get(job.job_id) ?? newCard(job.job_id);
    const there = $("job-list").children[index];
    if (there !== card) $("job-list").insertBefore(card, there ?? null);
    fillCard(card, job);
  });
  if (focused !== document.activeElement) focused?.focus(); // it was moved
  const count = (status) => all.filter((job) => job.status === status).length;
  setText($("summary"), all.length ? `${count("running")} running, ${count("queued")} in the queue` : "");
  $("jobs").hidden = !all.length;
  $("empty").hidden = Boolean(all.length) || !loaded;
}

// --- the details -------------------------------------------------------------------------------

function drawDetails() {
  const job = jobs.get(choice.job);
  $("details").hidden = !job;
  const run = runs.get(choice.job);
  if (!job || !run) return;
  const now = { ...job.progress, ...run.now };
  const percent = job.status === "succeeded" ? 100 : (now.progress ?? 0);
  setText($("name"), nameOf(job));
  setText($("subtitle"), `${job.request.model_name ?? ""} · ${job.job_id}`);
  setStatus($("status"), job.status, run.stopping);
  $("cancel").hidden = !["queued", "running", "interrupted"].includes(job.status);
  $("cancel").disabled = run.stopping;
  $("resume").hidden = !job.resumable || !FINAL.has(job.status);
  $("progress").value = percent;
  $("progress").className = job.status;
  const phase = job.status === "running" ? run.phase || "starting" : when(job);
  setText($("phase"), `${Math.floor(percent)} % · ${phase}`);
  const reason = job.status === "succeeded" ? "" : (job.error ?? job.reason ?? "");
  $("reason").hidden = !reason;
  setText($("reason"), reason);
  drawTiles(job, now);
  drawResult(job);
  drawLogs(run);
  drawSettings(job);
  drawDifferences();
  drawCharts();
  document.title = job.status === "running" ? `${Math.floor(percent)} % · ${nameOf(job)}` : `${job.status} · ${nameOf(job)}`;
}

function drawTiles(job, now) {
  const running = job.status === "running";
  pairs($("tiles"), [
    ["Step", now.step === undefined ? "–" : `${now.step} / ${now.total_steps ?? "?"}`],
    ["Epoch", now.epoch === undefined ? "–" : now.epoch.toFixed(2)],
    ["Loss", short(now.loss)],
    ["Eval loss", short(now.eval_loss)],
    ["Time left", running ? duration(now.eta_seconds) : "–"],
    ["Per step", now.step_time ? `${short(now.step_time)} s` : "–"],
    [running ? "Running for" : "Took", duration(spent(job))],
    ["Attempt", String(job.attempt || "–")],
  ]);
}

function pairs(list, entries) {
  if (list.children.length !== entries.length) {
    list.replaceChildren(...entries.map(() => {
      const pair = element("div");
      pair.append(element("dt"), element("dd"));
      return pair;
    }));
  }
  entries.forEach(([name, value], index) => {
    setText(list.children[index].firstChild, name);
    setText(list.children[index].lastChild, value);
  });
}

function drawResult(job) {
  const model = job.status === "succeeded" ? (job.result?.model ?? nameOf(job)) : "";
  $("result").hidden = !model;
  setText($("model"), model);
  setText($("archive"), job.result?.archive ? `Its files: ${job.result.archive.name}` : "");
}

function drawLogs(run) {
  const wanted = run.messages.filter(({ level }) => settings.steps || level !== "STEP").slice(-MOST_MESSAGES);
  const list = $("logs");
  const shape = `${run.id} ${run.last} ${settings.steps}`;
  if (list.dataset.shape === shape) return;
  list.dataset.shape = shape;
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.replaceChildren(...wanted.map(({ level, text, step }) => {
    const item = element("li", "", { class: level.toLowerCase().replace(/[^a-z]/g, "") });
    item.append(element("span", step === undefined ? "" : `step ${step}`), element("span", level), element("span", text));
    return item;
  }));
  if (atEnd) list.scrollTop = list.scrollHeight;
}

const written = (value) => (typeof value === "string" ? value : JSON.stringify(value));

function drawSettings(job) {
  const given = Object.entries(job.request).filter(([, value]) => value !== null);
  pairs($("settings"), [["job_id", job.job_id], ...given.map(([name, value]) => [name, written(value)])]);
}

/** A table of the settings in which the compared jobs differ. */
function drawDifferences() {
  const compared = shown().map((id) => jobs.get(id)).filter(Boolean);
  $("differences").hidden = compared.length < 2;
  if (compared.length < 2) return;
  const names = [...new Set(compared.flatMap((job) => Object.keys(job.request)))];
  const differing = names.filter((name) => name !== "output_dir" && new Set(compared.map((job) => written(job.request[name]))).size > 1);
  const row = (kind, cells) => {
    const made = element("tr");
    made.append(...cells.map((text, index) => element(index ? kind : "th", text, { scope: index ? "col" : "row" })));
    return made;
  };
  const rows = [row("th", ["", ...compared.map(nameOf)]), row("td", ["last loss", ...compared.map((job) => short(job.progress.loss))])];
  rows.push(...differing.map((name) => row("td", [name, ...compared.map((job) => written(job.request[name] ?? null))])));
  const table = $("differences").querySelector("table");
  const shape = JSON.stringify(rows.map((made) => [...made.children].map((cell) => cell.textContent)));
  if (table.dataset.shape !== shape) table.replaceChildren(...rows);
  table.dataset.shape = shape;
}

// --- cancel, resume, ask -----------------------------------------------------------------------

async function act(path, options) {
  const id = choice.job;
  try {
    await api(path, options);
    jobs.set(id, await api(jobPath(id)));
  } catch (error) {
    tell(`${nameOf(jobs.get(id))}: ${error.message}`);
  }
  await refresh();
}

$("cancel").addEventListener("click", () => {
  const job = jobs.get(choice.job);
  const running = job.status === "running";
  $("confirm").querySelector("p").textContent =
    `${nameOf(job)} ${running ? "finishes its step, saves and stops. It can be resumed." : "will not be run. It can be resumed later."}`;
  $("confirm").returnValue = "";
  $("confirm").dataset.job = choice.job;
  $("confirm").showModal();
});

$("confirm").addEventListener("close", () => {
  const id = $("confirm").dataset.job;
  if ($("confirm").returnValue !== "cancel" || id !== choice.job) return;
  runs.get(id).stopping = jobs.get(id).status === "running";
  act(jobPath(id), { method: "DELETE" });
});

$("resume").addEventListener("click", () => act(jobPath(choice.job, "/resume"), { method: "POST" }));

let asking = null; // what ends the answer that is being written

$("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  hush();
  const mine = (asking = new AbortController());
  $("answer").hidden = $("hush").hidden = false;
  $("answer").textContent = "";
  $("answer-end").textContent = "thinking …";
  const end = (text) => { if (asking === mine) setText($("answer-end"), text); };
  try {
    end(await answer($("model").textContent, $("prompt").value, mine));
  } catch (error) {
    end(mine.signal.aborted ? "stopped" : `No answer: ${error.message}`);
  }
  if (asking === mine) hush();
});

/** Write the answer into the page as it comes, and return how it ended. */
async function answer(model, prompt, { signal }) {
  const body = JSON.stringify({ model_path: model, prompt, stream: true });
  const response = await fetch("inference", { method: "POST", headers: { "Content-Type": "application/json" }, body, signal });
  if (!response.ok) throw new Error(await complaint(response));
  const decoder = new TextDecoder();
  let buffer = "";
  let end = "the stream broke off";
  for (const reader = response.body.getReader(); ;) {
    const { done, value } = await reader.read();
    buffer += decoder.decode(value, { stream: !done });
    const events = buffer.split("\n\n");
    buffer = events.pop();
    for (const data of events.flatMap((one) => one.match(/^data: (.*)$/m)?.[1] ?? [])) {
      const piece = JSON.parse(data);
      if (piece.description) throw new Error(piece.description);
      if (piece.text) $("answer").append(piece.text);
      if (piece.done) end = `${piece.completion_tokens} tokens, ended by ${piece.finish_reason}`;
      else setText($("answer-end"), "writing …");
    }
    if (done) return end;
  }
}

function hush() {
  asking?.abort();
  asking = null;
  $("hush").hidden = true;
}

$("hush").addEventListener("click", () => { $("answer-end").textContent = "stopped"; hush(); });

// --- what is chosen: kept in the address, so that a reload or a link shows the same ------------

const choice = { job: "", with: [] };
const shown = () => (choice.job ? [choice.job, ...choice.with] : []);

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  setChoice(given.get("job") ?? "", given.getAll("with"));
}

function setChoice(job, others) {
  if (job !== choice.job) {
    hush();
    $("answer").hidden = true;
    $("answer-end").textContent = "";
  }
  choice.job = job;
  choice.with = [...new Set(others)].filter((id) => id !== job).slice(0, MOST_SHOWN - 1);
  for (const [id, run] of runs) {
    if (shown().includes(id)) continue;
    run.close();
    runs.delete(id);
  }
  for (const id of shown()) if (!runs.has(id)) runs.set(id, new Run(id));
  if (loaded) listen();
  drawSoon();
}

function choose(job, others = choice.with) {
  const given = new URLSearchParams([["job", job], ...others.filter((id) => id !== job).map((id) => ["with", id])]);
  history.replaceState(null, "", `#${given}`);
  setChoice(job, others);
  const narrow = matchMedia("(max-width: 899px)").matches;
  if (narrow && job) $("details").scrollIntoView({ block: "start" });
}

function compare(id, wanted) {
  const others = choice.with.filter((other) => other !== id);
  const given = wanted ? [...others, id] : others;
  history.replaceState(null, "", `#${new URLSearchParams([["job", choice.job], ...given.map((other) => ["with", other])])}`);
  setChoice(choice.job, given);
}

addEventListener("hashchange", readAddress);

// --- the loop ----------------------------------------------------------------------------------

let loaded = false;
let older = false; // whether all older ones are here
let drawing = 0;

function drawSoon() {
  drawing ||= setTimeout(() => { drawing = 0; drawList(); drawDetails(); }, DRAW_MS);
}

/** Events only while somebody looks: a hidden page would use up the browser's connections. */
function listen() {
  for (const run of runs.values()) document.hidden ? run.close() : run.keepOpen();
}

function keep(job) {
  const known = jobs.get(job.job_id);
  // The list may have left the service before the event that is here already.
  const late = known && runs.get(job.job_id)?.source && FINAL.has(known.status) && job.attempt === known.attempt && !FINAL.has(job.status) && job.status !== "queued";
  if (!late) jobs.set(job.job_id, { ...known, ...job });
}

/** Look at a job that no list gave: an old one, or none at all. */
async function find(id) {
  try {
    keep(await api(jobPath(id)));
  } catch (error) {
    tell(`${id}: ${error.message}`);
    if (id === choice.job) choose("", []);
    else compare(id, false);
  }
  drawSoon();
}

async function refresh() {
  try {
    const [newest, running] = await Promise.all([api("jobs"), api("jobs?status=running")]);
    const fresh = [...newest.jobs, ...running.jobs];
    fresh.forEach(keep);
    const ids = new Set(fresh.map((job) => job.job_id));
    for (const job of jobs.values()) if (job.status === "running" && !ids.has(job.job_id)) find(job.job_id);
    $("older").hidden = older || newest.jobs.length < PAGE;
    loaded = true;
    $("connection").className = "connection live";
    setText($("connection"), "live");
    if (!choice.job && fresh.length) choose(ordered()[0].job_id, []);
    listen();
  } catch (error) {
    $("connection").className = "connection lost";
    setText($("connection"), `no news: ${error.message}; trying again`);
  }
  drawSoon();
}

$("older").addEventListener("click", async () => {
  const oldest = [...jobs.values()].reduce((a, b) => (a.created_at < b.created_at ? a : b));
  try {
    const page = await api(`jobs?after=${encodeURIComponent(oldest.job_id)}`);
    page.jobs.forEach(keep);
    older = page.jobs.length < PAGE;
    $("older").hidden = older;
  } catch (error) {
    tell(error.message);
  }
  drawSoon();
});

function stored() {
  try {
    return JSON.parse(localStorage.getItem(STORED)) ?? {};
  } catch {
    return {};
  }
}

/** Tie a control to a setting that outlives a reload. */
function setting(id, name, property) {
  const control = $(id);
  control[property] = settings[name];
  control.addEventListener("input", () => {
    settings[name] = property === "checked" ? control.checked : Number(control.value);
    localStorage.setItem(STORED, JSON.stringify(settings));
    show();
  });
  const show = () => {
    const output = control.parentNode.querySelector("output");
    if (output) output.textContent = settings[name].toFixed(2);
    drawSoon();
  };
  show();
}

setting("smoothing", "smoothing", "value");
setting("log-scale", "log", "checked");
setting("log-steps", "steps", "checked");

const command = `curl -X POST "${new URL("finetune", location.href.split("#")[0])}" \\
     -H "Content-Type: application/json" \\
     -d '{"dataset_name": "my_data.jsonl", "model_name": "SmolLM2-135M-Instruct", "max_steps": 60}'`;
for (const box of document.querySelectorAll(".command")) {
  box.querySelector("pre").textContent = command;
  const button = box.querySelector("button");
  button.hidden = !navigator.clipboard; // only on https and localhost
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(command).then(() => setText(button, "Copied"), (error) => tell(error.message));
  });
}

$("notice").querySelector("button").addEventListener("click", () => { $("notice").hidden = true; });
dark.addEventListener("change", drawSoon);
document.addEventListener("visibilitychange", () => { if (document.hidden) listen(); else refresh(); });

readAddress();
for (;;) {
  await refresh();
  await new Promise((resolve) => setTimeout(resolve, REFRESH_MS));
}
