// The turns of a conversation on the page: what was asked, and below it an answer of each model.

import { copies } from "./answer.js";
import { State } from "./conversation.js";
import { element, setText } from "./words.js";

const WAITS = "…";
const NOT_ASKED = "Not asked yet";
const ASK = "Ask it";
const AGAIN = "Again";

const copyOf = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);

/** All turns. `actions` are `again(turn, model)`, `edit(turn)` and `rate(turn, model, rating)`. */
export class TurnList {
  #views = new Map();

  constructor(root, conversation, actions) {
    Object.assign(this, { root, conversation, actions });
  }

  /** Change what is another, and nothing else: the log is not read out anew. */
  draw(base) {
    const { turns } = this.conversation;
    for (const [turn, view] of this.#views) {
      if (turns.includes(turn)) continue;
      view.node.remove();
      this.#views.delete(turn);
    }
    for (const turn of turns) {
      if (!this.#views.has(turn)) {
        this.#views.set(turn, new TurnView(turn, this.actions));
        this.root.append(this.#views.get(turn).node);
      }
      this.#views.get(turn).draw(this.conversation, base);
    }
  }
}

class TurnView {
  #answers = new Map();

  constructor(turn, actions) {
    Object.assign(this, { turn, actions });
    this.node = copyOf("turn");
    this.node.querySelector(".text").textContent = turn.text;
    this.node.querySelector(".edit").addEventListener("click", () => actions.edit(turn));
  }

  draw(conversation, base) {
    const { models, isAnswering, last } = conversation;
    this.node.querySelector(".edit").hidden = this.turn !== last || isAnswering;
    const row = this.node.querySelector(".answers");
    for (const [model, view] of this.#answers) {
      if (models.includes(model)) continue;
      view.node.remove();
      this.#answers.delete(model);
    }
    models.forEach((model, index) => {
      if (!this.#answers.has(model)) this.#answers.set(model, new AnswerView(this.turn, model, this.actions));
      const view = this.#answers.get(model);
      if (row.children[index] !== view.node) row.insertBefore(view.node, row.children[index] ?? null);
      view.draw({ isLast: this.turn === last, isAnswering, isTuned: model !== base });
    });
  }
}

class AnswerView {
  constructor(turn, model, actions) {
    Object.assign(this, { turn, model });
    this.node = copyOf("answer");
    this.takesFeedback = "feedback" in document.getElementById("answer").dataset;
    this.node.querySelector("h3").textContent = model;
    this.node.setAttribute("aria-label", `Answer of ${model}`);
    this.#part("again").addEventListener("click", () => actions.again(turn, model));
    copies(this.#part("copy"), () => turn.answers[model].text);
    for (const name of ["up", "down"]) {
      this.#part(name).addEventListener("click", () => {
        actions.rate(turn, model, turn.answers[model].rating === name ? null : name);
      });
    }
  }

  draw({ isLast, isAnswering, isTuned }) {
    const answer = this.turn.answers[this.model] ?? { text: "", note: NOT_ASKED };
    const live = answer.state === State.LIVE;
    this.#write(answer.text || (live ? WAITS : ""), live);
    this.node.setAttribute("aria-busy", String(live));
    this.node.classList.toggle("live", live);
    this.node.classList.toggle("waiting", live && !answer.text);
    this.#part("fault").hidden = !answer.fault;
    setText(this.#part("fault"), answer.fault ?? "");
    setText(this.node.querySelector(".note"), answer.note ?? "");
    this.#part("again").hidden = !isLast || isAnswering;
    setText(this.#part("again"), answer.state ? AGAIN : ASK);
    this.#part("copy").hidden = live || !answer.text;
    for (const name of ["up", "down"]) {
      this.#part(name).hidden = !this.takesFeedback || !isTuned || !answer.id || live || !answer.text;
      this.#part(name).setAttribute("aria-pressed", String(answer.rating === name));
    }
  }

  /** While an answer comes it is shown alone; once whole, it is an addition to the log that is read. */
  #write(text, live) {
    let there = this.node.querySelector(".text");
    if (!text) return there?.remove();
    if (!there || there.hasAttribute("aria-hidden") !== live) {
      const made = element("p", "", { class: "text", ...(live ? { "aria-hidden": "true" } : {}) });
      made.append(document.createTextNode(""));
      if (there) there.replaceWith(made);
      else this.node.querySelector("header").after(made);
      there = made;
      if (!live) there.firstChild.data = text;
    }
    const node = there.firstChild;
    if (text.startsWith(node.data)) node.appendData(text.slice(node.length));
    else node.data = text;
  }

  #part(name) {
    return this.node.querySelector(`.${name}`);
  }
}
