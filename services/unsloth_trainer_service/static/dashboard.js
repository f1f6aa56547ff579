// The dashboard of the trainer service. Its jobs come from GET /jobs every two seconds; the
// numbers and messages of those that are shown come as server-sent events.

import { api, since } from "../assets/pages/api.js";
import { tell } from "../assets/pages/notice.js";
import { Chart, smooth, style } from "./chart.js";
import { Exports, isExport } from "./exports.js";
import { drawFeedback } from "./feedback.js";
import { noNews, said } from "./failures.js";
import { drawFiles, filesOf } from "./files.js";
import { ask, jobPath } from "./inference.js";
import { FINAL, Run } from "./run.js";
import { drawSamples } from "./samples.js";
import { ago, dropped, duration, element, setPairs, setText, short, written } from "../assets/pages/words.js";

const REFRESH_MS = 2000;
const DRAW_MS = 60;
const PAGE = 100; // of GET /jobs
const CURVES = ["--curve-1", "--curve-2", "--curve-3", "--curve-4", "--curve-5"];
const MOST_SHOWN = CURVES.length; // also because a browser has six connections to a host
const MARKS = { queued: "◷", running: "●", succeeded: "✓", failed: "✕", cancelled: "⊘", interrupted: "‖" };
const STORED = "trainer dashboard";

const $ = (id) => document.getElementById(id);
const jobs = new Map(); // id -> the newest record
const runs = new Map(); // id -> Run, of those that are shown
const choice = { job: "", with: [] };
const shown = () => (choice.job ? [choice.job, ...choice.with] : []);
const nameOf = (job) => job.request.output_dir || job.job_id;

// --- the list ----------------------------------------------------------------------------------

const cards = new Map(); // id -> list item

function drawList() {
  const all = inOrder();
  const focused = document.activeElement;
  all.forEach((job, index) => {
    const card = cards.get(job.job_id) ?? newCard(job.job_id);
    const there = $("job-list").children[index];
    if (there !== card) $("job-list").insertBefore(card, there ?? null);
    fillCard(card, job);
  });
  if (focused !== document.activeElement) focused.focus(); // it was moved
  const count = (status) => [...jobs.values()].filter((job) => job.status === status).length;
  setText($("summary"), jobs.size ? `${count("running")} running, ${count("queued")} queued` : "");
  $("jobs").hidden = !all.length;
  $("empty").hidden = Boolean(all.length) || !loaded;
}

/** Those at work first, then the queue in its order, then the others, newest first: runs alone by default. */
function inOrder(wanted = (job) => !isExport(job)) {
  const rank = ({ status }) => (FINAL.has(status) ? 2 : status === "queued" ? 1 : 0);
  const newest = (a, b) => (a.created_at < b.created_at ? 1 : -1);
  const place = (a, b) => (a.position && b.position ? a.position - b.position : newest(a, b));
  return [...jobs.values()].filter(wanted).sort((a, b) => rank(a) - rank(b) || place(a, b));
}

function newCard(id) {
  const card = $("job-card").content.firstElementChild.cloneNode(true);
  card.dataset.job = id;
  card.querySelector(".pick").addEventListener("click", () => {
    choose(id);
    if (matchMedia("(max-width: 899px)").matches) $("details").scrollIntoView();
  });
  const box = card.querySelector("input");
  box.addEventListener("change", () => {
    const others = choice.with.filter((other) => other !== id);
    setChoice(choice.job, box.checked ? [...others, id] : others);
  });
  cards.set(id, card);
  return card;
}

