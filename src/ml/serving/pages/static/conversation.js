// A conversation with several models, kept in this tab: what was asked, and what each answered.

const PLACE = `chat ${location.pathname}`;
export const MOST_MODELS = 3;

/** How far an answer is: `live` while it comes. */
export const State = { LIVE: "live", DONE: "done", STOPPED: "stopped", FAILED: "failed" };

export class Conversation {
  constructor() {
    this.models = [];
    this.clear();
    this.draft = "";
    this.settings = {};
  }

  /** Forget what was said; models and settings stay. */
  clear() {
    this.turns = []; // {text, answers: {model: {state, text, …}}}
  }

  /** Have what this tab kept. An answer that was coming then comes no more. */
  static kept(leftWords) {
    const made = new Conversation();
    try {
      Object.assign(made, JSON.parse(sessionStorage.getItem(PLACE)));
      for (const answer of made.turns.flatMap(({ answers }) => Object.values(answers))) {
        if (answer.state === State.LIVE) Object.assign(answer, { state: State.FAILED, fault: leftWords });
      }
      made.models = [...made.models];
      return made;
    } catch { // of another version of the page, or of another page of this address
      sessionStorage.removeItem(PLACE);
      return new Conversation();
    }
  }

  /** Keep it over a reload; false if there is no room for it. */
  keep() {
    try {
      sessionStorage.setItem(PLACE, JSON.stringify(this));
      return true;
    } catch {
      return false;
    }
  }

  get last() {
    return this.turns.at(-1);
  }

  get isAnswering() {
    return this.turns.some(({ answers }) => Object.values(answers).some(({ state }) => state === State.LIVE));
  }

  /** The turns that a model has said nothing to. */
  unanswered(model) {
    return this.turns.filter(({ answers }) => !answers[model]);
  }

  /** What a model is told to answer a turn: the system prompt, what it answered before, the question. */
  messages(model, turn) {
    const system = this.settings.system?.trim();
    const at = this.turns.indexOf(turn); // -1: it is not asked yet
    const before = this.turns.slice(0, at < 0 ? undefined : at).filter(({ answers }) => answers[model]?.text);
    return [
      ...(system ? [{ role: "system", content: system }] : []),
      ...before.flatMap(({ text, answers }) => [
        { role: "user", content: text },
        { role: "assistant", content: answers[model].text },
      ]),
      { role: "user", content: turn.text },
    ];
  }

  /** The body of the request that asks a model to answer a turn. */
  request(model, turn) {
    const { system, ...numbers } = this.settings;
    const given = Object.entries(numbers).filter(([, value]) => value !== "");
    const wishes = Object.fromEntries(given.map(([name, value]) => [name, Number(value)]));
    return { model, messages: this.messages(model, turn), ...wishes, stream: true };
  }
}
