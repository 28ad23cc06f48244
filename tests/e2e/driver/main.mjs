// Runs scenarios as it is told to: a line of JSON on standard input for each, a line for its result.

import { createInterface } from "node:readline";
import path from "node:path";
import process from "node:process";

import { launch } from "./browser.mjs";
import { SCENARIOS } from "./scenario.mjs";
import { servePage } from "./servers.mjs";
import { Trial } from "./trial.mjs";

for (const name of ["chat", "tools", "streams", "surroundings", "legacy", "dashboard"]) {
  await import(`../scenarios/${name}.mjs`);
}

const pageOrigin = await servePage(path.join(path.dirname(import.meta.dirname), "dist"));
const browser = await launch();

async function perform({ name, target, screenshot }) {
  const trial = new Trial(browser, pageOrigin, target);
  const begun = Date.now();
  let error;
  let unexpected = [];
  let picture;
  try {
    await SCENARIOS.get(name)(trial);
  } catch (raised) {
    error = String(raised.stack ?? raised);
  }
  try {
    unexpected = trial.unexpected();
    if (error) {
      const views = trial.pages.filter(({ page }) => !page.isClosed());
      for (const view of views) {
        error += `\n--- ${view.page.url()}\n${await view.page.locator("body").innerText()}`;
      }
    }
    picture = await trial.screenshot(screenshot);
    await trial.close();
  } catch (raised) {
    error ??= `at its end: ${raised.stack ?? raised}`;
  }
  return { name, error, unexpected, screenshot: picture, seconds: (Date.now() - begun) / 1000 };
}

process.stdout.write(`${JSON.stringify({ browser: browser.version(), pageOrigin })}\n`);
for await (const line of createInterface(process.stdin)) {
  process.stdout.write(`${JSON.stringify(await perform(JSON.parse(line)))}\n`);
}
await browser.close();
process.exit(0);
