// The page of a service: what it is, whether it answers, and a form to ask it.

import { showAnswer, showStream } from "./answer.js";
import { api, health, request } from "./api.js";
import { Elsewhere } from "./elsewhere.js";
import { SchemaForm } from "./form.js";
import { element, setText, short, showState } from "./words.js";

const REFRESH_MS = 3000;
const JOB_MS = 1000;
const WHY_BUSY = "All places are taken: another request may have to wait, or is turned away.";
const MOST_NAMES = 6;
const FACTS = { models: "Model", inference_engine: "Runs on", task: "Made for" };
const ENDED_EARLY = "The answer ended early: the service cannot be reached, or it gave up. It may be tried again.";
const OVER = { succeeded: "has no answer", failed: "failed", cancelled: "was cancelled", interrupted: "was interrupted" };

const $ = (id) => document.getElementById(id);
const place = document.querySelector(".try");
let answers = false;
let loaded = false;

// --- state -----------------------------------------------------------------------------------

async function refresh() {
  const { state, message, models } = await health();
  answers = state === "ready" || state === "busy" || state === "unavailable";
  showState($("state"), state);
  const why = state === "busy" ? WHY_BUSY : message ?? "";
  $("reason").hidden = !why;
  setText($("reason"), why);
  if (answers && !loaded) {
    loaded = true;
    await Promise.all([drawFacts(), place && drawForm()]).catch(() => { loaded = false; });
  } else if (place && !form) {
    await drawForm().catch(() => null);
  }
  $("loaded").hidden = !models;
  if (models) setText($("loaded").querySelector("dd"), loadedWords(models));
  if (place) $("send").disabled = !form || $("stop").hidden === false;
  setTimeout(refresh, REFRESH_MS);
}

async function drawFacts() {
  const { compute_capability: [facts] } = await api("service-resources");
  const shown = Object.entries(FACTS).filter(([name]) => facts[name]?.length);
  const rows = shown.map(([name, label]) => {
    const row = element("div");
    const words = [facts[name]].flat().map((one) => (name === "task" ? one.replaceAll("_", " ") : one));
    row.append(element("dt", name === "models" && words.length > 1 ? "Models" : label), element("dd", few(words)));
    return row;
  });
  $("facts").prepend(...rows);
}

function few(words) {
  const rest = words.length - MOST_NAMES;
  return rest > 0 ? `${words.slice(0, MOST_NAMES).join(", ")} and ${rest} more` : words.join(", ");
}

function loadedWords({ loaded, loading }) {
  const coming = loading.map((name) => `${name} (loading)`);
  return few([...loaded, ...coming]) || "none yet: a model is loaded when it is asked for";
}

// --- form ------------------------------------------------------------------------------------

let form = null;
let offer = null;
const elsewhere = place && new Elsewhere({ name: place.dataset.name, needsKey: "key" in place.dataset, message: () => messageOf(form?.peek({ hides: true })) });

/** Return the name of the model that is chosen, where there are several. */
function chosenModel() {
  const isChoice = offer?.schema?.properties?.model_id?.["x-first"];
  return isChoice ? $("fields").querySelector('[name="model_id"]').value : "";
}

async function drawForm({ isOther = false } = {}) {
  const model = chosenModel();
  const told = await api(`service_output/form${model && `?model_id=${encodeURIComponent(model)}`}`);
  if (JSON.stringify(told) === JSON.stringify(offer)) return;
  const before = form?.peek();
  offer = told;
  form = new SchemaForm($("fields"), offer.schema);
  form.fill((isOther ? null : before) ?? offer.example ?? before ?? (model ? { model_id: model } : undefined));
  $("example").hidden = offer.example === null;
  $("proof").hidden = !offer.proves || offer.proves_unasked;
  $("proof").querySelector("input").checked = offer.proves && !offer.streams; // a stream has no place for one
  $("proved").hidden = !offer.proves_unasked;
  elsewhere.offerContracts(offer.contracts);
  elsewhere.update();
}

