// The stream page: player and chart.
"use strict";
(() => {
  // Player: HLS through hls.js, or by the browser itself where it can.
  const video = document.getElementById("video");
  const cover = document.getElementById("cover");
  const note = document.getElementById("behind");
  const source = video && video.dataset.src;
  let hls = null;
  function restart() {
    if (hls) hls.destroy();
    hls = null;
    if (window.Hls && Hls.isSupported()) {
      hls = new Hls({ enableWorker: false, liveSyncDurationCount: 2, liveMaxLatencyDurationCount: 6, backBufferLength: 10 });
      hls.on(Hls.Events.ERROR, (_, what) => { if (what.fatal) setTimeout(restart, 2000); });
      hls.on(Hls.Events.MANIFEST_PARSED, () => { video.play().catch(() => {}); });
      hls.loadSource(source);
      hls.attachMedia(video);
    } else if (video.canPlayType("application/vnd.apple.mpegurl")) {
      video.src = source;
      video.play().catch(() => {});
    }
  }
  if (source) {
    let last = -1;
    let moved = performance.now();
    setInterval(() => {
      const now = performance.now();
      if (video.currentTime !== last) { last = video.currentTime; moved = now; }
      const still = last <= 0 || (now - moved > 4000 && !video.paused);
      cover.hidden = !still;
      if (last > 0) {
        document.getElementById("cover-title").textContent = "The preview stands still";
        document.getElementById("cover-text").textContent = "No new picture has come; it goes on by itself when media arrives.";
      }
      const behind = hls && Number.isFinite(hls.latency) && hls.latency > 0 ? hls.latency : null;
      note.hidden = still || behind === null;
      if (behind !== null) note.textContent = "preview, " + behind.toFixed(0) + " s behind";
    }, 500);
    restart();
  }

  // Chart: what each link delivers, and the media that came through, for the last five minutes.
  const holder = document.getElementById("chart");
  if (!holder || !window.uPlot) return;
  const KEEP_S = 300;
  const css = getComputedStyle(document.documentElement);
  const colour = (name) => css.getPropertyValue(name).trim();
  let names = [];
  let data = [[], []];
  let chart = null;
  function build() {
    if (chart) chart.destroy();
    const line = colour("--line");
    const axis = { stroke: colour("--dim"), grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
    const rate = (_, v) => (v == null ? "–" : v.toFixed(2) + " Mbit/s");
    const clock = (s) => new Date(s * 1000).toLocaleTimeString([], { hour12: false });
    const points = { show: false };
    const series = [{}, { points, label: "media out", stroke: colour("--text"), width: 2, value: rate }];
    names.forEach((name, i) => series.push({ points, label: name, stroke: colour("--link-" + (i % 8)), width: 1.5, value: rate }));
    const size = { width: holder.clientWidth, height: 240 };
    const y = { ...axis, size: 56, values: (_, ticks) => ticks.map((v) => v + " M") };
    const options = { ...size, series, axes: [{ ...axis, space: 90, values: (_, ticks) => ticks.map(clock) }, y], scales: { y: { range: (_, lo, hi) => [0, Math.max(1, hi * 1.1)] } }, cursor: { y: false }, legend: { live: false } };
    chart = new uPlot(options, data, holder);
  }
  document.addEventListener("figures", (event) => {
    const { at, media, links } = event.detail;
    // A column a link, in the order of the table, so that its colour there is its colour here.
    const known = names.join("\n");
    links.forEach((link, i) => { names[i] = link.name; });
    while (data.length < names.length + 2) data.push(new Array(data[0].length).fill(null));
    if (data[0].length && at <= data[0][data[0].length - 1]) return;
    data[0].push(at);
    data[1].push(media);
    names.forEach((_, i) => data[i + 2].push(links[i] ? links[i].rate : null));
    while (data[0].length && data[0][0] < at - KEEP_S) data.forEach((column) => column.shift());
    if (!chart || known !== names.join("\n")) build();
    else chart.setData(data);
  });
  addEventListener("resize", () => { if (chart) chart.setSize({ width: holder.clientWidth, height: 240 }); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (chart) build(); });
})();
