// Live pages: fragments from the relay are patched into the page, and every value grows old by itself.
"use strict";
(() => {
  const STALE_MS = 3000;
  const pulse = document.querySelector(".pulse");
  let heard = performance.now();
  let connected = false;

  // Ages. A value carries data-age (ms, when it was rendered); data-at is the moment this page got it.
  function words(ms) {
    const s = Math.floor(ms / 1000);
    if (s < 60) return s + " s old";
    if (s < 3600) return Math.floor(s / 60) + " min old";
    return Math.floor(s / 3600) + " h old";
  }
  function stamp(root) {
    const now = performance.now();
    for (const el of root.querySelectorAll("[data-age]")) el.dataset.at = now;
    for (const el of root.querySelectorAll("time[datetime]")) localTime(el);
  }
  function localTime(el) {
    const at = new Date(el.getAttribute("datetime"));
    if (Number.isNaN(at.getTime())) return;
    const clock = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
    const day = at.toLocaleDateString([], { day: "numeric", month: "short" });
    const text = el.dataset.form === "clock" ? clock : day + ", " + clock;
    if (el.textContent !== text) el.textContent = text;
    el.title = at.toString();
  }
  function grow() {
    const now = performance.now();
    for (const el of document.querySelectorAll("[data-age]")) {
      const age = Number(el.dataset.age) + now - Number(el.dataset.at || now);
      const stale = age >= STALE_MS;
      el.classList.toggle("stale", stale);
      if (stale) el.dataset.old = words(age);
    }
    for (const el of document.querySelectorAll("[data-since]")) {
      const s = Math.max(0, Math.floor((Number(el.dataset.since) + now - Number(el.dataset.at || now)) / 1000));
      const two = (n) => String(n).padStart(2, "0");
      el.textContent = two(Math.floor(s / 3600)) + ":" + two(Math.floor(s / 60) % 60) + ":" + two(s % 60);
    }
    if (pulse && pulse.dataset.follow) {
      const silent = now - heard;
      const lost = !connected || silent > STALE_MS;
      pulse.dataset.state = lost ? "lost" : "live";
      const text = lost ? "relay not heard for " + Math.max(1, Math.round(silent / 1000)) + " s" : "live";
      if (pulse.textContent !== text) pulse.textContent = text;
      document.body.classList.toggle("frozen", lost);
    }
  }

  // Patches `old` to look like `fresh`, keeping nodes, so that a button is not swapped under a finger.
  function patch(old, fresh) {
    for (const { name, value } of [...fresh.attributes]) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && name !== "data-at" && name !== "data-old" && name !== "title") old.removeAttribute(name);
    }
    const olds = [...old.childNodes];
    const news = [...fresh.childNodes];
    const keyed = new Map(olds.filter((n) => n.id).map((n) => [n.id, n]));
    let i = 0;
    for (const n of news) {
      let o = n.id ? keyed.get(n.id) : olds.slice(i).find((c) => c.parentNode === old && !c.id && c.nodeName === n.nodeName);
      const at = old.childNodes[i] || null;
      if (o && o.nodeName === n.nodeName) {
        if (o !== at) old.insertBefore(o, at);
        if (n.nodeType === 1) patch(o, n);
        else if (o.nodeValue !== n.nodeValue) o.nodeValue = n.nodeValue;
      } else {
        old.insertBefore(n, at);
      }
      i += 1;
    }
    while (old.childNodes.length > i) old.lastChild.remove();
  }
  function fragment(id, html) {
    const old = document.getElementById(id);
    if (!old) return;
    const fresh = old.cloneNode(false);
    fresh.innerHTML = html;
    for (const el of fresh.querySelectorAll("time[datetime]")) localTime(el);
    patch(old, fresh);
    stamp(old);
  }

  function follow(url) {
    const source = new EventSource(url);
    const alive = () => { heard = performance.now(); connected = true; };
    source.addEventListener("open", alive);
    source.addEventListener("error", () => { connected = false; });
    source.addEventListener("beat", alive);
    source.addEventListener("fragment", (event) => {
      alive();
      const { id, html } = JSON.parse(event.data);
      fragment(id, html);
      grow();
    });
    source.addEventListener("figures", (event) => {
      alive();
      document.dispatchEvent(new CustomEvent("figures", { detail: JSON.parse(event.data) }));
    });
    addEventListener("pagehide", () => source.close());
  }

  // A form that cannot be taken back asks first; one that was sent is not sent twice.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.dataset.confirm && !confirm(form.dataset.confirm)) {
      event.preventDefault();
      return;
    }
    for (const button of form.querySelectorAll("button")) setTimeout(() => { button.disabled = true; }, 0);
    setTimeout(() => { for (const button of form.querySelectorAll("button")) button.disabled = false; }, 4000);
  });
  document.addEventListener("click", (event) => {
    const copy = event.target.closest("[data-copy]");
    if (!copy) return;
    const text = document.getElementById(copy.dataset.copy).textContent.trim();
    if (navigator.clipboard) navigator.clipboard.writeText(text).then(() => { copy.textContent = "Copied"; });
  });

  stamp(document);
  if (pulse && pulse.dataset.follow) follow(pulse.dataset.follow);
  setInterval(grow, 500);
  grow();
})();
