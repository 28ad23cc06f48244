// What is between the page and its runtime: endpoints, headers, cookies, a network that fails.

import assert from "node:assert/strict";

import { core, more } from "../driver/scenario.mjs";

const transport = (view) => view.page.locator("#status").getAttribute("data-transport");

async function chats(t, query) {
  const view = await t.open({ agent: "echo", ...query });
  await view.send("hello");
  await view.says("hello");
  await view.idle();
  await view.reload();
  await view.says("hello");
  assert.deepEqual(await view.transcript(), ["user: hello", "agent: hello"]);
  return view;
}

more("single endpoint on", async (t) => {
  const view = await chats(t, { runtimeUrl: t.target.urls.single, single: "on" });
  assert.equal(await transport(view), "single");
});

more("single endpoint off", async (t) => {
  const view = await chats(t, { single: "off" });
  assert.equal(await transport(view), "rest");
});

more("single endpoint found automatically", async (t) => {
  // The page asks for `/info` first, which is told in the console to be no route of this mode.
  t.expectComplaints(/status of 405/);
  const view = await chats(t, { runtimeUrl: t.target.urls.single });
  assert.equal(await transport(view), "single");
});

core("routes and a single endpoint at once", async (t) => {
  const runtimeUrl = t.target.urls.both;
  for (const [single, expected] of [["on", "single"], ["off", "rest"], [undefined, "rest"]]) {
    t.newThread();
    const view = await chats(t, { runtimeUrl, single });
    assert.equal(await transport(view), expected);
  }
});

more("single endpoint mismatched", async (t) => {
  // A page that is told the wrong thing fails at once, and says so; it does not hang.
  t.expectComplaints(/status of 40[45]/, /Runtime info request failed with status 40[45]/);
  for (const query of [
    { single: "on" },
    { runtimeUrl: t.target.urls.single, single: "off" },
  ]) {
    const view = await t.open({ agent: "echo", ...query }, { ready: false });
    await view.page.locator('#status[data-runtime="error"]').waitFor({ state: "attached" });
    await view.page.locator("#errors li").first().waitFor({ state: "attached" });
  }
});

core("headers, properties and context", async (t) => {
  const view = await t.open({
    page: "State",
    agent: "mirror",
    headers: JSON.stringify({ Authorization: "Bearer secret", "X-Tenant": "acme" }),
    properties: JSON.stringify({ tone: "brief" }),
  });
  await view.send("who am I?");
  await view.get("state", { hasText: '"forwardedProps":{"tone":"brief"}' }).waitFor();
  const { headers, context } = JSON.parse(await view.get("state").innerText());
  assert.deepEqual(context.at(-1), { description: "the open page", value: '{"path":"/orders"}' });
  assert.deepEqual(headers, { authorization: "Bearer secret", "x-tenant": "acme" });
});

more("cookies over CORS", async (t) => {
  const runtimeUrl = t.target.urls.guarded;
  const profile = await t.profile();
  await profile.addCookies([{ name: "session", value: "e2e", url: new URL(runtimeUrl).origin }]);
  const view = await t.open({ agent: "echo", runtimeUrl, credentials: "include" }, { profile });
  await view.send("hello");
  await view.says("hello");
  await view.reload();
  await view.says("hello");
});

core("401", async (t) => {
  t.expectComplaints(/status of 401/, /Runtime info request failed with status 401/);
  const runtimeUrl = t.target.urls.guarded;
  const view = await t.open(
    { agent: "echo", runtimeUrl, credentials: "include" },
    { ready: false },
  );
  await view.page.locator('#status[data-runtime="error"]').waitFor({ state: "attached" });
  await view.page.locator("#errors li", { hasText: "401" }).first().waitFor({ state: "attached" });
});

more("server restarted", async (t) => {
  const first = await t.server();
  const network = await t.network(first.urls.main);
  const view = await t.open({ agent: "remembers", runtimeUrl: network.url });
  await view.send("before");
  await view.says("You said: before");
  await view.idle();
  await first.kill();
  network.cut();
  const second = await t.server();
  network.up(second.urls.main);
  // The page still has what was said, and tells the new server.
  await view.send("after");
  await view.says("You said: before / after");
  await view.idle();
  const told = await view.transcript();
  await view.reload();
  await view.says("You said: before / after");
  assert.deepEqual(await view.transcript(), told);
});

core("connection cut", async (t) => {
  t.expectComplaints(/ERR_INCOMPLETE_CHUNKED_ENCODING/, /network error/);
  const network = await t.network();
  const gate = t.gate();
  const view = await t.open({
    agent: "patient",
    properties: gate.properties,
    runtimeUrl: network.url,
  });
  await view.send("go");
  await view.says("the beginning");
  network.cut();
  await view.idle();
  // The run goes on without the page, which finds it again when it comes back.
  await view.reload();
  await view.says("the beginning");
  await gate.open();
  await view.says("the beginning, the rest");
  await view.idle();
  assert.deepEqual(await view.transcript(), ["user: go", "agent: the beginning, the rest"]);
});

more("threads", async (t) => {
  const row = (view, text) => view.page.locator("li[data-thread]", { hasText: text });
  const press = (view, name) => row(view, /./).getByRole("button", { name, exact: true }).click();
  // Only its own: other scenarios leave threads of their agents behind.
  const view = await t.open({ page: "Threads", agent: "halves", archived: "on" });
  await view.send("hello");
  await view.says("🚀");
  await view.idle();
  await view.page.getByRole("button", { name: "Refresh" }).click();
  await row(view, t.threadId).waitFor();
  await press(view, "Rename");
  await row(view, "Renamed").waitFor();
  await view.reload();
  await row(view, "Renamed").waitFor();
  await press(view, "Archive");
  await view.page.locator('li[data-archived="true"]').waitFor();
  await view.reload();
  await view.page.locator('li[data-archived="true"]').waitFor();
  await press(view, "Unarchive");
  await view.page.locator('li[data-archived="false"]').waitFor();
  await press(view, "Delete");
  await row(view, /./).waitFor({ state: "detached" });
  await view.reload();
  await view.page.locator('[data-testid="threads"][data-loading="false"]').waitFor({ state: "attached" });
  assert.equal(await row(view, /./).count(), 0);
});

more("inspector", async (t) => {
  const view = await t.open({ agent: "counter", inspector: "on" });
  const inspector = view.page.locator("cpk-web-inspector");
  // The inspector is awaited before the run, because it shows only the events since it is there.
  await inspector.getByRole("button").first().waitFor();
  await view.send("count");
  await view.idle();
  await inspector.getByRole("button").first().click();
  await inspector.getByText("AG-UI Events").first().click();
  await inspector.getByText("STATE_DELTA").first().waitFor();
  // The threads, and what is in them, it asks the runtime for.
  await inspector.getByText("Rich Threads").first().click();
  await inspector.getByText("counter", { exact: true }).first().waitFor();
  await inspector.getByText("count", { exact: true }).first().waitFor();
  await inspector.getByRole("tab", { name: "State" }).click();
  await inspector.getByText("counted").first().waitFor();
});
