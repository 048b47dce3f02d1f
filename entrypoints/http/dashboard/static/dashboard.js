// Keeps a page up to date: fetches it again when something happened, and puts in what changed.
"use strict";

(() => {
  const main = document.querySelector("main");
  const connection = document.getElementById("connection");
  const stream = `${document.body.dataset.base}/api/v1/events/stream`;
  const events = main.dataset.events.split(" ");
  const PAUSE = 1000; // ms between two fetches at least
  const IDLE = 15000; // ms after which to fetch although nothing happened: latencies, leases
  let [source, timer, fetched] = [null, 0, Date.now()];
  let skew = 0; // s that this clock is ahead of the server's

  const seen = () => document.visibilityState === "visible";

  const age = (seconds) => {
    for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]])
      if (seconds >= size) return `${Math.floor(seconds / size)} ${unit} ago`;
    return `${Math.max(0, Math.floor(seconds))} s ago`;
  };

  const wait = (seconds) => {
    const rest = Math.max(0, Math.round(seconds));
    const [hours, minutes] = [Math.floor(rest / 3600), Math.floor((rest % 3600) / 60)];
    if (hours) return `${hours} h ${minutes} min`;
    return minutes ? `${minutes} min ${rest % 60} s` : `${rest} s`;
  };

  const put = (element, text) => { if (element.textContent !== text) element.textContent = text; };

  const say = (text, kind) => { put(connection, text); connection.className = kind; };

  const tick = () => {
    const now = Date.now() / 1000 - skew;
    for (const one of main.querySelectorAll("[data-age]")) put(one, age(now - Date.parse(one.dateTime) / 1000));
    for (const one of main.querySelectorAll("[data-until]")) put(one, wait(one.dataset.until - now));
  };

  const same = (old, fresh) => old.nodeName === fresh.nodeName && old.id === fresh.id;

  // Elements stay where they are, so that focus, scrolling and what was unfolded stay too.
  const morph = (old, fresh) => {
    if (old.isEqualNode(fresh)) return;
    if (old.nodeType !== Node.ELEMENT_NODE) { old.nodeValue = fresh.nodeValue; return; }
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
    for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value && name !== "open") old.setAttribute(name, value);
    const kept = new Set([...fresh.children].map((one) => one.id));
    for (const one of [...old.children]) if (one.id && !kept.has(one.id)) one.remove();
    let at = old.firstChild;
    for (const child of [...fresh.childNodes]) {
      if (child.id && !(at && same(at, child))) {
        const moved = [...old.children].find((one) => same(one, child));
        if (moved) at = old.insertBefore(moved, at);
      }
      if (at && same(at, child)) { morph(at, child); at = at.nextSibling; } else old.insertBefore(child, at);
    }
    while (at) { const next = at.nextSibling; at.remove(); at = next; }
  };

  const refresh = async () => {
    timer = 0;
    fetched = Date.now();
    try {
      const response = await fetch(location.href, { cache: "no-store", redirect: "manual" });
      if (response.type === "opaqueredirect") { location.reload(); return; } // to the login
      if (!response.ok && response.status !== 404) return;
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const fresh = page.querySelector("main");
      if (fresh.dataset.live) skew = Date.now() / 1000 - fresh.dataset.live;
      document.title = page.title;
      morph(main, fresh);
      morph(document.querySelector("footer"), page.querySelector("footer"));
      tick();
    } catch { /* the stream tells that the connection is lost, and comes back here */ }
  };

  const soon = () => { if (!timer && seen()) timer = setTimeout(refresh, Math.max(50, fetched + PAUSE - Date.now())); };

  const listen = () => {
    if (source || !seen()) return;
    source = new EventSource(stream);
    source.onopen = () => { if (connection.className === "lost") soon(); say("live", "live"); };
    source.onerror = () => {
      say("connection lost, retrying", "lost");
      if (source.readyState === EventSource.CLOSED) { hush(); setTimeout(listen, 5000); }
    };
    for (const name of events) source.addEventListener(name, soon);
  };

  const hush = () => { source?.close(); source = null; };

  skew = Date.now() / 1000 - main.dataset.live;
  setInterval(tick, 1000);
  setInterval(() => { if (Date.now() - fetched >= IDLE) soon(); }, 1000);
  document.addEventListener("visibilitychange", () => { if (seen()) { listen(); soon(); } else hush(); });
  addEventListener("pagehide", hush);
  addEventListener("pageshow", (event) => { if (event.persisted) { listen(); soon(); } });
  listen();
})();
