// The tuned models: looked for, downloaded, asked, trained on, deleted.

import { api, since } from "../assets/pages/api.js";
import { tell } from "../assets/pages/notice.js";
import { ago, bytes, element, setText } from "../assets/pages/words.js";
import { fileItems, KINDS } from "./files.js";

const SEARCH_MS = 300;
const LOADED = "ready to answer";
const ASLEEP = "loads when it is asked";
const BY_HAND = "none; it was placed here by hand";
const UNKNOWN = "unknown";
const FAILED = (error) => `They cannot be listed: ${error.message}. Reload the page to try again.`;
const NO_FILES = (error) => `Its files cannot be listed: ${error.message}`;
const NONE_FOUND = (words) => `No model has “${words}” in its name, base model or run.`;
const COUNT = (total) => `${total} ${total === 1 ? "model" : "models"}, newest first`;
const QUESTION = (name) => `Delete ${name}?`;
const REFUSED = (name, error) => `${name} is not deleted: ${error.message}`;
const DELETED = (name) => `${name} is deleted.`;

const HANDING = "is being handed over …";
const SERVED = (name) => `Served: the LLM service answers by the name ${name}.`;
const NOT_SERVED = (error) => `It is not served: ${error.message}`;
const REPLACE = (name) => `Replace ${name} there?`;
const COPIED = "Copied";

const $ = (id) => document.getElementById(id);
const modelPath = (name, rest = "") => `v1/models/${encodeURIComponent(name)}${rest}`;

let shown = []; // the models on the page
let listing = 0; // the newest wish for a list: earlier ones are not drawn

// --- the list ----------------------------------------------------------------------------------

async function list({ more = false } = {}) {
  const mine = ++listing;
  const words = $("search").value.trim();
  const query = new URLSearchParams({ search: words });
  if (more) query.set("after", shown.at(-1).name);
  try {
    const page = await api(`models?${query}`, { headers: { Accept: "application/json" } });
    if (mine !== listing) return;
    if (!more) $("models").replaceChildren();
    shown = more ? [...shown, ...page.models] : page.models;
    $("models").append(...page.models.map(newCard));
    drawCount(page.total, words);
    $("more").hidden = !page.has_more;
  } catch (error) {
    if (mine === listing) setText($("count"), FAILED(error));
  }
}

function drawCount(total, words) {
  $("empty").hidden = Boolean(total || words);
  $("find").hidden = !total && !words;
  setText($("count"), total ? COUNT(total) : words ? NONE_FOUND(words) : "");
}

function newCard(model) {
  const card = $("model-card").content.firstElementChild.cloneNode(true);
  const part = (name) => card.querySelector(`.${name}`);
  card.dataset.model = model.name;
  setText(part("name"), model.name);
  part("loaded").hidden = model.loaded === null;
  part("loaded").classList.toggle("yes", model.loaded === true);
  setText(part("loaded"), model.loaded ? LOADED : ASLEEP);
  part("pairs").append(...facts(model));
  part("chat").hidden = model.loaded === null;
  part("chat").href = `chat?${new URLSearchParams({ model: model.name })}`;
  part("on").href = `new?${new URLSearchParams({ model: model.name })}`;
  part("delete").addEventListener("click", () => askToDelete(model.name));
  for (const name of ["chat", "on", "serve", "delete"]) part(name)?.setAttribute("aria-label", `${part(name).textContent} ${model.name}`);
  part("serve")?.addEventListener("click", () => serve(model.name, card));
  if (part("elsewhere")) drawCommands(part("elsewhere"), model.name);
  part("files").addEventListener("toggle", () => part("files").open && drawFiles(part("files"), model.name));
  return card;
}

function facts({ base_model: base, job_id: job, created_at: made, bytes: size }) {
  const run = job ? element("a", job, { href: `dashboard#${new URLSearchParams({ job })}` }) : BY_HAND;
  const when = made ? element("time", ago(since(made)), { datetime: made, title: new Date(made).toLocaleString() }) : UNKNOWN;
  const pairs = [["Base model", base ?? UNKNOWN], ["Run", run], ["Made", when], ["Size", bytes(size)]];
  return pairs.map(([term, value]) => {
    const pair = element("div");
    const definition = element("dd");
    definition.append(value);
    pair.append(element("dt", term), definition);
    return pair;
  });
}

