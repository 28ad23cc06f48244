// The page of `sansio-copilot dashboard`: it charts what a runtime tells, and says when it is away.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

import { core } from "../driver/scenario.mjs";

/** Starts the command; returns the URL of its page. */
async function serveDashboard(t, url) {
  const [python] = t.target.command;
  const args = ["-m", "copilot_bindings.cli", "dashboard", url, "--port", "0"];
  const child = spawn(python, args, { stdio: ["ignore", "pipe", "pipe"] });
  const ended = new Promise((resolve) => child.on("exit", resolve));
  t.atEnd(async () => {
    child.kill("SIGTERM");
    assert.equal(await ended, 0);
  });
  let complaints = "";
  child.stderr.on("data", (text) => (complaints += text));
  for await (const line of createInterface(child.stdout)) {
    const found = line.match(/http:\S+/);
    if (found) {
      return found[0];
    }
  }
  throw new Error(`the dashboard says nothing: ${complaints}`);
}

core("dashboard", async (t) => {
  const network = await t.network();
  const url = new URL("metrics", network.url).href;
  const own = await serveDashboard(t, url);

  const profile = await t.profile({ colorScheme: "dark" });
  const view = await t.openPage(own, { profile });
  const { page } = view;
  const asked = [];
  page.on("request", (request) => asked.push(request.url()));
  const status = page.locator("#status");
  await page.locator('#status[data-tone="good"]').waitFor();
  assert.equal(await page.locator("#url").innerText(), url);
  const chart = page.getByRole("img", { name: /^Runs that ended/ });
  await chart.waitFor();

  // A run is charted.
  const chat = await t.open({ agent: "echo", runtimeUrl: network.url });
  await chat.send("hello");
  await chat.says("hello");
  await page.bringToFront();
  await page.getByRole("img", { name: /^Runs that ended.*: finished [1-9]/ }).waitFor();
  assert.ok(await chart.locator("path[d^=M]").count());
  // The moment that is pointed at is read.
  await chart.hover();
  await chart.locator(".cursor").waitFor({ state: "attached" });
  await page.mouse.move(0, 0);

  // Both themes are there: neither has text on a ground of its own colour.
  const colours = () =>
    page.evaluate(() => {
      const { color, backgroundColor } = getComputedStyle(document.body);
      return [color, backgroundColor];
    });
  const dark = await colours();
  await page.emulateMedia({ colorScheme: "light" });
  assert.deepEqual((await colours()).filter((colour) => dark.includes(colour)), []);

  // The server goes, and comes back: what was shown stays, and there is a gap.
  t.expectComplaints(/ERR_/);
  network.down();
  await page.locator('#status[data-tone="bad"]').waitFor();
  assert.match(await status.innerText(), /^away since .*: (Connection|RemoteDisconnected)/);
  await chart.locator(".away").first().waitFor({ state: "attached" });
  network.up();
  await page.locator('#status[data-tone="good"]').waitFor();
  assert.ok(await chart.locator(".away").count());
  assert.ok(asked.length);
  assert.deepEqual(asked.filter((each) => !each.startsWith(own)), []);
});
