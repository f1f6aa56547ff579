// The dashboard of the trainer service. Its jobs come from GET /jobs every two seconds; the
// numbers and messages of those that are shown come as server-sent events.

import { api } from "../assets/pages/api.js";
import { tell } from "../assets/pages/notice.js";
import { setText } from "../assets/pages/words.js";
import { addActions } from "./actions.js";
import { Charts } from "./charts.js";
import { fillCommands } from "./command.js";
import { LIVE, nameOf } from "./dashboard_words.js";
import { Details } from "./details.js";
import { drawDifferences } from "./differences.js";
import { noNews } from "./failures.js";
import { jobPath } from "./inference.js";
import { JobList } from "./job_list.js";
import { drawMessages } from "./messages.js";
import { preferences, tiePreferences } from "./preferences.js";
import { Question } from "./question.js";
import { drawSamples } from "./samples.js";
import { State } from "./state.js";

const REFRESH_MS = 2000;
const GATHER_MS = 10; // what comes together is drawn together
const DRAW_MS = 60; // between two drawings
const PAGE = 100; // of GET /jobs

const $ = (id) => document.getElementById(id);
const state = new State(drawSoon, refreshSoon);
const list = new JobList(state);
const details = new Details(state);
const charts = new Charts();
const question = new Question();

// --- drawing -----------------------------------------------------------------------------------

let drawing = 0;
let drawn = -Infinity; // when the last drawing ended
let took = 0; // the time of it
let pause = 0; // after it

function drawSoon() {
  drawing ||= setTimeout(() => {
    const began = performance.now();
    drawing = 0;
    draw();
    drawn = performance.now();
    // A long run takes its time; a single long drawing, such as the first, holds up nothing.
    pause = Math.max(DRAW_MS, 3 * Math.min(took, drawn - began));
    took = drawn - began;
  }, Math.max(GATHER_MS, drawn + pause - performance.now()));
}

function draw() {
  const { chosen, shown, jobs, runs } = state;
  list.draw();
  question.draw(chosen);
  $("details").hidden = !jobs.has(chosen);
  if (!jobs.has(chosen)) return;
  const run = runs.get(chosen);
  details.draw(jobs.get(chosen), run);
  drawMessages($("messages"), run, preferences.steps);
  drawSamples($("samples"), run);
  drawDifferences($("differences"), shown.map((id) => jobs.get(id)).filter(Boolean));
  charts.draw(shown.map((id) => ({ name: jobs.has(id) ? nameOf(jobs.get(id)) : id, run: runs.get(id) })), preferences);
  $("thinned").hidden = !shown.some((id) => runs.get(id).thinned);
}

// --- the jobs ----------------------------------------------------------------------------------

let allOlder = false; // whether the oldest ones are here
let most = PAGE; // jobs of the list, beside those at work and those that are shown
let next = 0;
let refreshing = false;
let again = false; // asked for while one was under way

function refreshSoon(milliseconds = 0) {
  clearTimeout(next);
  next = setTimeout(refresh, milliseconds);
}

async function refresh() {
  again = refreshing;
  if (refreshing) return;
  refreshing = true;
  try {
    await readJobs();
    $("connection").className = "connection live";
    setText($("connection"), LIVE);
  } catch (error) {
    $("connection").className = "connection lost";
    setText($("connection"), noNews(error));
  }
  refreshing = false;
  drawSoon();
  refreshSoon(again ? 0 : REFRESH_MS);
}

async function readJobs() {
  // A long queue may push those at work off the first page.
  const lists = await Promise.all([api("jobs"), api("jobs?status=running")]);
  const fresh = new Map(lists.flatMap(({ jobs }) => jobs).map((job) => [job.job_id, job]));
  fresh.forEach((job) => state.keep(job));
  if (state.forgetOldest(most)) allOlder = false;
  state.loaded = true;
  $("older").hidden = allOlder || lists[0].jobs.length < PAGE;
  const running = [...state.jobs.values()].filter(({ status }) => status === "running");
  const wanted = new Set([...state.shown, ...running.map((job) => job.job_id)]);
  for (const id of wanted) if (!fresh.has(id)) await find(id);
  const [first] = state.inOrder();
  if (!state.chosen && first) state.choose(first.job_id);
  state.listen();
}

/** Look at a job that is in no list: an old one, or none at all. */
async function find(id) {
  try {
    state.keep(await api(jobPath(id)));
  } catch (error) {
    tell(`${id}: ${error.message}`);
    state.leave(id);
  }
}

$("older").addEventListener("click", async () => {
  const oldest = [...state.jobs.values()].reduce((a, b) => (a.created_at < b.created_at ? a : b));
  try {
    const page = await api(`jobs?after=${encodeURIComponent(oldest.job_id)}`);
    most += PAGE;
    page.jobs.forEach((job) => state.keep(job));
    allOlder = page.jobs.length < PAGE;
    $("older").hidden = allOlder;
  } catch (error) {
    tell(error.message);
  }
});

// --- the page ----------------------------------------------------------------------------------

addActions(state);
fillCommands();
tiePreferences(drawSoon);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawSoon);
document.addEventListener("visibilitychange", () => { state.listen(); refreshSoon(); });
addEventListener("hashchange", () => state.readAddress());
state.readAddress();
refresh();
