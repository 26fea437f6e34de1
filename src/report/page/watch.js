"use strict";
(() => {
  const live = document.getElementById("live");
  const keyOf = (node) => node.closest("section").id + "\n" + node.textContent;
  const opened = () => [...document.querySelectorAll("main details[open] > summary")].map(keyOf);
  let isBusy = false, newest = "";

  // Puts the new page's parts in the place of the old ones; what is open, focused or scrolled to stays.
  const replace = (page) => {
    const open = new Set(opened());
    const focused = document.activeElement.closest("main a, main summary");
    const key = focused && keyOf(focused);
    for (const part of ["main", "header .meta", "#data"]) document.querySelector(part).replaceWith(page.querySelector(part));
    for (const summary of document.querySelectorAll("main details > summary")) {
      if (open.has(keyOf(summary))) summary.parentElement.open = true;
    }
    const again = key && [...document.querySelectorAll("main a, main summary")].find((node) => keyOf(node) === key);
    if (again) again.focus({ preventScroll: true });
    document.dispatchEvent(new Event("report-data"));
  };

  const update = async () => {
    if (isBusy) return;
    isBusy = true;
    try {
      while (document.querySelector("main").dataset.page !== newest) {
        const wanted = newest;
        const answer = await fetch(location.pathname, { cache: "no-store" });
        if (!answer.ok) throw new Error(answer.status);
        replace(new DOMParser().parseFromString(await answer.text(), "text/html"));
        // Take one answer, even if it is newer than announced: after an older one, the loop would never end.
        if (wanted === newest) break;
      }
      live.textContent = "Live: it follows the experiment.";
    } catch {
      lost();
    } finally {
      isBusy = false;
    }
  };

  const lost = () => { live.textContent = "Not connected: this is the page as it was last. autoharness report --watch makes a new one."; };
  const events = new EventSource("events");
  events.addEventListener("message", (event) => { newest = event.data; update(); });
  events.addEventListener("error", lost);
})();
