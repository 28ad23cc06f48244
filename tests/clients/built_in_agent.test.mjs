// An agent that is made of a model (BuiltInAgent), for a page built with CopilotKit. The model is a
// function that does what the user's last message says.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { HttpAgent } from "@ag-ui/client";
import { CopilotKitCore } from "@copilotkit/core";

import { expectComplaints, fresh, lastText, runtimeUrl, until, userMessage } from "./support.mjs";

// Where there is no window the core takes itself to be rendering on a server, and asks for nothing.
globalThis.window ??= {};

// The first run of Pydantic AI in a process takes its time.
const patience = { timeout: 30_000 };

async function open() {
  const core = new CopilotKitCore({ runtimeUrl });
  await new Promise((resolve, reject) => {
    core.subscribe({ onAgentsChanged: () => resolve(), onError: ({ error }) => reject(error) });
  });
  const agent = core.getAgent("built-in");
  agent.threadId = fresh("thread");
  return { core, agent };
}

describe("CopilotKitCore and a model", () => {
  test("chat, and call a function of the server", patience, async () => {
    const { core, agent } = await open();
    agent.addMessage(userMessage('call _multiply {"a": 6, "b": 7}'));
    await core.runAgent({ agent });
    assert.equal(lastText(agent), "The tool said: 42");
    const call = agent.messages.find(({ toolCalls }) => toolCalls?.length).toolCalls[0];
    assert.equal(call.function.name, "_multiply");
    agent.addMessage(userMessage("thanks"));
    await core.runAgent({ agent });
    assert.match(lastText(agent), /^thanks, /);
  });

  test("call a function of the page, and go on", patience, async (t) => {
    expectComplaints(t);
    const { core, agent } = await open();
    const asked = [];
    core.addTool({
      name: "get_weather",
      description: "The weather in a city.",
      handler: async ({ city }) => {
        asked.push(city);
        return "sunny";
      },
    });
    agent.addMessage(userMessage('call get_weather {"city": "Oslo"}'));
    await core.runAgent({ agent });
    assert.deepEqual(asked, ["Oslo"]);
    assert.equal(lastText(agent), "The tool said: sunny");
  });

  test("share a state, which the model changes", patience, async () => {
    const { core, agent } = await open();
    agent.setState({ count: 1 });
    const delta = '{"delta": [{"op": "replace", "path": "/count", "value": 2}]}';
    agent.addMessage(userMessage(`call AGUISendStateDelta ${delta}`));
    await core.runAgent({ agent });
    assert.deepEqual(agent.state, { count: 2 });
  });

  test("are stopped, and the model's call is aborted", patience, async (t) => {
    expectComplaints(t);
    const { core, agent } = await open();
    agent.addMessage(userMessage("wait"));
    const begun = until(agent, () => lastText(agent) === "the beginning");
    const run = core.runAgent({ agent });
    await begun;
    core.stopAgent({ agent });
    await run;
    // The run has ended for its readers before its agent has.
    do {
      agent.addMessage(userMessage("how many"));
      await core.runAgent({ agent });
    } while (lastText(agent) === "how many, 0 aborted");
    assert.equal(lastText(agent), "how many, 1 aborted");
  });
});

describe("@ag-ui/client", () => {
  test("approves a call, whose run goes on", patience, async () => {
    const agent = new HttpAgent({ url: `${runtimeUrl}/agent/built-in/run`, threadId: fresh("t") });
    agent.addMessage(userMessage('call _delete_file {"path": "a.txt"}'));
    const outcomes = [];
    const seen = { onRunFinishedEvent: ({ event }) => void outcomes.push(event.outcome) };
    await agent.runAgent({}, seen);
    assert.equal(outcomes[0].type, "interrupt");
    const [{ id }] = outcomes[0].interrupts;
    const answer = { interruptId: id, status: "resolved", payload: { approved: true } };
    await agent.runAgent({ resume: [answer] }, seen);
    assert.equal(outcomes[1].type, "success");
    assert.equal(lastText(agent), "The tool said: deleted a.txt");
  });
});
