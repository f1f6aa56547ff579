// The page of a service: what it is, and whether it answers.

import { api, health } from "./api.js";
import { setPairs, setText, written } from "./words.js";

const REFRESH_MS = 3000;

const $ = (id) => document.getElementById(id);

async function refresh() {
  const { state, message } = await health();
  const answers = state === "ready" || state === "busy";
  $("state").className = `connection ${answers ? "live" : "lost"}`;
  setText($("state"), state);
  $("reason").hidden = !message;
  setText($("reason"), message ?? "");
  if (answers && !$("facts").children.length) await drawFacts();
  setTimeout(refresh, REFRESH_MS);
}

async function drawFacts() {
  const { compute_capability: [facts] } = await api("service-resources");
  const { id, ...told } = facts;
  setPairs($("facts"), Object.entries(told).map(([name, value]) => [name, written(value)]));
}

refresh();
