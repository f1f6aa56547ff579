// The chat page: one conversation, asked of up to three models side by side.

import { copies } from "./answer.js";
import { api, health } from "./api.js";
import { curl, python } from "./commands.js";
import { BrokeOff, complete } from "./completions.js";
import { Conversation, MOST_MODELS, State } from "./conversation.js";
import { tell } from "./notice.js";
import { TurnList } from "./turns.js";
import { element, setText, showState } from "./words.js";

const REFRESH_MS = 4000;
const DRAW_MS = 60;
const KEEP_MS = 500;
const EXAMPLE = "Hello!";
const WORDS = {
  unreached: "The service cannot be reached. Nothing is lost: ask again once it is back.",
  key: "The service does not accept this key any more. Nothing is lost: reload the page to give another, and ask again.",
  gone: "Choose another one under “Models and settings”.",
  full: "Begin a new conversation, or allow fewer tokens.",
  wait: (seconds) => `Ask again in ${seconds} s.`,
  later: "Ask again in a moment.",
  brokeOff: (why) => `The answer broke off: ${why}.`,
  left: "The answer broke off: the page was left.",
  answering: "Answering …",
  stopped: "Stopped",
  cut: "cut off at the most tokens",
  empty: "the model ended its answer without any text",
  noRoom: "This conversation is too long to be kept: a reload of the page will lose it.",
  notHere: "not here",
};

const $ = (id) => document.getElementById(id);
const conversation = Conversation.kept(WORDS.left);
const turns = new TurnList($("log"), conversation, { again, edit, rate });
let known = null; // names of models, the base first
const running = new Map(); // model -> what ends the answer that comes from it

// --- drawing -----------------------------------------------------------------------------------

let drawing = 0;

function drawSoon() {
  drawing ||= setTimeout(() => {
    drawing = 0;
    draw();
  }, DRAW_MS);
}

function draw() {
  const follows = innerHeight + scrollY >= document.documentElement.scrollHeight - 80;
  turns.draw(known?.[0]);
  $("empty").hidden = conversation.turns.length > 0;
  $("log").hidden = !conversation.turns.length;
  const { isAnswering } = conversation;
  $("stop").hidden = !isAnswering;
  $("send").hidden = isAnswering;
  $("send").disabled = !conversation.models.length || !$("text").value.trim();
  $("renew").disabled = !conversation.turns.length && !$("text").value;
  setText($("told"), isAnswering ? WORDS.answering : "");
  if (follows) scrollTo({ top: document.documentElement.scrollHeight });
  keepSoon();
}

let keeping = 0;
let warned = false;

function keepSoon() {
  keeping ||= setTimeout(keep, KEEP_MS);
}

function keep() {
  clearTimeout(keeping);
  keeping = 0;
  if (!conversation.keep() && !warned) {
    warned = true;
    tell(WORDS.noRoom);
  }
}

// --- models ------------------------------------------------------------------------------------

function drawModels() {
  const { models } = conversation;
  $("models").replaceChildren(...models.map((name) => {
    const item = element("li");
    const gone = known && !known.includes(name);
    const label = element("span", name);
    if (gone) label.append(" ", element("em", WORDS.notHere));
    const remove = element("button", "Remove", { type: "button", class: "small", "aria-label": `Remove ${name}` });
    remove.addEventListener("click", () => choose(models.filter((one) => one !== name)));
    item.append(label, remove);
    return item;
  }));
  const more = (known ?? []).filter((name) => !models.includes(name));
  const chosen = $("more-models").value;
  $("more-models").replaceChildren(...more.map((name) => new Option(name)));
  if (more.includes(chosen)) $("more-models").value = chosen;
  $("add-model").hidden = !more.length || models.length >= MOST_MODELS;
}

/** Have these columns; they stand in the address, so that a link shows the same. */
function choose(models) {
  conversation.models = [...new Set(models)].slice(0, MOST_MODELS);
  stop(conversation.models);
  const address = new URLSearchParams(conversation.models.map((name) => ["model", name]));
  history.replaceState(null, "", address.size ? `?${address}` : location.pathname);
  $("talk").dataset.columns = conversation.models.length;
  drawModels();
  draw();
}

/** Take the models of the address; a tuned one that somebody comes to see has its base beside it. */
function readAddress() {
  const asked = new URLSearchParams(location.search).getAll("model");
  const kept = conversation.models;
  if (!asked.length) return choose(kept.length ? kept : known.slice(0, 1));
  const isAnother = asked.join("\n") !== kept.join("\n");
  choose(isAnother && asked.length === 1 ? [known[0], ...asked] : asked);
}

async function refresh() {
  try {
    const { data } = await api("v1/models");
    // An embedding model, which is the last of them, answers nobody.
    const names = data.map(({ id }) => id).slice(0, "embeds" in $("models").dataset ? -1 : undefined);
    const first = known === null;
    const changed = JSON.stringify(names) !== JSON.stringify(known);
    known = names;
    if (first) readAddress();
    else if (changed) drawModels();
    showState($("state"), "ready");
  } catch (error) {
    const { state } = await health();
    showState($("state"), state === "ready" ? error.message : state);
  }
  setTimeout(refresh, REFRESH_MS);
}

$("add").addEventListener("click", () => choose([...conversation.models, $("more-models").value]));

// --- asking ------------------------------------------------------------------------------------