async function showModel() {
  await drawForm({ isOther: true }).catch((error) => tell(error.message, true));
  $("fields").querySelector('[name="model_id"]')?.focus();
}

function messageOf(data) {
  if (data === undefined || !offer) return undefined;
  if (!$("proof").hidden && $("proof").querySelector("input").checked) return { source: 1, data, requires_proof: true };
  return offer.streams ? { source: 1, destination: 2, data } : { source: 1, data };
}

// --- question and answer ---------------------------------------------------------------------

let asking = null;

async function ask(event) {
  event.preventDefault();
  const data = form.read();
  if (data === undefined) return;
  asking?.abort();
  asking = new AbortController();
  const { signal } = asking;
  isAsking(true);
  tell("waiting for the answer …");
  $("answer").replaceChildren();
  const started = performance.now();
  const took = () => `${short((performance.now() - started) / 1000)} s`;
  try {
    const response = await fetch("service_output", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(messageOf(data)),
      signal,
    });
    const id = `request ${response.headers.get("X-Request-Id")}`;
    if (!response.ok) return refuse(response, id);
    if (response.headers.get("Content-Type").startsWith("text/plain")) await read(response);
    else if (response.status === 202) await follow(response, signal);
    else showAnswer($("answer"), await response.json());
    tell(`Answered in ${took()} · ${id}`);
    if (chosenModel()) await drawForm(); // the model is loaded now, and tells its shape
  } catch (error) {
    if (signal.aborted) tell(`Stopped after ${took()}.`);
    else tell(error.isTold ? error.message : ENDED_EARLY, true);
  } finally {
    isAsking(false);
  }
}

async function read(response) {
  const shown = showStream($("answer"));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) shown.add(next.value);
  } finally {
    shown.end();
  }
}

/** Wait for a job that is told of instead of an answer; it ends with whoever waits for it. */
async function follow(response, signal) {
  const address = response.headers.get("Location").replace(/^\//, "");
  const cancel = () => void request(`${address}/cancel`, { method: "POST" }).catch(() => null);
  signal.addEventListener("abort", cancel);
  try {
    showAnswer($("answer"), await resultOf(address, signal));
  } finally {
    signal.removeEventListener("abort", cancel);
  }
}

async function resultOf(address, signal) {
  for (;;) {
    const job = await api(address, { signal });
    if (job.result) return job.result;
    if (job.status in OVER) {
      const why = job.reason ? `: ${job.reason}` : "";
      throw Object.assign(new Error(`Not answered: job ${job.job_id} ${OVER[job.status]}${why}`), { isTold: true });
    }
    tell(`This takes longer: job ${job.job_id}, ${job.progress?.stage ?? job.status} …`);
    await new Promise((go) => setTimeout(go, JOB_MS));
    signal.throwIfAborted();
  }
}

async function refuse(response, id) {
  const body = await response.json().catch(() => null);
  const { faults, rest } = form.faultsOf(body?.description ?? `the service answered ${response.status}`);
  form.tell(faults, true);
  const wait = response.headers.get("Retry-After");
  const again = wait ? ` Try again in ${wait} s.` : "";
  const named = [...faults.keys()].map((field) => field.title);
  const what = named.length ? `See ${named.join(", ")} in the form. ${rest}` : rest;
  tell(`Not answered (${response.status}): ${what}${again} · ${id}`, true);
}

function tell(text, refused = false) {
  $("told").className = refused ? "refused" : "note";
  setText($("told"), text);
}

function isAsking(is) {
  $("send").disabled = is;
  $("stop").hidden = !is;
}

if (place) {
  $("form").addEventListener("submit", ask);
  $("form").addEventListener("input", () => elsewhere.update());
  $("form").addEventListener("change", (event) => event.target.name === "model_id" && void showModel());
  $("stop").addEventListener("click", () => asking.abort());
  $("example").addEventListener("click", () => { form.fill(offer.example); elsewhere.update(); });
}
refresh();
