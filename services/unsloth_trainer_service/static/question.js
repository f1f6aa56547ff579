// The form in which the tuned model of the chosen job is asked something.

import { setText } from "../assets/pages/words.js";
import { noAnswer, STOPPED, THINKING } from "./dashboard_words.js";
import { ask } from "./inference.js";

const $ = (id) => document.getElementById(id);

export class Question {
  #asking = null; // ends the answer that is being written
  #job = "";

  constructor() {
    $("hush").addEventListener("click", () => this.#end(STOPPED));
    $("ask").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#ask();
    });
  }

  /** Forget the answer of another job's model. */
  draw(job) {
    if (job === this.#job) return;
    this.#job = job;
    this.#end("");
    setText($("answer"), "");
  }

  async #ask() {
    this.#end(THINKING);
    const mine = this.#asking = new AbortController();
    $("hush").hidden = false;
    setText($("answer"), "");
    const write = (text) => { if (mine === this.#asking) $("answer").append(text); };
    const end = (text) => { if (mine === this.#asking) this.#end(text); };
    await ask($("model").textContent, $("prompt").value, write, mine.signal).then(end, (error) => end(noAnswer(error.message)));
  }

  #end(text) {
    this.#asking?.abort();
    this.#asking = null;
    $("hush").hidden = true;
    setText($("answer-end"), text);
  }
}
