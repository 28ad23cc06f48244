// What an AG-UI front end does that posts to an agent's run route itself: the unmodified HttpAgent,
// in the version that CopilotKit 1.75 pins and in the one that validates events most strictly.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as strict from "@ag-ui/client";
import * as pinned from "ag-ui-client-0";

import {
  expectComplaints,
  fresh,
  lastText,
  newGate,
  openGate,
  patience,
  runtimeUrl,
  transcript,
  until,
  userMessage,
} from "./support.mjs";

for (const [version, { HttpAgent }] of [
  ["0.0.59", pinned],
  ["1.0.0", strict],
]) {
  /** A client of one agent, with what the user has said so far. */
  const open = (agentId, { said, threadId = fresh("thread"), route = "run", ...config } = {}) =>
    new HttpAgent({
      url: `${runtimeUrl}/agent/${agentId}/${route}`,
      threadId,
      initialMessages: said === undefined ? [] : [userMessage(said)],
      ...config,
    });

  /** The text as a client shows it after an agent has repeated it, one code point a delta. */
  const echo = async (said) => {
    const agent = open("echo", { said });
    await agent.runAgent();
    return lastText(agent);
  };

  describe(`HttpAgent ${version}`, () => {
    test("runs an agent and assembles its messages", patience, async () => {
      const agent = open("echo", { said: "hello" });
      const { newMessages } = await agent.runAgent();
      assert.deepEqual(transcript(newMessages), [["assistant", "hello"]]);
      assert.deepEqual(transcript(agent.messages), [
        ["user", "hello"],
        ["assistant", "hello"],
      ]);
      assert.equal(agent.isRunning, false);
    });

    test("gets the result of the run", patience, async () => {
      const agent = open("mirror");
      const { result } = await agent.runAgent({ forwardedProps: { tone: "brief" } });
      assert.equal(result, "mirrored");
      assert.deepEqual(agent.state.forwardedProps, { tone: "brief" });
    });

    test("assembles a tool call, and sends its answer with the next run", patience, async () => {
      const agent = open("weather", { said: "Do I need an umbrella?" });
      await agent.runAgent();
      const { toolCalls } = agent.messages.at(-1);
      assert.equal(toolCalls.length, 1);
      const [{ id: toolCallId, function: called }] = toolCalls;
      assert.deepEqual(called, { name: "get_weather", arguments: '{"city": "Köln"}' });

      agent.addMessage({ id: fresh("tool"), role: "tool", toolCallId, content: "sunny" });
      await agent.runAgent();
      assert.equal(lastText(agent), "It is sunny.");
    });

    test("may follow up in the instant it reads RUN_FINISHED", patience, async (t) => {
      const threadId = fresh("thread");
      const gate = newGate(t); // the first run cleans up for as long as this is shut
      let first;
      await new Promise((resolve) => {
        const agent = open("lingers", { threadId });
        const subscriber = { onRunFinishedEvent: () => resolve() };
        first = agent.runAgent({ forwardedProps: { gate } }, subscriber);
      });
      const second = open("echo", { threadId, said: "already?" });
      await second.runAgent();
      assert.equal(lastText(second), "already?");
      await openGate(gate);
      await first;
    });

    test("shares its state with the agent, snapshot and deltas", patience, async () => {
      const agent = open("counter", { initialState: { count: 41 } });
      await agent.runAgent();
      assert.deepEqual(agent.state, { count: 42, steps: ["counted"] });
    });

    test("assembles reasoning, apart from the answer", patience, async () => {
      const agent = open("thinker", { said: "6 * 7" });
      await agent.runAgent();
      assert.deepEqual(transcript(agent.messages), [
        ["user", "6 * 7"],
        ["reasoning", "six times seven"],
        ["assistant", "42"],
      ]);
    });

    test("assembles chunks of reasoning, text and tool call", patience, async () => {
      const agent = open("chunks");
      await agent.runAgent();
      assert.deepEqual(transcript(agent.messages), [
        ["reasoning", "let me look"],
        ["assistant", "looking it up"],
      ]);
      const [{ function: called }] = agent.messages[1].toolCalls;
      assert.deepEqual(called, { name: "look_up", arguments: '{"q":"x"}' });
    });

    for (const [what, text] of [
      ["text of many scripts", "Grüße, 日本語, العربية, हिन्दी"],
      ["emoji, and those of several code points", "🚀 👩‍🚀 🏳️‍🌈 e\u0301"],
      ["line separators", "a\nb\r\nc\rd\u0085e\u2028f\u2029g\n\n\n"],
      ["what looks like an SSE frame", 'data: {"type":"RUN_FINISHED"}\n\nid: 1\n: comment'],
      ["control characters and a byte order mark", "\u0000\u0007\u001b[31m\ufeff\u007f"],
      ["half an emoji, which is no Unicode text", "before \ud83d after"],
      ["quotes and backslashes", '"\\u0041" \\ / </script>'],
    ]) {
      test(`gets ${what} unchanged`, patience, async () => {
        assert.equal(await echo(text), text);
      });
    }

    test("gets an emoji whole whose halves came in two deltas", patience, async () => {
      const agent = open("halves");
      await agent.runAgent();
      assert.equal(lastText(agent), "🚀");
    });

    test("aborts: it is told so at once, and the run goes on without it", patience, async (t) => {
      const agent = open("patient", { said: "wait" });
      const gate = newGate(t);
      const begun = until(agent, () => lastText(agent) === "the beginning");
      const run = agent.runAgent({ forwardedProps: { gate } });
      await begun;
      agent.abortRun();
      await run;
      assert.equal(agent.isRunning, false);
      assert.equal(lastText(agent), "the beginning");

      const reader = open("patient", { threadId: agent.threadId, route: "connect" });
      const seen = until(reader, () => lastText(reader) === "the beginning");
      const connection = reader.runAgent();
      await seen;
      await openGate(gate);
      await connection;
      assert.equal(lastText(reader), "the beginning, the rest");
    });

    test("sees a run that is stopped on the server end well", patience, async (t) => {
      const agent = open("patient", { said: "wait" });
      const begun = until(agent, () => lastText(agent) === "the beginning");
      const run = agent.runAgent({ forwardedProps: { gate: newGate(t) } });
      await begun;
      const path = `stop/${encodeURIComponent(agent.threadId)}`;
      const answer = await fetch(`${runtimeUrl}/agent/patient/${path}`, { method: "POST" });
      assert.equal((await answer.json()).stopped, true);
      await run;
      assert.equal(lastText(agent), "the beginning");
    });

    test("is told what a raising agent raised, and keeps what it had said", patience, async () => {
      const agent = open("fails");
      const told = [];
      await agent.runAgent({}, { onRunErrorEvent: ({ event }) => void told.push(event) });
      assert.equal(told.length, 1);
      assert.equal(told[0].message, "the model is out of reach");
      assert.equal(lastText(agent), "so far");
      assert.equal(agent.isRunning, false);
    });

    test("is told of an error that the agent itself reports", patience, async () => {
      const told = [];
      await open("refuses").runAgent(
        {},
        { onRunErrorEvent: ({ event: { message, code } }) => void told.push([message, code]) },
      );
      assert.deepEqual(told, [["no credit left", "QUOTA"]]);
    });

    test("is refused an unknown agent, with the reason", patience, async (t) => {
      expectComplaints(t);
      await assert.rejects(open("nobody", { said: "hello?" }).runAgent(), {
        status: 404,
        payload: { error: "Agent not found", message: "Agent 'nobody' does not exist" },
      });
    });

    test("is refused a busy thread, and the live run goes on", patience, async (t) => {
      expectComplaints(t);
      const agent = open("patient", { said: "wait" });
      const gate = newGate(t);
      const begun = until(agent, () => lastText(agent) === "the beginning");
      const run = agent.runAgent({ forwardedProps: { gate } });
      await begun;
      const late = open("echo", { threadId: agent.threadId, said: "me too" });
      await assert.rejects(late.runAgent(), (refusal) => {
        assert.equal(refusal.status, 409);
        assert.equal(refusal.payload.error, "Thread already running");
        assert.equal(typeof refusal.payload.message, "string");
        return true;
      });
      await openGate(gate);
      await run;
      assert.equal(lastText(agent), "the beginning, the rest");
    });

    test("takes no notice of heartbeats while nothing is said", patience, async (t) => {
      const gate = newGate(t);
      const listening = async (url, init) => {
        const response = await fetch(url, init);
        const [mine, clients] = response.body.tee();
        void openGateAtHeartbeat(mine, gate);
        return new Response(clients, response);
      };
      const agent = open("patient", { said: "wait", fetch: listening });
      await agent.runAgent({ forwardedProps: { gate } });
      assert.equal(lastText(agent), "the beginning, the rest");
    });
  });
}

/** Reads a stream as the client does, and opens the gate when it carries a comment. */
async function openGateAtHeartbeat(body, gate) {
  let text = "";
  for await (const piece of body.pipeThrough(new TextDecoderStream())) {
    text += piece;
    if (/^:/m.test(text)) {
      await openGate(gate);
      return;
    }
  }
}
