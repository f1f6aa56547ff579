// A file on its way to the service; `fetch` does not tell how much of one is sent.

import { failure } from "../assets/pages/api.js";
import { CUT } from "./new_run_words.js";

/** Send a file, telling the share that is sent, and return its entry. `signal` stops it. */
export function upload(file, tell, signal) {
  const form = new FormData();
  form.append("purpose", "fine-tune");
  form.append("file", file);
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest();
    sending.responseType = "json";
    sending.upload.addEventListener("progress", ({ loaded, total }) => tell(total ? loaded / total : 0));
    sending.addEventListener("error", () => reject(new Error(CUT)));
    sending.addEventListener("abort", () => reject(new DOMException("stopped", "AbortError")));
    sending.addEventListener("load", () => {
      const { status, response } = sending;
      if (status === 200 && response) resolve(response);
      else reject(failure(status, response));
    });
    signal.addEventListener("abort", () => sending.abort());
    sending.open("POST", "v1/files");
    sending.send(form);
  });
}
