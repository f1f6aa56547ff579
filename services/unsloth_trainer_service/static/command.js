// The command that starts a run, to be copied.

import { tell } from "../assets/pages/notice.js";
import { setText } from "../assets/pages/words.js";
import { command, COPIED } from "./dashboard_words.js";

/** Fill the boxes of the page that have it. */
export function fillCommands() {
  const text = command(new URL("finetune", location.href));
  for (const box of document.querySelectorAll(".command")) {
    const button = box.querySelector("button");
    setText(box.querySelector("pre"), text);
    button.hidden = !navigator.clipboard; // it is there on https and localhost alone
    button.addEventListener("click", () => {
      navigator.clipboard.writeText(text).then(() => setText(button, COPIED), (error) => tell(error.message));
    });
  }
}
