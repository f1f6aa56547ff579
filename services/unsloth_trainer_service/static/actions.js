// What is done to the chosen job: it is cancelled, once somebody is asked, or resumed.

import { api } from "../assets/pages/api.js";
import { tell } from "../assets/pages/notice.js";
import { setText } from "../assets/pages/words.js";
import { cancelling, failed } from "./dashboard_words.js";
import { said } from "./failures.js";
import { jobPath } from "./inference.js";

const $ = (id) => document.getElementById(id);

/** Let the buttons of the page work. */
export function addActions(state) {
  $("cancel").addEventListener("click", () => {
    setText($("confirm").querySelector("p"), cancelling(state.jobs.get(state.chosen)));
    $("confirm").dataset.job = state.chosen;
    $("confirm").returnValue = "";
    $("confirm").showModal();
  });

  $("confirm").addEventListener("close", () => {
    const id = $("confirm").dataset.job;
    if ($("confirm").returnValue !== "cancel" || !state.runs.has(id)) return;
    state.runs.get(id).stopping = state.jobs.get(id).status === "running";
    act(state, id, jobPath(id), "DELETE");
    state.changed();
  });

  $("resume").addEventListener("click", () => act(state, state.chosen, jobPath(state.chosen, "/resume"), "POST"));
}

async function act(state, id, path, method) {
  try {
    await api(path, { method });
  } catch (error) {
    if (state.runs.has(id)) state.runs.get(id).stopping = false;
    tell(failed(state.jobs.get(id), said(error, error.message)));
  }
  state.outdated();
}