function fillCard(card, job) {
  const part = (name) => card.querySelector(`.${name}`);
  const { step, total_steps: total, loss, progress = 0 } = job.progress;
  card.className = `job ${job.status}`;
  setStatus(part("status"), job);
  setText(part("when"), whenOf(job));
  part("when").title = timesOf(job);
  setText(part("name"), nameOf(job));
  setText(part("base"), job.request.model_name ?? job.job_id);
  const steps = step === undefined ? "no step yet" : `${step} / ${total ?? "?"}`;
  setText(part("steps"), loss === undefined ? steps : `${steps} · loss ${short(loss)}`);
  part("track").firstElementChild.style.width = `${job.status === "succeeded" ? 100 : progress}%`;
  const place = shown().indexOf(job.job_id);
  part("pick").setAttribute("aria-current", String(place === 0));
  const box = card.querySelector("input");
  box.checked = place >= 0;
  box.disabled = place === 0 || (place < 0 && shown().length >= MOST_SHOWN);
  box.setAttribute("aria-label", `Compare ${nameOf(job)}`);
  card.style.setProperty("--color", place >= 0 ? `var(${CURVES[place]})` : "");
}

function setStatus(node, { job_id: id, status }) {
  node.className = `status ${status}`;
  const word = status === "running" && runs.get(id)?.stopping ? "saving, then stopping" : status;
  setText(node, `${MARKS[status] ?? "?"} ${word}`);
}

function secondsOf(job) {
  if (!job.started_at) return null;
  return since(job.started_at) - (job.ended_at ? since(job.ended_at) : 0);
}

function whenOf(job) {
  if (job.status === "queued") return job.position ? `no. ${job.position} in the queue` : "";
  if (job.status === "running") return `for ${duration(secondsOf(job))}`;
  const past = ago(since(job.ended_at ?? job.created_at));
  return job.started_at ? `${past}, took ${duration(secondsOf(job))}` : past;
}

function timesOf(job) {
  const times = [["Queued", job.created_at], ["started", job.started_at], ["ended", job.ended_at]];
  const known = times.filter(([, time]) => time);
  return known.map(([word, time]) => `${word} ${new Date(time).toLocaleString()}`).join(", ");
}

// --- the details -------------------------------------------------------------------------------

const charts = {
  loss: new Chart("loss-chart", "Loss"),
  rate: new Chart("rate-chart", "Learning rate"),
  norm: new Chart("norm-chart", "Gradient norm"),
  memory: new Chart("memory-chart", "Memory in GiB"),
};

function drawDetails() {
  const job = jobs.get(choice.job);
  const run = runs.get(choice.job);
  $("details").hidden = !job;
  if (!job) return;
  const now = { ...job.progress, ...run.now };
  const percent = job.status === "succeeded" ? 100 : Math.floor(now.progress ?? 0);
  const running = job.status === "running";
  document.title = `${running ? `${percent} %` : job.status} · ${nameOf(job)}`;
  setText($("name"), nameOf(job));
  setText($("subtitle"), `${job.request.model_name ?? ""} · ${job.job_id}`);
  setStatus($("status"), job);
  $("cancel").hidden = FINAL.has(job.status) && job.status !== "interrupted";
  $("cancel").disabled = run.stopping;
  $("resume").hidden = !job.resumable;
  $("clone").href = `new?${new URLSearchParams({ from: job.job_id })}`;
  $("progress").value = percent;
  $("progress").className = job.status;
  setText($("phase"), `${percent} % · ${running ? run.phase || "starting" : whenOf(job)}`);
  $("reason").hidden = !job.reason;
  $("reason").className = `reason ${job.status}`;
  setText($("reason"), job.reason ?? "");
  $("dropped").hidden = !now.data?.dropped;
  if (now.data?.dropped) setText($("dropped"), dropped(now.data));
  drawNumbers(job, now);
  drawResult(job);
  drawMessages(run);
  drawSamples($("samples"), run);
  drawDifferences();
  drawCharts();
}

function drawNumbers(job, now) {
  const running = job.status === "running";
  setPairs($("numbers"), [
    ["Step", now.step === undefined ? "–" : `${now.step} / ${now.total_steps ?? "?"}`],
    ["Epoch", now.epoch === undefined ? "–" : now.epoch.toFixed(2)],
    ["Loss", short(now.loss)],
    ["Eval loss", short(now.eval_loss)],
    ["Time left", running ? duration(now.eta_seconds) : "–"],
    ["Per step", now.step_time ? `${short(now.step_time)} s` : "–"],
    [running ? "Running for" : "Took", duration(secondsOf(job))],
    ["Attempt", String(job.attempt || "–")],
  ]);
  const given = Object.entries(job.request).filter(([, value]) => value !== null);
  setPairs($("settings"), given.map(([name, value]) => [name, written(value)]));
}

