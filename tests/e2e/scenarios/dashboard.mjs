// The page of `sansio-copilot dashboard`: it charts what a runtime tells, and says when it is away, in
// texts that stay texts.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { createInterface } from "node:readline";

import { core, more } from "../driver/scenario.mjs";

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

more("dashboard of a hostile server", async (t) => {
  const hostile = '<img src=x onerror="alert(1)"><script>alert(2)</script>';
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => socket.end(`HTTP/1.x ${hostile}${"<b>".repeat(20_000)}\r\n\r\n`));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.atEnd(() => new Promise((resolve) => server.close(resolve)));
  const url = `http://127.0.0.1:${server.address().port}/<img%20src=x>`;

  const { page } = await t.openPage(await serveDashboard(t, url), { profile: await t.profile() });
  const dialogs = [];
  page.on("dialog", (dialog) => {
    dialogs.push(dialog.message());
    return dialog.dismiss();
  });
  const status = page.locator('#status[data-tone="bad"]');
  await status.waitFor();
  assert.ok((await status.innerText()).includes(`BadStatusLine: HTTP/1.x ${hostile}<b>`));
  assert.ok((await status.innerText()).length < 300);
  assert.equal(await page.locator("#url").innerText(), url);
  assert.equal(await page.locator("img, #status *, #url *").count(), 0);
  const told = await page.waitForResponse(/points\?after=[1-9]/);
  assert.ok((await told.body()).length < 2000);
  assert.deepEqual(dialogs, []);
});