/** Let a model answer a turn anew, after those before it that it was not asked yet. */
async function again(turn, model) {
  if (!readSettings()) return;
  for (const one of new Set([...conversation.unanswered(model), turn])) {
    if (await ask(one, model) !== State.DONE) return;
  }
}

/** Let a model answer a turn, and return how that ended; what it answered before goes. */
async function ask(turn, model) {
  const stopper = new AbortController();
  const started = performance.now();
  const answer = { state: State.LIVE, text: "" };
  const body = conversation.request(model, turn);
  turn.answers[model] = answer;
  running.set(model, stopper);
  draw();
  try {
    const write = (piece) => {
      answer.text += piece;
      drawSoon();
    };
    const { id, tokens, reason } = await complete(body, write, stopper.signal);
    const seconds = (performance.now() - started) / 1000;
    const told = [`${tokens} tokens in ${seconds.toFixed(1)} s`];
    if (reason === "length") told.push(WORDS.cut);
    if (!answer.text.trim()) told.push(WORDS.empty);
    Object.assign(answer, { state: State.DONE, id, note: told.join(", ") });
  } catch (error) {
    if (error.name === "AbortError") Object.assign(answer, { state: State.STOPPED, note: WORDS.stopped });
    else Object.assign(answer, { state: State.FAILED, fault: explained(error) });
  }
  running.delete(model);
  draw();
  return answer.state;
}

/** End the answers that come, or those of models that are not wanted any more. */
function stop(wanted = []) {
  for (const [model, stopper] of running) if (!wanted.includes(model)) stopper.abort();
}

/** What went wrong, and what to do. */
function explained(error) {
  if (error instanceof BrokeOff) return WORDS.brokeOff(error.message);
  if (!error.status) return WORDS.unreached;
  if (error.status === 401) return WORDS.key;
  const told = error.message.replace(/[^.!?…]$/, "$&.");
  if (error.code === "context_length_exceeded") return `${told} ${WORDS.full}`;
  if (error.code === "model_not_found") return `${told} ${WORDS.gone}`;
  if (error.status === 429 || error.status === 503) {
    return `${told} ${error.waitSeconds ? WORDS.wait(error.waitSeconds) : WORDS.later}`;
  }
  return told;
}

function send() {
  const text = $("text").value.trim().toWellFormed(); // half a character is no text of JSON
  if (!text || conversation.isAnswering || !conversation.models.length || !readSettings()) return;
  const turn = { text, answers: {} };
  conversation.turns.push(turn);
  setDraft("");
  for (const model of conversation.models) ask(turn, model);
  $("text").focus();
}

/** Put the last message back to be written anew, in front of what is being written. */
function edit(turn) {
  conversation.turns.splice(conversation.turns.indexOf(turn), 1);
  setDraft([turn.text, $("text").value].filter(Boolean).join("\n"));
  $("text").focus();
}

/** Keep what somebody thinks of an answer with the run that made the model. */
async function rate(turn, model, rating) {
  const answer = turn.answers[model];
  const body = { id: answer.id, rating, messages: conversation.messages(model, turn), answer: answer.text };
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  try {
    await api(`v1/models/${encodeURIComponent(model)}/feedback`, options);
    answer.rating = rating;
    draw();
  } catch (error) {
    tell(error.message);
  }
}

// --- what is typed -----------------------------------------------------------------------------

function setDraft(text) {
  $("text").value = text;
  conversation.draft = text;
  draw();
}

/** Take the settings; false where one cannot be, which the browser says at its field. */
function readSettings() {
  const form = $("settings");
  if (form.checkValidity()) return true;
  for (const details of [$("panel"), form.querySelector("details")]) details.open ||= details.querySelector(":invalid") !== null;
  form.reportValidity();
  return false;
}

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});

$("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});

$("text").addEventListener("input", () => setDraft($("text").value));

$("stop").addEventListener("click", () => {
  stop();
  $("text").focus();
});

$("renew").addEventListener("click", () => {
  stop();
  conversation.clear();
  setDraft("");
  $("text").focus();
});

for (const field of $("settings").elements) {
  field.value = conversation.settings[field.name] ?? "";
  field.addEventListener("input", () => {
    conversation.settings[field.name] = field.value;
    keepSoon();
  });
}

$("settings").addEventListener("submit", (event) => event.preventDefault());
addEventListener("pagehide", keep);

// --- as code -----------------------------------------------------------------------------------

function drawCode() {
  const text = $("text").value.trim();
  const turn = text ? { text } : conversation.last ?? { text: EXAMPLE };
  const body = conversation.request($("code-model").value, turn);
  const needsKey = Boolean($("code").dataset.key);
  const base = new URL("v1", document.baseURI);
  setText($("curl"), curl(`${base}/chat/completions`, body, needsKey));
  setText($("python"), python(base, body, needsKey));
}

$("as-code").addEventListener("click", () => {
  $("code-model").replaceChildren(...conversation.models.map((name) => new Option(name)));
  $("code-model-field").hidden = conversation.models.length < 2;
  drawCode();
  $("code").showModal();
});

$("code-model").addEventListener("change", drawCode);
for (const button of document.querySelectorAll("#code .copy")) copies(button, () => $(button.dataset.of).textContent);

// --- the beginning -----------------------------------------------------------------------------

$("panel").open = matchMedia("(min-width: 60rem)").matches;
setDraft(conversation.draft);
refresh();
