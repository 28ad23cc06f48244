// Where the agent and the page work on something together.

import assert from "node:assert/strict";

import { core, more } from "../driver/scenario.mjs";

core("frontend tool", async (t) => {
  const view = await t.open({ page: "Tools", agent: "weather" });
  await view.send("Do I need an umbrella?");
  await view.says("It is sunny in Köln.");
  await view.get("weather", { hasText: "Köln: sunny in Köln" }).waitFor();
  await view.idle();
  await view.reload();
  await view.says("It is sunny in Köln.");
  await view.get("weather", { hasText: "Köln: sunny in Köln" }).waitFor();
});

more("two tools", async (t) => {
  const view = await t.open({ page: "Tools", agent: "two_tools" });
  await view.send("Make it cosy");
  await view.says("Done: sunny in Köln and the light is on.");
  await view.get("light", { hasText: "on" }).waitFor();
});

core("human in the loop", async (t) => {
  const view = await t.open({ page: "Human", agent: "confirms" });
  await view.send("Delete it");
  await view.get("confirm", { hasText: "Really delete?" }).waitFor();
  await view.page.getByRole("button", { name: "Yes" }).click();
  await view.says("You said yes.");
  await view.get("confirm", { hasText: "answered: yes" }).waitFor();
  await view.idle();
  await view.reload();
  await view.says("You said yes.");
  await view.get("confirm", { hasText: "answered: yes" }).waitFor();
});

core("human in the loop across a reload", async (t) => {
  const view = await t.open({ page: "Human", agent: "confirms" });
  await view.send("Delete it");
  await view.get("confirm", { hasText: "Really delete?" }).waitFor();
  await view.page.getByRole("button", { name: "No" }).waitFor();
  await view.reload();
  await view.get("confirm", { hasText: "Really delete?" }).waitFor();
  await view.page.getByRole("button", { name: "No" }).click();
  await view.says("You said no.");
});

core("tool renderers", async (t) => {
  const view = await t.open({ page: "ToolRenderers", agent: "searches" });
  await view.send("Look it up");
  await view.says("I found three.");
  const shown = async () => {
    await view.get("search", { hasText: "sans-I/O: three hits" }).waitFor();
    const other = view.get("copilot-tool-render");
    await other.waitFor();
    assert.equal(await other.getAttribute("data-tool-name"), "count");
    assert.equal(await other.getAttribute("data-args"), '{"of":"hits"}');
    assert.equal(await other.getAttribute("data-status"), "complete");
    assert.match(await other.getAttribute("data-result"), /3/);
  };
  await shown();
  await view.idle();
  await view.reload();
  await view.says("I found three.");
  await shown();
});

async function interrupted(t) {
  const view = await t.open({ page: "Interrupts", agent: "interrupts" });
  await view.send("Pay");
  await view.get("interrupt", { hasText: "Pay 10 euros?" }).waitFor();
  await view.idle();
  return view;
}

core("interrupt approved", async (t) => {
  const view = await interrupted(t);
  await view.page.getByRole("button", { name: "Approve" }).click();
  await view.says('It was approved: {"approved": true}.');
  await view.get("interrupt").waitFor({ state: "detached" });
});

more("interrupt cancelled", async (t) => {
  const view = await interrupted(t);
  await view.page.getByRole("button", { name: "Cancel" }).click();
  await view.says("It was cancelled: null.");
  await view.get("interrupt").waitFor({ state: "detached" });
});

more("interrupt after a reload", async (t) => {
  const view = await interrupted(t);
  await view.reload();
  await view.says("One moment.");
  await view.get("interrupt", { hasText: "Pay 10 euros?" }).waitFor();
  await view.page.getByRole("button", { name: "Approve" }).click();
  await view.says('It was approved: {"approved": true}.');
});

core("state both ways", async (t) => {
  const view = await t.open({ page: "State", agent: "counter" });
  const state = (text) => view.get("state", { hasText: text }).waitFor();
  await view.send("count");
  await state('{"count":1,"steps":["counted"]}');
  await view.idle();
  await view.page.getByRole("button", { name: "Set to 41" }).click();
  await state('"count":41');
  await view.send("count");
  await state('{"count":42,"steps":["counted"]}');
  await view.idle();
  await view.reload();
  await state('{"count":42,"steps":["counted"]}');
});

core("suggestions", async (t) => {
  const view = await t.open({ page: "Suggest", agent: "default" });
  await view.get("copilot-suggestion", { hasText: "More" }).click();
  await view.asked("Tell me more");
});

more("suggestions that are fixed", async (t) => {
  const view = await t.open({ page: "Suggest", agent: "echo", static: "on" });
  await view.get("copilot-suggestion", { hasText: "A fixed one" }).click();
  await view.says("fixed");
});
