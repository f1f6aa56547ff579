// What went wrong, over the page until somebody has read it.

const notice = document.getElementById("notice");

export function tell(message) {
  notice.querySelector("p").textContent = message;
  notice.hidden = false;
}

notice.querySelector("button").addEventListener("click", () => { notice.hidden = true; });