const exports = new Exports($("exports"), () => refreshSoon());

function drawResult(job) {
  const model = job.status === "succeeded" ? (job.result?.model ?? nameOf(job)) : "";
  $("result").hidden = !model;
  setText($("model"), model);
  if (!model) return;
  const all = [...jobs.values()];
  drawFiles($("files"), job.job_id, exports.made(job.job_id, all), drawSoon);
  exports.draw(job, all, filesOf(job.job_id));
  drawFeedback($("feedback"), job.job_id);
  if ($("chat")) $("chat").href = `chat?${new URLSearchParams({ model })}`;
}

function drawMessages(run) {
  const list = $("messages");
  const recent = run.recent(settings.steps);
  const shape = `${run.id} ${recent.at(-1)?.id} ${settings.steps}`;
  if (list.dataset.shape === shape) return;
  list.dataset.shape = shape;
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.replaceChildren(...recent.map(({ level, text, step }) => {
    const item = element("li", "", { "data-level": level });
    const where = step === undefined ? "" : `step ${step}`;
    item.append(element("span", where), element("span", level), element("span", text));
    return item;
  }));
  if (atEnd) list.scrollTop = list.scrollHeight;
}

/** A table of the settings in which the compared jobs differ. */
function drawDifferences() {
  const compared = shown().map((id) => jobs.get(id)).filter(Boolean);
  $("differences").hidden = compared.length < 2;
  if (compared.length < 2) return;
  const names = new Set(compared.flatMap((job) => Object.keys(job.request)));
  names.delete("output_dir");
  const rows = [...names].map((name) => [name, ...compared.map((job) => written(job.request[name]))]);
  const differing = rows.filter(([, ...values]) => new Set(values).size > 1);
  const losses = ["last loss", ...compared.map((job) => short(job.progress.loss))];
  const table = [["", ...compared.map(nameOf)], losses, ...differing];
  const shape = JSON.stringify(table);
  if ($("differences").dataset.shape === shape) return;
  $("differences").dataset.shape = shape;
  $("differences").querySelector("table").replaceChildren(...table.map((cells, row) => {
    const line = element("tr");
    line.append(...cells.map((text, column) => element(row && column ? "td" : "th", text)));
    return line;
  }));
}

function drawCharts() {
  const [losses, rates, norms, memory] = [[], [], [], []];
  const alone = shown().length === 1;
  shown().forEach((id, index) => {
    const { train, held } = runs.get(id);
    const name = jobs.has(id) ? nameOf(jobs.get(id)) : id;
    const xs = train.steps;
    const color = style(CURVES[index]);
    const heldColor = alone ? style(CURVES[1]) : color;
    if (settings.smoothing) losses.push({ name: "", color, faint: true, xs, ys: train.loss });
    losses.push({ name: alone ? "train" : name, color, xs, ys: smooth(train.loss, settings.smoothing) });
    losses.push({ name: "eval", color: heldColor, dashed: true, beside: true, xs: held.steps, ys: held.loss });
    rates.push({ name: alone ? "" : name, color, xs, ys: train.rate });
    norms.push({ name: alone ? "" : name, color, xs, ys: train.norm });
    const onGpu = train.gpu.some((bytes) => bytes !== null);
    memory.push({ name: alone ? "host" : name, color, xs, ys: train.memory });
    if (onGpu) memory.push({ name: "GPU", color: heldColor, dashed: true, beside: true, xs, ys: train.gpu });
  });
  charts.loss.draw(losses, settings.log);
  charts.rate.draw(rates);
  charts.norm.draw(norms);
  charts.memory.draw(memory);
  $("thinned").hidden = !shown().some((id) => runs.get(id).thinned);
}

