// What else an agent streams, and what happens when it fails.

import assert from "node:assert/strict";

import { core, more } from "../driver/scenario.mjs";

core("reasoning", async (t) => {
  const view = await t.open({ agent: "thinker" });
  await view.send("six times seven?");
  await view.says("42");
  const thought = () => view.page.getByText(/Thought/).first();
  await thought().waitFor();
  await view.idle();
  await view.reload();
  await view.says("42");
  await thought().click();
  await view.sees("six times seven");
});

function inTheMiddle(at) {
  const query = { page: "ToolRenderers", agent: "pauses" };
  const begun = (view) =>
    at === "thought"
      ? view.page.getByText("let me think").first().waitFor({ state: "attached" })
      : view.get("search").first().waitFor({ state: "attached" });

  async function reload(t) {
    const gate = t.gate();
    const properties = JSON.stringify({ ...JSON.parse(gate.properties), at });
    const view = await t.open({ ...query, properties });
    await view.send("go");
    await begun(view);
    await view.reload();
    await begun(view);
    await gate.open();
    await view.says("here it is");
    await view.get("search", { hasText: "sans-I/O: three hits" }).waitFor();
    await view.idle();
  }

  async function stop(t) {
    const gate = t.gate();
    const properties = JSON.stringify({ ...JSON.parse(gate.properties), at });
    const view = await t.open({ ...query, properties });
    await view.send("go");
    await begun(view);
    await view.get("copilot-send-button").click();
    await view.idle();
    await view.reload();
    await view.asked("go");
    await begun(view);
    await gate.open();
    await view.send("once more");
    await view.says("here it is");
    await view.idle();
    await view.reload();
    await view.says("here it is");
  }

  return { reload, stop };
}

more("reload in the middle of a thought", inTheMiddle("thought").reload);
more("reload in the middle of a call", inTheMiddle("call").reload);
more("stop in the middle of a thought", inTheMiddle("thought").stop);
more("stop in the middle of a call", inTheMiddle("call").stop);

more("messages snapshot", async (t) => {
  const view = await t.open({ agent: "snaps" });
  await view.send("one");
  await view.says("streamed");
  await view.idle();
  await view.send("two");
  await view.asked("two");
  await view.until(async () => (await view.transcript()).length === 4, "four messages");
  await view.idle();
  const told = await view.transcript();
  assert.deepEqual(told, ["user: one", "agent: streamed", "user: two", "agent: streamed"]);
  await view.reload();
  await view.asked("two");
  await view.until(async () => (await view.transcript()).length === 4, "four messages");
  assert.deepEqual(await view.transcript(), told);
});

core("activities", async (t) => {
  const view = await t.open({ page: "Activities", agent: "plans" });
  await view.send("plan");
  await view.says("That is the plan.");
  const shown = async () => {
    const plan = view.page.locator('[data-testid="plan"][data-done="true"]');
    await plan.waitFor();
    assert.deepEqual(await plan.locator("li").allInnerTexts(), ["look", "think"]);
  };
  await shown();
  await view.idle();
  await view.reload();
  await view.says("That is the plan.");
  await shown();
});

core("surfaces that an agent paints", async (t) => {
  const view = await t.open({ agent: "paints", runtimeUrl: t.target.urls.painted });
  await view.send("what does it cost?");
  await view.says("That is the offer.");
  await view.sees("It costs 10 euros");
  await view.idle();
  await view.reload();
  await view.says("That is the offer.");
  await view.sees("It costs 10 euros");
  await view.page.getByText("Buy it").click();
  await view.says("You pressed buy.");
});

core("agent that fails", async (t) => {
  const view = await t.open({ agent: "fails" });
  await view.send("try");
  await view.says("so far");
  await view.idle();
  const errors = view.page.locator("#errors li");
  await errors.first().waitFor({ state: "attached" });
  const told = await view.transcript();
  await view.reload();
  await view.says("so far");
  assert.deepEqual(await view.transcript(), told);
});

more("agent that refuses", async (t) => {
  const view = await t.open({ agent: "refuses" });
  await view.send("try");
  const error = view.page.locator("#errors li", { hasText: "no credit left" });
  await error.first().waitFor({ state: "attached" });
});

more("images", async (t) => {
  const view = await t.open({ page: "Images", agent: "sees" });
  const pixel =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
  const file = { name: "pixel.png", mimeType: "image/png", buffer: Buffer.from(pixel, "base64") };
  await view.page.locator('input[type="file"]').first().setInputFiles(file);
  await view.get("copilot-attachment-queue").locator("img").waitFor();
  await view.send("What is this?");
  await view.says(/I see .*text:What is this\?/);
  await view.says(/image:image\/png/);
  await view.idle();
  await view.reload();
  await view.says(/image:image\/png/);
  const picture = view.get("copilot-user-message").locator("img");
  await picture.waitFor();
  assert.ok(await picture.evaluate((image) => image.decode().then(() => image.naturalWidth === 1)));
});

more("voice", async (t) => {
  const profile = await t.profile();
  await profile.addInitScript(() => {
    const { start } = MediaRecorder.prototype;
    MediaRecorder.prototype.start = function (...args) {
      this.addEventListener("dataavailable", () => (document.body.dataset.recorded = "some"));
      return start.apply(this, args);
    };
  });
  const view = await t.open({ agent: "echo" });
  await view.get("copilot-start-transcribe-button").click();
  // A recording that is ended before it has begun is dropped by the page.
  await view.page.locator('body[data-recorded="some"]').waitFor();
  await view.get("copilot-finish-transcribe-button").click();
  const textarea = view.get("copilot-chat-textarea");
  await view.until(async () => (await textarea.inputValue()) === "I spoke audio/webm", "a text");
  await view.get("copilot-send-button").click();
  await view.says("I spoke audio/webm");
});
