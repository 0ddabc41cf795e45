// The one script: pages are whole without it. With it, what changes on the server changes on the screen.
"use strict";

// --- live: on a hint, load the page anew and swap the pieces that are marked and differ --------------------------------

const pieces = () => [...document.querySelectorAll("[data-live]")];

async function refresh() {
  if (document.hidden || pieces().length === 0) return;
  const answer = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "error" }).catch(() => null);
  if (!answer || !answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const old of pieces()) {
    const now = fresh.querySelector(`[data-live="${CSS.escape(old.dataset.live)}"]`);
    if (!now || old.contains(document.activeElement) && old.querySelector("input:focus, textarea:focus, select:focus")) continue;
    if (old.innerHTML !== now.innerHTML) swap(old, now);
  }
}

function swap(old, now) {
  const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  old.replaceChildren(...now.childNodes);
  if (focused) old.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
  old.dispatchEvent(new CustomEvent("fresh", { bubbles: true }));
}

if (pieces().length > 0 && document.body.dataset.csrf) {
  const source = new EventSource("/ui/live");
  source.addEventListener("mail", refresh);
  source.addEventListener("tick", refresh);
  document.addEventListener("visibilitychange", refresh);
  addEventListener("pagehide", () => source.close());
}
