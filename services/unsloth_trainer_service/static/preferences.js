// How somebody wants the page to draw, which outlives a reload.

import { setText } from "../assets/pages/words.js";

const STORED = "trainer dashboard";

export const preferences = { smoothing: 0.6, log: false, steps: false };
try {
  Object.assign(preferences, JSON.parse(localStorage.getItem(STORED)));
} catch {
  localStorage.removeItem(STORED);
}

/** Let controls of the page show and set them; `changed()` is called after each change. */
export function tiePreferences(changed) {
  tie("smoothing", "smoothing", "value", changed);
  tie("log-scale", "log", "checked", changed);
  tie("log-steps", "steps", "checked", changed);
}

function tie(id, name, property, changed) {
  const control = document.getElementById(id);
  const show = () => {
    const output = control.parentNode.querySelector("output");
    if (output) setText(output, preferences[name].toFixed(2));
  };
  control[property] = preferences[name];
  show();
  control.addEventListener("input", () => {
    preferences[name] = property === "checked" ? control.checked : Number(control.value);
    localStorage.setItem(STORED, JSON.stringify(preferences));
    show();
    changed();
  });
}
