// The one script: pages are whole without it. With it, what changes on the server changes on the screen.
"use strict";

// --- live: on a hint, load the page anew and swap the pieces that are marked and differ --------------------------------

const pieces = () => [...document.querySelectorAll("[data-live]")];

async function refresh() {
  if (document.hidden || pieces().length === 0) return;
  const answer = await fetch(location.href, { headers: { Accept: "text/html", "X-Live": "1" }, redirect: "error" }).catch(() => null);
  if (!answer || !answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  // What differs on every page without meaning anything is made the same, or everything would be swapped each time.
  localise(fresh);
  for (const token of fresh.querySelectorAll('input[name="csrf"]')) token.setAttribute("value", document.body.dataset.csrf);
  for (const old of pieces()) {
    const now = fresh.querySelector(`[data-live="${CSS.escape(old.dataset.live)}"]`);
    if (!now || old.querySelector(":is(input:not([type=checkbox]), textarea, select):focus")) continue;
    if (old.innerHTML !== now.innerHTML) swap(old, now);
  }
}

// What was ticked stays ticked, and the focus where it was: on the same link, button or box, wherever that is now.
function swap(old, now) {
  const focused = old.contains(document.activeElement) ? sameAs(document.activeElement) : null;
  const ticked = new Set([...old.querySelectorAll('input[name="id"]:checked')].map((box) => box.value));
  old.replaceChildren(...now.childNodes);
  for (const box of old.querySelectorAll('input[name="id"]')) box.checked = ticked.has(box.value);
  if (focused) old.querySelector(focused)?.focus();
  old.dispatchEvent(new CustomEvent("fresh", { bubbles: true }));
}

// What finds the element's successor: the same link, the button of the same form, or the same box to tick.
function sameAs(element) {
  const action = element.matches("button") && element.form?.getAttribute("action");
  if (action) return `form[action="${CSS.escape(action)}"] button`;
  if (element.matches("a[href]")) return `a[href="${CSS.escape(element.getAttribute("href"))}"]`;
  return element.matches('input[name="id"]') ? `input[value="${CSS.escape(element.value)}"]` : null;
}

// Mails stored since somebody last looked, in the title; unread ones, in the bar. A browser opens six connections to a
// server: only the tab that is looked at holds one, the others ask now and then.
const title = document.title;
const AWAY_MS = 20_000;
let source = null;
let last = null;
let looked = null;
let asking = 0;

function figures(told) {
  last = told.last;
  if (looked === null || !document.hidden) looked = last;
  document.title = last > looked ? `(${last - looked}) ${title}` : title;
  for (const badge of document.querySelectorAll("[data-unread]")) {
    badge.hidden = told.unread === 0;
    badge.firstElementChild.textContent = told.unread.toLocaleString("en").replaceAll(",", "\u202f");
  }
}

async function ask() {
  const answer = await fetch("/ui/live?now=1", { redirect: "error" }).catch(() => null);
  if (answer?.ok) figures(await answer.json());
}

function listen() {
  clearInterval(asking);
  source?.close();
  if (document.hidden) {
    asking = setInterval(ask, AWAY_MS);
    return;
  }
  looked = last;
  document.title = title;
  source = new EventSource("/ui/live");
  for (const kind of ["here", "mail", "tick"]) {
    source.addEventListener(kind, (event) => {
      figures(JSON.parse(event.data));
      refresh(); // after "here" too: something may have changed since the page was made
    });
  }
}

if (document.body.dataset.csrf) {
  listen();
  document.addEventListener("visibilitychange", listen);
  addEventListener("pagehide", () => source?.close());
}

// --- a sign-in at a provider: asked for until somebody has done it, then on to where it leads ---------------------------

const waits = document.querySelector("form[data-waits]");

async function wait() {
  const asked = new URLSearchParams(new FormData(waits));
  asked.set("do", "finish");
  const answer = await fetch(waits.action, { method: "POST", body: asked, headers: { "X-Live": "1" } }).catch(() => null);
  if (answer?.redirected) location.assign(answer.url);
  else if (!answer || answer.ok || answer.status >= 500) setTimeout(wait, answer?.ok ? 500 : AWAY_MS);
}

if (waits) {
  waits.querySelector("[data-scripted]").hidden = false;
  wait();
}

document.querySelector("form[data-sends] button")?.click(); // all is filled in

// --- lists: tick all, ask before what cannot be undone ------------------------------------------------------------------

const all = document.getElementById("all");
if (all) {
  all.hidden = false;
  all.setAttribute("aria-label", "Tick all");
  const boxes = () => [...document.querySelectorAll('.list input[name="id"]')];
  all.addEventListener("change", () => boxes().forEach((box) => { box.checked = all.checked; }));
  addEventListener("fresh", () => { all.checked = boxes().length > 0 && boxes().every((box) => box.checked); });
}

addEventListener("click", (event) => {
  const sure = event.target.closest?.("[data-sure]")?.dataset.sure;
  if (sure && !confirm(sure)) event.preventDefault();
});

// --- keys: j and k go through mails, u goes up, / searches --------------------------------------------------------------

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
  if (event.key === "/" && document.getElementById("q")) {
    document.getElementById("q").focus();
    event.preventDefault();
    return;
  }
  const link = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  if (link) {
    link.click();
    return;
  }
  const links = [...document.querySelectorAll(".list li > a")];
  const step = { j: 1, k: -1 }[event.key];
  if (step && links.length) {
    const at = links.indexOf(document.activeElement);
    links[Math.min(links.length - 1, Math.max(0, at + step))].focus();
  }
  if (event.key === "x" && document.activeElement.matches(".list li > a")) {
    const box = document.activeElement.closest("li").querySelector("input");
    box.checked = !box.checked;
  }
});

// --- times in the reader's own zone, in the title ------------------------------------------------------------------------

function localise(page) {
  for (const time of page.querySelectorAll("time")) time.title = new Date(time.dateTime).toLocaleString();
}

localise(document);

// --- the protocol as it is spoken ------------------------------------------------------------------------------------------

for (const tail of document.querySelectorAll("[data-tail]")) {
  let stream = null;
  const say = (event) => {
    const low = tail.scrollTop + tail.clientHeight >= tail.scrollHeight - 8;
    tail.append(`${event.data}\n`);
    while (tail.childNodes.length > 1000) tail.firstChild.remove();
    if (low) tail.scrollTop = tail.scrollHeight;
  };
  const hear = () => {
    stream?.close();
    if (document.hidden) return;
    stream = new EventSource(tail.dataset.tail);
    stream.addEventListener("message", say);
  };
  tail.textContent = "";
  hear();
  document.addEventListener("visibilitychange", hear);
  addEventListener("pagehide", () => stream?.close());
}
