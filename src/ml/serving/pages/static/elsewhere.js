// The same request as a command, as a job of a node, and as a contract's bytes; in tabs.

import { copies } from "./answer.js";
import { api } from "./api.js";
import { curl } from "./commands.js";

const $ = (id) => document.getElementById(id);
const NODE = "http://localhost:4000";
const tabs = [...document.querySelectorAll('[role="tab"]')];
const JSON_TYPE = { "Content-Type": "application/json" };

/** Keep the tabs as the form is; `message` gives the request or undefined. */
export class Elsewhere {
  constructor({ name, needsKey, message }) {
    Object.assign(this, { name, needsKey, message });
    for (const tab of tabs) tab.addEventListener("click", () => this.#choose(tab));
    tabs[0].parentElement.addEventListener("keydown", (event) => this.#move(event));
    for (const button of document.querySelectorAll(".copy")) {
      copies(button, () => button.parentElement.querySelector("pre").textContent);
    }
  }

  /** Say whether contracts can ask the workflow. */
  offerContracts(can) {
    $("tab-contract").hidden = !can;
  }

  /** Write what is shown anew. */
  update() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#write(), 200);
  }

  async #write() {
    const message = this.message();
    if (message === undefined) return;
    write("curl", curl(new URL("service_output", document.baseURI), message, this.needsKey));
    write("node", curl(...nodeJob(this.name, message)));
    if (!$("panel-contract").hidden) await this.#encode(message);
  }

  async #encode({ source, data }) {
    const body = JSON.stringify({ source, data });
    const text = await api("service_output/encode", { method: "POST", headers: JSON_TYPE, body }).then(
      (encoded) => `0x${encoded.data}`,
      (error) => error.message,
    );
    write("contract", text);
  }

  #choose(tab) {
    for (const one of tabs) {
      const chosen = one === tab;
      one.setAttribute("aria-selected", String(chosen));
      one.tabIndex = chosen ? 0 : -1;
      $(one.getAttribute("aria-controls")).hidden = !chosen;
    }
    this.update();
  }

  #move(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const open = tabs.filter((tab) => !tab.hidden);
    const at = open.indexOf(document.activeElement);
    if (!step || at < 0) return;
    const next = open[(at + step + open.length) % open.length];
    next.focus();
    this.#choose(next);
  }
}

function write(panel, text) {
  $(`panel-${panel}`).querySelector("pre").textContent = text;
}

function nodeJob(name, { data, destination, requires_proof: proof }) {
  if (destination === 2) return [`${NODE}/api/jobs/stream`, { containers: [name], data }];
  return [`${NODE}/api/jobs`, { containers: [name], data, requires_proof: proof ?? false }];
}