// --- cancel, resume, ask -----------------------------------------------------------------------

async function act(id, path, method) {
  try {
    await api(path, { method });
  } catch (error) {
    runs.get(id).stopping = false;
    tell(`${nameOf(jobs.get(id))}: ${said(error, error.message)}`);
  }
  refreshSoon();
}

$("cancel").addEventListener("click", () => {
  const job = jobs.get(choice.job);
  const what = job.status === "running" ? "finishes its step, saves and stops" : "will not go on";
  setText($("confirm").querySelector("p"), `${nameOf(job)} ${what}. It can be resumed later.`);
  $("confirm").dataset.job = choice.job;
  $("confirm").returnValue = "";
  $("confirm").showModal();
});

$("confirm").addEventListener("close", () => {
  const id = $("confirm").dataset.job;
  if ($("confirm").returnValue !== "cancel" || !runs.has(id)) return;
  runs.get(id).stopping = jobs.get(id).status === "running";
  act(id, jobPath(id), "DELETE");
  drawSoon();
});

$("resume").addEventListener("click", () => act(choice.job, jobPath(choice.job, "/resume"), "POST"));

let asking = null; // ends the answer that is being written

function endAnswer(text) {
  asking?.abort();
  asking = null;
  $("hush").hidden = true;
  setText($("answer-end"), text);
}

$("hush").addEventListener("click", () => endAnswer("stopped"));

$("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  endAnswer("thinking …");
  const mine = asking = new AbortController();
  $("hush").hidden = false;
  setText($("answer"), "");
  const write = (text) => { if (mine === asking) $("answer").append(text); };
  try {
    const end = await ask($("model").textContent, $("prompt").value, write, mine.signal);
    if (mine === asking) endAnswer(end);
  } catch (error) {
    if (mine === asking) endAnswer(`No answer: ${error.message}`);
  }
});

// --- what is chosen: in the address, so that a reload or a link shows the same -----------------

function choose(id) {
  const others = choice.with.includes(id) ? [choice.job, ...choice.with] : choice.with;
  setChoice(id, others.filter((other) => other !== id));
}

function setChoice(id, others) {
  if (id !== choice.job) {
    endAnswer("");
    setText($("answer"), "");
  }
  choice.job = id;
  choice.with = id ? [...new Set(others)].filter((other) => other !== id).slice(0, MOST_SHOWN - 1) : [];
  const address = new URLSearchParams([["job", id], ...choice.with.map((other) => ["with", other])]);
  history.replaceState(null, "", id ? `#${address}` : "#");
  for (const [other, run] of runs) {
    if (shown().includes(other)) continue;
    run.close();
    runs.delete(other);
  }
  for (const one of shown()) {
    if (!runs.has(one)) runs.set(one, new Run(one, drawSoon, (job) => (job ? keep(job) : refreshSoon())));
  }
  listen();
  drawSoon();
}

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  setChoice(given.get("job") ?? "", given.getAll("with"));
}

addEventListener("hashchange", readAddress);

// --- settings of the page, which outlive a reload ----------------------------------------------

const settings = { smoothing: 0.6, log: false, steps: false };
try {
  Object.assign(settings, JSON.parse(localStorage.getItem(STORED)));
} catch {
  localStorage.removeItem(STORED);
}

function tie(control, name, property) {
  const show = () => {
    const output = control.parentNode.querySelector("output");
    if (output) setText(output, settings[name].toFixed(2));
  };
  control[property] = settings[name];
  show();
  control.addEventListener("input", () => {
    settings[name] = property === "checked" ? control.checked : Number(control.value);
    localStorage.setItem(STORED, JSON.stringify(settings));
    show();
    drawSoon();
  });
}

tie($("smoothing"), "smoothing", "value");
tie($("log-scale"), "log", "checked");
tie($("log-steps"), "steps", "checked");

