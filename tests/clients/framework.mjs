// What a page built with CopilotKit does with the agent of a framework: the unmodified
// CopilotKitCore chats with it, answers a call of its tool, and stops it. COPILOT_URL tells where.
// tests/frameworks runs it.

import assert from "node:assert/strict";

import { CopilotKitCore } from "@copilotkit/core";

import { fresh, lastText, runtimeUrl, until, userMessage } from "./support.mjs";

// Where there is no window the core takes itself to be rendering on a server, and asks for nothing.
globalThis.window ??= {};
console.warn = () => {};

const core = new CopilotKitCore({ runtimeUrl });
const errors = [];
await new Promise((resolve, reject) => {
  core.subscribe({
    onAgentsChanged: () => resolve(),
    onError: ({ error, code }) => {
      errors.push(`${code}: ${error}`);
      reject(error);
    },
  });
});

function open() {
  const agent = core.getAgent("default");
  agent.threadId = fresh("thread");
  agent.setMessages([]);
  return agent;
}

async function say(agent, text) {
  agent.addMessage(userMessage(text));
  await core.runAgent({ agent });
  return lastText(agent)?.trim();
}

// It chats, and what was said before is known once.
const chat = open();
assert.equal(await say(chat, "one"), "You said: one (1)");
assert.equal(await say(chat, "two"), "You said: two (2)");
assert.deepEqual(
  chat.messages.map(({ role }) => role),
  ["user", "assistant", "user", "assistant"],
);

// It calls a tool of the page, and goes on with the result.
const asked = [];
core.addTool({
  name: "show_card",
  description: "Shows a card.",
  handler: async ({ city }) => {
    asked.push(city);
    return "shown";
  },
});
const caller = open();
assert.match(await say(caller, 'call show_card {"city": "Paris"}'), /shown/);
assert.deepEqual(asked, ["Paris"]);

// It is stopped.
const counting = open();
counting.addMessage(userMessage("count"));
const counts = until(counting, (agent) => /\b3\b/.test(lastText(agent) ?? ""));
const ended = core.runAgent({ agent: counting });
await counts;
core.stopAgent({ agent: counting });
await ended;
assert.equal(counting.isRunning, false);
assert.ok(!/\b150\b/.test(lastText(counting)));

assert.deepEqual(errors, []);
process.exit(0);
