// Numbers, times and elements: what the other files of the page write with.

const MEBIBYTE = 2 ** 20;
const STATES = {
  starting: "loading …",
  ready: "ready",
  busy: "busy",
  unavailable: "not available",
  failed: "failed",
  draining: "shutting down",
  unreachable: "unreachable",
};

/** Make an element with text and attributes; the text never becomes markup. */
export function element(name, text = "", attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** Set what changed, and nothing else: no flicker, no lost selection. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Show the state of a service, or another word for what is wrong. */
export function showState(node, state) {
  node.className = `connection ${state === "ready" || state === "busy" ? "live" : state === "starting" ? "" : "lost"}`;
  setText(node, STATES[state] ?? state);
}

/** Fill a list of terms with [name, value] pairs. */
export function setPairs(list, entries) {
  while (list.children.length > entries.length) list.lastChild.remove();
  entries.forEach(([name, value], index) => {
    if (!list.children[index]) {
      list.append(element("div"));
      list.lastChild.append(element("dt"), element("dd"));
    }
    setText(list.children[index].firstChild, name);
    setText(list.children[index].lastChild, value);
  });
}

export function short(number) {
  if (typeof number !== "number") return "–";
  const size = Math.abs(number);
  if (size && (size < 1e-3 || size >= 1e6)) {
    return number.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
  }
  return String(Number(number.toPrecision(4)));
}

/** A size in bytes, as people say it. */
export function bytes(number) {
  if (number < 1024) return `${number} B`;
  if (number < MEBIBYTE) return `${(number / 1024).toFixed(1)} KiB`;
  if (number < 1024 * MEBIBYTE) return `${(number / MEBIBYTE).toFixed(1)} MiB`;
  return `${(number / 1024 / MEBIBYTE).toFixed(1)} GiB`;
}

export function duration(seconds) {
  if (typeof seconds !== "number" || Number.isNaN(seconds)) return "–";
  const whole = Math.max(0, Math.round(seconds));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  if (hours >= 48) return `${Math.floor(hours / 24)} d ${hours % 24} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
}

export function ago(seconds) {
  if (seconds < 60) return "just now";
  return `${duration(seconds - (seconds % 60)).replace(/ 0 (s|min|h)$/, "")} ago`;
}

/** What became of a data set's rows: "2 of 18 rows dropped: missing 1, syntax 1". */
export function dropped({ rows, dropped: left, reasons = {} }) {
  const why = Object.entries(reasons).map(([rule, number]) => `${rule} ${number}`).join(", ");
  return `${left} of ${rows} rows dropped${why && `: ${why}`}`;
}

/** A setting's value as it stands in a request. */
export function written(value) {
  return typeof value === "string" ? value : JSON.stringify(value ?? null);
}
