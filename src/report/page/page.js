"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const read = () => JSON.parse(byId("data").textContent).tasks;
  let tasks = read();
  const reader = byId("reader");
  let wanted = "";

  // Everything from a trace becomes text, never markup.
  const make = (name, className, text) => {
    const node = document.createElement(name);
    if (className) node.className = className;
    if (text !== undefined && text !== null) node.append(...marked(String(text)));
    return node;
  };

  // The text, with what was searched for marked.
  const marked = (text) => {
    if (!wanted) return [text];
    const parts = [], low = text.toLowerCase();
    let from = 0, at;
    while ((at = low.indexOf(wanted, from)) >= 0 && parts.length < 2000) {
      const hit = document.createElement("mark");
      hit.textContent = text.slice(at, at + wanted.length);
      parts.push(text.slice(from, at), hit);
      from = at + wanted.length;
    }
    parts.push(text.slice(from));
    return parts;
  };

  // A long text shows its first lines, until it is asked for.
  const words = (text) => {
    const lines = text.split("\n");
    if (lines.length <= 24 || wanted) return [make("pre", "", text)];
    const pre = make("pre", "", lines.slice(0, 20).join("\n"));
    const more = make("button", "", "show all " + lines.length + " lines");
    more.type = "button";
    more.addEventListener("click", () => { pre.textContent = text; more.remove(); });
    return [pre, more];
  };

  const turn = (one, file) => {
    const kind = /^[a-z_]+$/.test(one.r) ? " r-" + one.r : "";
    const box = make("div", "turn" + kind + (one.f ? " failed" : ""));
    const more = [one.t, one.s !== undefined && one.s + " s", one.k !== undefined && one.k + " tokens", one.f && "failed"];
    box.append(make("div", "who", ["[" + one.n + "] " + one.r, ...more.filter(Boolean)].join(" · ")));
    if (one.x) box.append(...words(one.x));
    for (const [name, args] of one.c || []) {
      const call = make("details");
      call.open = Boolean(wanted) && args.toLowerCase().includes(wanted);
      call.append(make("summary", "", "calls " + name), make("pre", "", args));
      box.append(call);
    }
    if (one.cut) box.append(make("p", "meta", "cut; the whole is in " + file));
    return box;
  };

  const side = (title, trial) => {
    const box = make("div", "side");
    box.append(make("h3", "", title));
    if (!trial) { box.append(make("p", "", "There is none.")); return box; }
    const said = [trial.outcome || "unknown", trial.reward !== null && "reward " + trial.reward, trial.seconds !== null && Number(trial.seconds.toPrecision(3)) + " s",
      trial.tokens !== null && trial.tokens + " tokens", trial.cost !== null && "$" + trial.cost, "trial " + trial.trial, "by " + trial.whose];
    box.append(make("p", "", said.filter(Boolean).join(", ")));
    if (trial.error) box.append(make("p", "k-rej", trial.error));
    if (trial.failed.length) box.append(make("p", "", "failed checks: " + trial.failed.join("; ")));
    if (trial.facts.length) {
      const facts = make("details");
      facts.append(make("summary", "", "result and facts"));
      for (const [name, value] of trial.facts) facts.append(make("div", "meta", name + ": " + value));
      box.append(facts);
    }
    if (trial.without) box.append(make("p", "meta", "No trace: " + trial.without));
    if (trial.skipped) box.append(make("p", "meta", trial.skipped + " earlier turns are left out; the whole is in " + trial.file));
    box.append(...trial.turns.map((one) => turn(one, trial.file)));
    return box;
  };

  const show = (number) => {
    const task = tasks[number];
    if (!task) return;
    byId("reader-title").textContent = task.task;
    byId("reader-about").textContent = "history " + task.marks + (task.suite ? ", in the regression suite" : "") +
      (task.baseline ? "" : "; the newest trial is the first one");
    const sides = [side("newest", task.latest)];
    if (task.baseline) sides.unshift(side("first ever", task.baseline));
    byId("sides").replaceChildren(...sides);
    if (!reader.open) reader.showModal();
    reader.scrollTop = 0;
    if (wanted) { const hit = reader.querySelector("mark"); if (hit) hit.scrollIntoView({ block: "center" }); }
  };

  const route = () => {
    const found = /^#task=(\d+)$/.exec(location.hash);
    if (found) show(Number(found[1]));
    else if (reader.open) reader.close();
  };
  window.addEventListener("hashchange", route);
  reader.addEventListener("close", () => {
    if (location.hash.startsWith("#task=")) history.replaceState(null, "", location.pathname + location.search);
  });
  byId("close").addEventListener("click", () => reader.close());

  // The texts of a task, once: they are searched at every key.
  let texts;
  const textOf = (task) => {
    const parts = [task.task];
    for (const trial of [task.latest, task.baseline]) {
      if (!trial) continue;
      parts.push(trial.error || "", ...trial.failed, ...trial.facts.flat());
      for (const one of trial.turns) parts.push(one.x || "", one.t || "", ...(one.c || []).flat());
    }
    return parts.join("\n").toLowerCase();
  };
  const search = () => {
    wanted = byId("search").value.trim().toLowerCase();
    const found = byId("found");
    found.replaceChildren();
    if (!wanted) return;
    texts = texts || tasks.map(textOf);
    const hits = tasks.map((_, number) => number).filter((number) => texts[number].includes(wanted));
    found.append(hits.length + " of " + tasks.length + " tasks: ");
    for (const number of hits.slice(0, 30)) {
      const link = document.createElement("a");
      link.href = "#task=" + number;
      link.textContent = tasks[number].task;
      found.append(link);
    }
  };
  byId("search").addEventListener("input", search);

  // A served page was brought up to date. A task that is being read stays as it is, under its new number.
  document.addEventListener("report-data", () => {
    tasks = read();
    texts = undefined;
    search();
    const shown = tasks.findIndex((task) => task.task === byId("reader-title").textContent);
    if (reader.open && shown >= 0) history.replaceState(null, "", "#task=" + shown);
  });

  const root = document.documentElement;
  byId("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  route();
})();
