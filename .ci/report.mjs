// Opens a report in Chromium and uses it: node report.mjs CHROMIUM DIR AUTOHARNESS EXPERIMENT, with DIR/report.html; screenshots
// go to DIR.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [program, directory, binary, experiment] = process.argv.slice(2);
const file = pathToFileURL(join(directory, "report.html")).href;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const browser = await chromium.launch({ executablePath: program, args: ["--no-sandbox", "--disable-gpu"] });
const troubles = [];

// A fresh page; whatever it complains about or asks the network for is trouble.
async function open(options, bypassCSP = false, url = file) {
  const context = await browser.newContext({ bypassCSP, ...options });
  // A long page takes its time on a busy machine.
  context.setDefaultTimeout(120_000);
  const page = await context.newPage();
  page.on("console", (message) => message.type() === "error" && troubles.push(message.text()));
  page.on("pageerror", (error) => troubles.push(String(error)));
  const wanted = url === file ? [url] : [url, `${url}events`];
  page.on("request", (request) => wanted.includes(request.url().split("#")[0]) || troubles.push(`asked for ${request.url()}`));
  await page.goto(url);
  return page;
}

for (const [width, scheme] of [[1600, "light"], [1280, "dark"], [320, "light"]]) {
  const page = await open({ viewport: { width, height: 900 }, colorScheme: scheme });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.ok(wide <= 0, `at ${width} px the page is ${wide} px too wide`);
  const ground = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  assert.equal(ground === "rgb(255, 255, 255)", scheme === "light", `${scheme}: ${ground}`);
  await page.getByRole("button", { name: "light / dark" }).click();
  assert.notEqual(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), ground);
  await page.getByRole("button", { name: "light / dark" }).click();
  for (const section of await page.locator("section").all()) {
    const name = await section.getAttribute("id");
    const path = join(directory, `${name}-${width}-${scheme}.png`);
    const { height } = await section.boundingBox();
    // Of what is very long a screen tells as much, and takes a second instead of ten.
    if (height <= 8000) {
      await section.screenshot({ path });
    } else {
      await section.evaluate((node) => node.scrollIntoView());
      await page.screenshot({ path });
    }
  }
  // The cells of a row open its task, as its name does.
  const row = page.locator(".matrix tbody tr").first();
  const task = await row.locator("th").innerText();
  await row.locator("svg").click();
  // The page turns to it once the browser tells it of the new address.
  await page.locator("#reader-title", { hasText: task }).waitFor();
  await page.locator("#reader .turn").first().waitFor();
  await page.screenshot({ path: join(directory, `reader-${width}-${scheme}.png`) });
  await page.getByRole("button", { name: /Close/ }).click();
  await page.locator("#reader").waitFor({ state: "hidden" });
  await page.close();
}

// What README shows.
const top = await open({ viewport: { width: 1000, height: 900 }, colorScheme: "light" });
await top.screenshot({ path: join(directory, "top.png") });
await top.close();

// It is there and answers at once, however long the night was: a click on the matrix, and a search.
const quick = await open({ viewport: { width: 1280, height: 900 } });
const took = await quick.evaluate(async () => {
  const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const times = { open: Math.round(performance.getEntriesByType("navigation")[0].loadEventEnd) };
  for (const [name, act, is] of [
    ["click", () => document.querySelector(".matrix tbody tr:last-child svg").parentElement.click(), () => document.querySelector("#reader[open] .turn")],
    ["close", () => document.querySelector("#close").click(), () => !document.querySelector("#reader[open]")],
    ["search", () => { const field = document.querySelector("#search"); field.value = "a"; field.dispatchEvent(new Event("input")); }, () => document.querySelector("#found a")],
  ]) {
    const start = performance.now();
    act();
    do await painted(); while (!is());
    times[name] = Math.round(performance.now() - start);
  }
  return times;
});
console.log("milliseconds until the page answered:", JSON.stringify(took));
for (const [name, time] of Object.entries(took)) assert.ok(time < 3000, `${name} took ${time} ms`);
await quick.close();

// By keyboard alone: to the first task, open it, close it; then search.
const page = await open({ viewport: { width: 1280, height: 900 } });
await page.locator(".matrix a").first().focus();
await page.keyboard.press("Enter");
await page.locator("#reader[open]").waitFor();
const word = (await page.locator("#reader .turn pre").first().innerText()).split(/\s+/).find((part) => part.length > 3);
await page.keyboard.press("Escape");
await page.locator("#reader").waitFor({ state: "hidden" });
await page.locator("#search").focus();
await page.keyboard.type(word);
await page.locator("#found a").first().waitFor();
await page.locator("#found a").first().focus();
await page.keyboard.press("Enter");
await page.locator("#reader mark").first().waitFor();
await page.emulateMedia({ media: "print" });
await page.pdf({ path: join(directory, "report.pdf") });

// Our policy lets no other script run, axe's neither: it is tried on a page without the policy.
for (const colorScheme of ["light", "dark"]) {
  const free = await open({ viewport: { width: 1280, height: 900 }, colorScheme }, true);
  await free.evaluate(axe);
  const found = await free.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  const serious = found.violations.filter((one) => ["serious", "critical"].includes(one.impact));
  for (const one of serious) troubles.push(`${colorScheme}: axe ${one.id}: ${one.help}: ${one.nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(" | ")}`);
}

// The watched page follows what another process does, and keeps what is open and focused.
const watcher = spawn(binary, ["-C", experiment, "report", "--watch"], { stdio: ["ignore", "pipe", "inherit"] });
try {
  const [address] = await once(watcher.stdout.setEncoding("utf8"), "data");
  const page = await open({ viewport: { width: 1280, height: 900 } }, false, address.trim());
  await page.locator("#live", { hasText: "Live" }).waitFor();
  await page.locator("#edits details summary").first().click();
  await page.locator(".matrix a").first().focus();
  const focused = await page.evaluate(() => document.activeElement.textContent);
  const ran = spawnSync(binary, ["-C", experiment, "benchmark", "--fresh"], { encoding: "utf8" });
  assert.equal(ran.status, 0, ran.stderr);
  await page.locator('main:not([data-page="1"])').waitFor();
  assert.equal(await page.locator("#edits details[open]").count(), 1);
  assert.equal(await page.evaluate(() => document.activeElement.textContent), focused);
  const before = troubles.length;
  watcher.kill("SIGINT");
  assert.deepEqual(await once(watcher, "exit"), [0, null]);
  await page.locator("#live", { hasText: "Not connected" }).waitFor();
  // The browser reports by itself that the server is gone.
  const lost = (trouble) => /^Failed to load resource: net::ERR_(CONNECTION_|INCOMPLETE_)/.test(trouble);
  troubles.push(...troubles.splice(0).filter((trouble, at) => at < before || !lost(trouble)));
} finally {
  watcher.kill("SIGKILL");
}
await browser.close();
assert.deepEqual(troubles, []);
console.log(`the report works in a browser; screenshots are in ${directory}`);