async function drawFiles(box, name) {
  const [note, files] = [box.querySelector("p"), box.querySelector("ul")];
  if (files.children.length) return;
  try {
    const found = await api(modelPath(name, "/files"));
    files.replaceChildren(...fileItems(found.files, { withHash: true }));
    note.hidden = true;
  } catch (error) {
    setText(note, NO_FILES(error));
  }
}

$("find").addEventListener("submit", (event) => event.preventDefault());

let next = 0;
$("search").addEventListener("input", () => {
  clearTimeout(next);
  next = setTimeout(() => {
    const words = $("search").value.trim();
    history.replaceState(null, "", words ? `?${new URLSearchParams({ search: words })}` : location.pathname);
    list();
  }, SEARCH_MS);
});

$("more").addEventListener("click", () => list({ more: true }));

// --- serving -----------------------------------------------------------------------------------

async function serve(name, card, { replace = false } = {}) {
  const [button, told] = [card.querySelector(".serve"), card.querySelector(".served")];
  button.disabled = true;
  setText(told, HANDING);
  try {
    await api(modelPath(name, replace ? "/serve?replace=true" : "/serve"), { method: "POST" });
    setText(told, SERVED(name));
  } catch (error) {
    setText(told, NOT_SERVED(error));
    if (error.status === 409 && !replace) askToReplace(name);
  }
  button.disabled = false;
}

function askToReplace(name) {
  setText($("replace-title"), REPLACE(name));
  $("replace").dataset.model = name;
  $("replace").returnValue = "";
  $("replace").showModal();
}

$("replace").addEventListener("close", () => {
  const name = $("replace").dataset.model;
  const card = $("models").querySelector(`[data-model="${CSS.escape(name)}"]`);
  if ($("replace").returnValue === "replace" && card) serve(name, card, { replace: true });
});

function drawCommands(box, name) {
  const file = new URL(modelPath(name, `/files/${encodeURIComponent(name)}.zip`), location.href);
  const command = `curl -f -O "${file}"
curl -f -T ${name}.zip -H "Content-Type: application/zip" \\
     "http://LLM-SERVICE:8000/v1/adapters/${name}"`;
  const copy = box.querySelector(".copy");
  setText(box.querySelector("pre"), command);
  copy.hidden = !navigator.clipboard; // it is there on https and localhost alone
  copy.addEventListener("click", () => {
    navigator.clipboard.writeText(command).then(() => setText(copy, COPIED), (error) => tell(error.message));
  });
}

// --- deleting ----------------------------------------------------------------------------------

async function askToDelete(name) {
  try {
    const { files } = await api(modelPath(name, "/files"));
    $("goes").replaceChildren(...goes(name, files).map((line) => element("li", line)));
  } catch (error) {
    return tell(REFUSED(name, error));
  }
  setText($("delete-title"), QUESTION(name));
  $("delete").dataset.model = name;
  $("delete").returnValue = "";
  $("delete").showModal();
}

/** What goes with a model, a line for each of its forms. */
function goes(name, files) {
  const parts = new Map();
  for (const { kind, name: file, bytes: size } of files) {
    const form = ["manifest", "metrics", "log"].includes(kind) ? "adapter" : kind;
    if (file === "log.txt" || kind === "feedback") continue; // of the run
    const known = parts.get(form) ?? { count: 0, size: 0 };
    parts.set(form, { count: known.count + 1, size: known.size + size });
  }
  return [...parts].map(([form, { count, size }]) => {
    return `${KINDS[form] ?? form}: ${count} ${count === 1 ? "file" : "files"}, ${bytes(size)}`;
  });
}

$("delete").addEventListener("close", async () => {
  const name = $("delete").dataset.model;
  if ($("delete").returnValue !== "delete") return;
  try {
    await api(modelPath(name), { method: "DELETE" });
    await list();
    setText($("count"), `${DELETED(name)} ${$("count").textContent}`);
    $("search").focus();
  } catch (error) {
    tell(REFUSED(name, error));
  }
});

$("search").value = new URLSearchParams(location.search).get("search") ?? "";
list();
