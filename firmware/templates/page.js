// Replaces sections as the device reports changes. The page works without it.
"use strict";
const lost = document.getElementById("lost");
const source = new EventSource("/events");
source.onmessage = (event) => {
  lost.hidden = true;
  document.body.classList.remove("old");
  for (const [id, html] of Object.entries(JSON.parse(event.data))) {
    const section = document.getElementById(id);
    // Never under the finger that types.
    if (section.contains(document.activeElement) && document.activeElement.tagName === "INPUT") continue;
    section.innerHTML = html;
  }
};
source.onerror = () => {
  lost.hidden = false;
  document.body.classList.add("old");
};
