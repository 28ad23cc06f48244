// The API before this one, `CopilotKit` and its hooks.

import { core, more } from "../driver/scenario.mjs";

core("v1: CopilotKit", async (t) => {
  const view = await t.open({ page: "LegacyChat", agent: "remembers" });
  await view.send("hello");
  await view.says("You said: hello");
  await view.idle();
  await view.reload();
  await view.says("You said: hello");
});

more("v1: useCopilotAction", async (t) => {
  const view = await t.open({ page: "LegacyAction", agent: "weather" });
  await view.send("Do I need an umbrella?");
  await view.says("It is sunny in Köln.");
  await view.get("weather", { hasText: "Köln" }).waitFor();
});

more("v1: useCoAgent", async (t) => {
  const view = await t.open({ page: "LegacyCoAgent", agent: "counter" });
  const state = (text) => view.get("state", { hasText: text }).waitFor();
  await view.send("count");
  await state('"count":2');
  await view.idle();
  await view.page.getByRole("button", { name: "Set to 41" }).click();
  await state('"count":41');
  await view.send("count");
  await state('"count":42');
});

more("v1: useLangGraphInterrupt", async (t) => {
  const view = await t.open({ page: "LegacyInterrupt", agent: "asks" });
  await view.send("paint it");
  await view.get("interrupt", { hasText: "Which colour?" }).waitFor();
  await view.page.getByRole("button", { name: "Approve" }).click();
  await view.says("You answered approved.");
});
