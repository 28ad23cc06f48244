// What every chat does.

import assert from "node:assert/strict";

import { core, more } from "../driver/scenario.mjs";

core("chat", async (t) => {
  const view = await t.open({ agent: "remembers", thread: undefined });
  await view.send("hello");
  await view.says("You said: hello");
  await view.idle();
  await view.send("again");
  await view.says("You said: hello / again");
  assert.deepEqual(await view.transcript(), [
    "user: hello",
    "agent: You said: hello",
    "user: again",
    "agent: You said: hello / again",
  ]);
});

more("chat in strict mode", async (t) => {
  // React mounts everything twice then, so each page connects twice as well.
  const view = await t.open({ agent: "remembers", strict: "on" });
  await view.send("hello");
  await view.says("You said: hello");
  await view.idle();
  await view.send("again");
  await view.says("You said: hello / again");
  const told = await view.transcript();
  await view.reload();
  await view.says("You said: hello / again");
  assert.deepEqual(await view.transcript(), told);
});

more("sidebar", async (t) => {
  const view = await t.open({ page: "Sidebar", agent: "echo" });
  await view.get("copilot-chat-toggle").click();
  await view.get("copilot-sidebar").waitFor();
  await view.send("beside");
  await view.says("beside");
});

more("popup", async (t) => {
  const view = await t.open({ page: "Popup", agent: "echo" });
  await view.get("copilot-chat-toggle").click();
  await view.get("copilot-popup").waitFor();
  await view.send("above");
  await view.says("above");
});

core("markdown", async (t) => {
  const view = await t.open({ agent: "markdown" });
  await view.send("show");
  const message = view.get("copilot-assistant-message");
  await message.locator("h1", { hasText: "A title" }).waitFor();
  await message.locator("strong, [data-streamdown=strong]", { hasText: "bold" }).first().waitFor();
  await message.locator("td", { hasText: "Köln" }).waitFor();
  await message.locator("li", { hasText: "two" }).waitFor();
  await message.locator("pre", { hasText: 'print("hello")' }).waitFor();
});

core("stop", async (t) => {
  const gate = t.gate();
  const view = await t.open({ agent: "patient", properties: gate.properties });
  await view.send("go");
  await view.says("the beginning");
  // The button that sends is the one that stops while a run is on.
  await view.get("copilot-send-button").click();
  await view.idle();
  await gate.open();
  await view.send("go on");
  await view.says("the beginning, the rest");
  assert.deepEqual(await view.transcript(), [
    "user: go",
    "agent: the beginning",
    "user: go on",
    "agent: the beginning, the rest",
  ]);
  await view.reload();
  await view.says("the beginning, the rest");
  assert.deepEqual(await view.transcript(), [
    "user: go",
    "agent: the beginning",
    "user: go on",
    "agent: the beginning, the rest",
  ]);
});

more("send while running", async (t) => {
  const gate = t.gate();
  const view = await t.open({ agent: "patient", properties: gate.properties });
  await view.send("first");
  await view.says("the beginning");
  await view.get("copilot-chat-textarea").fill("second");
  await view.get("copilot-chat-textarea").press("Enter");
  await gate.open();
  await view.says("the beginning, the rest");
  await view.idle();
  // Whatever the chat makes of it, it can be used again.
  await view.get("copilot-chat-textarea").fill("");
  await view.send("third");
  await view.asked("third");
  await view.idle();
  const told = await view.transcript();
  assert.equal(told.at(-1), "agent: the beginning, the rest");
  await view.reload();
  await view.asked("third");
  assert.deepEqual(await view.transcript(), told);
});

core("reload in mid-run", async (t) => {
  const gate = t.gate();
  const view = await t.open({ agent: "patient", properties: gate.properties });
  await view.send("go");
  await view.says("the beginning");
  await view.reload();
  await view.says("the beginning");
  await view.asked("go");
  await gate.open();
  await view.says("the beginning, the rest");
  await view.idle();
  assert.deepEqual(await view.transcript(), ["user: go", "agent: the beginning, the rest"]);
});

core("reload after the end", async (t) => {
  const view = await t.open({ agent: "remembers" });
  await view.send("one");
  await view.says("You said: one");
  await view.idle();
  await view.send("two");
  await view.says("You said: one / two");
  await view.idle();
  const told = await view.transcript();
  await view.reload();
  await view.says("You said: one / two");
  assert.deepEqual(await view.transcript(), told);
  await view.send("three");
  await view.says("You said: one / two / three");
});

core("two tabs", async (t) => {
  const gate = t.gate();
  const first = await t.open({ agent: "patient", properties: gate.properties });
  await first.send("go");
  await first.says("the beginning");
  const second = await t.open({ agent: "patient", properties: gate.properties });
  await second.says("the beginning");
  await gate.open();
  for (const view of [first, second]) {
    await view.says("the beginning, the rest");
    await view.idle();
    assert.deepEqual(await view.transcript(), ["user: go", "agent: the beginning, the rest"]);
  }
});

more("two agents", async (t) => {
  const view = await t.open({ page: "TwoAgents", agent: "echo", other: "remembers" });
  const [first, second] = ["#first", "#second"].map((id) => view.page.locator(id));
  await view.send("to one", first);
  await view.send("to the other", second);
  await view.says("to one", first);
  await view.says("You said: to the other", second);
  assert.deepEqual(await view.transcript(first), ["user: to one", "agent: to one"]);
  assert.deepEqual(await view.transcript(second), [
    "user: to the other",
    "agent: You said: to the other",
  ]);
});

more("stop in another tab", async (t) => {
  const gate = t.gate();
  const first = await t.open({ agent: "patient", properties: gate.properties });
  await first.send("go");
  await first.says("the beginning");
  const second = await t.open({ agent: "patient", properties: gate.properties });
  await second.says("the beginning");
  await second.running();
  await second.get("copilot-send-button").click();
  for (const view of [first, second]) {
    await view.idle();
    assert.deepEqual(await view.transcript(), ["user: go", "agent: the beginning"]);
  }
});

more("reload in strict mode in mid-run", async (t) => {
  const gate = t.gate();
  const query = { agent: "patient", properties: gate.properties, strict: "on" };
  const view = await t.open(query);
  await view.send("go");
  await view.says("the beginning");
  await view.reload();
  await view.says("the beginning");
  await gate.open();
  await view.says("the beginning, the rest");
  await view.idle();
  assert.deepEqual(await view.transcript(), ["user: go", "agent: the beginning, the rest"]);
});

more("messages of two tabs at once", async (t) => {
  // The thread is busy with the first one; the second is told so, and nothing is lost or mixed.
  t.expectComplaints(/status of 409/, /already running/);
  const gate = t.gate();
  const first = await t.open({ agent: "patient", properties: gate.properties });
  const second = await t.open({ agent: "patient", properties: gate.properties });
  await first.send("from the first");
  await first.says("the beginning");
  await second.send("from the second");
  await second.page
    .locator("#errors li", { hasText: "already running" })
    .first()
    .waitFor({ state: "attached" });
  await second.idle();
  await gate.open();
  await first.says("the beginning, the rest");
  await first.idle();
  await second.reload();
  await second.says("the beginning, the rest");
  const told = ["user: from the first", "agent: the beginning, the rest"];
  assert.deepEqual(await first.transcript(), told);
  assert.deepEqual(await second.transcript(), told);
});