const command = `curl -X POST "${new URL("finetune", location.href)}" \\
     -H "Content-Type: application/json" \\
     -d '{"dataset_name": "my_data.jsonl", "model_name": "SmolLM2-135M-Instruct", "max_steps": 60}'`;
for (const box of document.querySelectorAll(".command")) {
  const button = box.querySelector("button");
  setText(box.querySelector("pre"), command);
  button.hidden = !navigator.clipboard; // it is there on https and localhost alone
  button.addEventListener("click", () => {
    navigator.clipboard.writeText(command).then(() => setText(button, "Copied"), (error) => tell(error.message));
  });
}

// --- the loop ----------------------------------------------------------------------------------

let loaded = false;
let allOlder = false; // whether the oldest ones are here
let most = PAGE; // jobs of the list, beside those at work and those that are shown
let drawing = 0;
let pause = DRAW_MS;
let next = 0;
let refreshing = false;
let again = false; // asked for while one was under way

function drawSoon() {
  drawing ||= setTimeout(() => {
    const began = performance.now();
    drawing = 0;
    drawList();
    drawDetails();
    pause = Math.max(DRAW_MS, 3 * (performance.now() - began)); // a long run takes its time
  }, pause);
}

function keep(job) {
  jobs.set(job.job_id, { ...jobs.get(job.job_id), ...job });
  drawSoon();
}

/** Forget the oldest jobs when new ones push them out, or a page would grow for as long as it is open. */
function forgetOldest() {
  const isOver = ({ job_id: id, status }) => FINAL.has(status) && !shown().includes(id);
  const oldest = inOrder(isOver).slice(most);
  for (const { job_id: id } of oldest) {
    jobs.delete(id);
    cards.get(id)?.remove();
    cards.delete(id);
  }
  if (oldest.length) allOlder = false;
}

/** Events only while somebody looks: hidden pages would use up the browser's connections. */
function listen() {
  for (const run of runs.values()) document.hidden ? run.close() : run.listen(jobs.get(run.id));
}

function refreshSoon(milliseconds = 0) {
  clearTimeout(next);
  next = setTimeout(refresh, milliseconds);
}

async function refresh() {
  again = refreshing;
  if (refreshing) return;
  refreshing = true;
  try {
    // A long queue may push those at work off the first page.
    const lists = await Promise.all([api("jobs"), api("jobs?status=running")]);
    const fresh = new Map(lists.flatMap((list) => list.jobs).map((job) => [job.job_id, job]));
    fresh.forEach(keep);
    forgetOldest();
    loaded = true;
    $("older").hidden = allOlder || lists[0].jobs.length < PAGE;
    $("connection").className = "connection live";
    setText($("connection"), "live");
    const outside = [...jobs.values()].filter((job) => job.status === "running").map((job) => job.job_id);
    for (const id of new Set([...shown(), ...outside])) if (!fresh.has(id)) await find(id);
    const [first] = inOrder();
    if (!choice.job && first) choose(first.job_id);
    listen();
  } catch (error) {
    $("connection").className = "connection lost";
    setText($("connection"), noNews(error));
  }
  refreshing = false;
  drawSoon();
  refreshSoon(again ? 0 : REFRESH_MS);
}

/** Look at a job that is in no list: an old one, or none at all. */
async function find(id) {
  try {
    keep(await api(jobPath(id)));
  } catch (error) {
    tell(`${id}: ${error.message}`);
    setChoice(choice.job === id ? "" : choice.job, choice.with.filter((other) => other !== id));
  }
}

$("older").addEventListener("click", async () => {
  const oldest = [...jobs.values()].reduce((a, b) => (a.created_at < b.created_at ? a : b));
  try {
    const page = await api(`jobs?after=${encodeURIComponent(oldest.job_id)}`);
    most += PAGE;
    page.jobs.forEach(keep);
    allOlder = page.jobs.length < PAGE;
    $("older").hidden = allOlder;
  } catch (error) {
    tell(error.message);
  }
});

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawSoon);
document.addEventListener("visibilitychange", () => { listen(); refreshSoon(); });
readAddress();
refresh();
