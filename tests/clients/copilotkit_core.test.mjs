// What a page built with CopilotKit does, against the running server: the unmodified
// CopilotKitCore, which React and Angular wrap.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { CopilotKitCore, ɵcreateThreadStore as createThreadStore } from "@copilotkit/core";

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

// Where there is no window the core takes itself to be rendering on a server, and asks for nothing.
globalThis.window ??= {};

/** A page that has just loaded: a core that knows the agents of the runtime. */
async function loadPage(config = {}) {
  const core = new CopilotKitCore({ runtimeUrl, ...config });
  const errors = [];
  await new Promise((resolve, reject) => {
    core.subscribe({
      onAgentsChanged: () => resolve(),
      onError: ({ error, code }) => {
        errors.push({ error, code });
        reject(error); // only discovery can fail before this has settled
      },
    });
  });
  const open = (agentId, threadId = fresh("thread")) => {
    const agent = core.getAgent(agentId);
    agent.threadId = threadId;
    return agent;
  };
  return { core, errors, open };
}

describe("CopilotKitCore discovers", () => {
  test("the agents, their descriptions and capabilities", patience, async () => {
    const { core, errors } = await loadPage();
    const { echo, weather } = core.agents;
    assert.equal(echo.description, "Repeats the last message.");
    assert.deepEqual(echo.capabilities, { transport: { streaming: true } });
    assert.equal(weather.description, "Asks the browser for the weather.");
    assert.deepEqual(weather.capabilities, { tools: { supported: true, clientProvided: true } });
    assert.deepEqual(errors, []);
  });

  test("an agent that cannot report its capabilities, and all others", patience, async () => {
    const { core } = await loadPage();
    assert.equal(core.agents.shy.description, "Cannot say what it can do.");
    assert.equal(core.agents.shy.capabilities, undefined);
    assert.ok("echo" in core.agents);
  });

  test("that the runtime speaks REST and SSE, and has suggestions", patience, async () => {
    const { core } = await loadPage();
    assert.equal(core.runtimeTransport, "rest");
    assert.equal(core.runtimeMode, "sse");
    assert.equal(core.suggestions, true);
    assert.equal(core.audioFileTranscriptionEnabled, false);
  });
});

describe("CopilotKitCore runs an agent", () => {
  test("and assembles its messages", patience, async () => {
    const { core, errors, open } = await loadPage();
    const agent = open("echo");
    agent.addMessage(userMessage("hello"));
    const { newMessages } = await core.runAgent({ agent });
    assert.deepEqual(transcript(newMessages), [["assistant", "hello"]]);
    assert.deepEqual(transcript(agent.messages), [
      ["user", "hello"],
      ["assistant", "hello"],
    ]);
    assert.equal(agent.isRunning, false);
    assert.deepEqual(errors, []);
  });

  test("again and again on one thread", patience, async () => {
    const { core, errors, open } = await loadPage();
    const agent = open("echo");
    for (const word of ["one", "two", "three"]) {
      agent.addMessage(userMessage(word));
      await core.runAgent({ agent });
      assert.equal(lastText(agent), word);
    }
    assert.equal(agent.messages.length, 6);
    assert.deepEqual(errors, []);
  });

  test("which gets the page's tools, context, properties and headers", patience, async (t) => {
    expectComplaints(t); // a tool without parameters makes the client warn
    const { core, open } = await loadPage({
      headers: { Authorization: "Bearer secret", "X-Tenant": "acme" },
      properties: { tone: "brief" },
    });
    core.addTool({ name: "beep", description: "Makes a noise.", handler: async () => "" });
    core.addContext({ description: "the open page", value: "/orders" });
    const agent = open("mirror");
    await core.runAgent({ agent, forwardedProps: { length: "short" } });
    assert.deepEqual(agent.state, {
      tools: [
        {
          name: "beep",
          description: "Makes a noise.",
          parameters: { type: "object", properties: {} },
        },
      ],
      context: [{ description: "the open page", value: "/orders" }],
      forwardedProps: { tone: "brief", length: "short" },
      headers: { authorization: "Bearer secret", "x-tenant": "acme" },
    });
  });

  test("whose tool call the page answers, and which then goes on", patience, async (t) => {
    expectComplaints(t);
    const { core, errors, open } = await loadPage();
    const asked = [];
    core.addTool({
      name: "get_weather",
      description: "The weather in a city.",
      handler: async ({ city }) => {
        asked.push(city);
        return "sunny";
      },
    });
    const agent = open("weather");
    agent.addMessage(userMessage("Do I need an umbrella?"));
    await core.runAgent({ agent });
    assert.deepEqual(asked, ["Köln"]);
    const [, call] = agent.messages;
    assert.equal(call.toolCalls[0].function.name, "get_weather");
    assert.deepEqual(transcript(agent.messages), [
      ["user", "Do I need an umbrella?"],
      ["assistant", call.content],
      ["tool", "sunny"],
      ["assistant", "It is sunny."],
    ]);
    assert.equal(agent.messages[2].toolCallId, call.toolCalls[0].id);
    assert.deepEqual(errors, []);
  });

  test("and shares its state, snapshot and deltas", patience, async () => {
    const { core, errors, open } = await loadPage();
    const agent = open("counter");
    await core.runAgent({ agent });
    assert.deepEqual(agent.state, { count: 1, steps: ["counted"] });
    await core.runAgent({ agent });
    assert.deepEqual(agent.state, { count: 2, steps: ["counted"] });
    assert.deepEqual(errors, []);
  });

  test("for suggestions, which leave no trace on the thread", patience, async () => {
    const { core, open } = await loadPage();
    const agent = open("echo");
    agent.addMessage(userMessage("hello"));
    const finished = new Promise((resolve) => {
      core.subscribe({ onSuggestionsFinishedLoading: () => resolve() });
    });
    core.addSuggestionsConfig({
      instructions: "Be helpful.",
      providerAgentId: "suggester",
      consumerAgentId: "echo",
      available: "always",
    });
    core.reloadSuggestions("echo");
    await finished;
    assert.deepEqual(core.getSuggestions("echo").suggestions, [
      { title: "More", message: "Tell me more", isLoading: false },
    ]);
    assert.deepEqual(transcript(agent.messages), [["user", "hello"]]);
  });
});

describe("CopilotKitCore stops an agent", () => {
  test("in mid-run: the run ends well, and the thread can be used again", patience, async (t) => {
    const { core, errors, open } = await loadPage();
    const agent = open("patient");
    agent.addMessage(userMessage("wait"));
    const begun = until(agent, () => lastText(agent) === "the beginning");
    const run = core.runAgent({ agent, forwardedProps: { gate: newGate(t) } });
    await begun;
    core.stopAgent({ agent });
    await run;
    assert.equal(agent.isRunning, false);
    assert.deepEqual(transcript(agent.messages), [
      ["user", "wait"],
      ["assistant", "the beginning"],
    ]);

    const gate = newGate(t);
    await openGate(gate);
    agent.addMessage(userMessage("again"));
    await core.runAgent({ agent, forwardedProps: { gate } });
    assert.equal(lastText(agent), "the beginning, the rest");
    assert.deepEqual(errors, []);
  });

  test("whose name, like its thread's, a URL must escape", patience, async (t) => {
    const { core, errors, open } = await loadPage();
    const agent = open("Geduld & Größe", `${fresh("thread")}/100 %? #ü`);
    const begun = until(agent, () => lastText(agent) === "the beginning");
    const run = core.runAgent({ agent, forwardedProps: { gate: newGate(t) } });
    await begun;
    core.stopAgent({ agent });
    await run;

    const page = await loadPage();
    const restored = page.open(agent.agentId, agent.threadId);
    await page.core.connectAgent({ agent: restored });
    assert.equal(lastText(restored), "the beginning");
    assert.deepEqual([...errors, ...page.errors], []);
  });

  test("by hand of another page that has connected to the run", patience, async (t) => {
    const first = await loadPage();
    const agent = first.open("patient");
    const begun = until(agent, () => lastText(agent) === "the beginning");
    const run = first.core.runAgent({ agent, forwardedProps: { gate: newGate(t) } });
    await begun;

    const second = await loadPage();
    const same = second.open("patient", agent.threadId);
    const seen = until(same, () => lastText(same) === "the beginning");
    const connection = second.core.connectAgent({ agent: same });
    await seen;
    second.core.stopAgent({ agent: same });
    await Promise.all([run, connection]);
    assert.equal(agent.isRunning, false);
    assert.equal(same.isRunning, false);
    assert.deepEqual([...first.errors, ...second.errors], []);
  });
});

describe("CopilotKitCore connects", () => {
  test("to a live run from a second page: the beginning, then the rest", patience, async (t) => {
    const first = await loadPage();
    const agent = first.open("patient");
    const gate = newGate(t);
    agent.addMessage(userMessage("wait"));
    const begun = until(agent, () => lastText(agent) === "the beginning");
    const run = first.core.runAgent({ agent, forwardedProps: { gate } });
    await begun;

    const second = await loadPage();
    const same = second.open("patient", agent.threadId);
    const seen = until(
      same,
      () => lastText(same) === "the beginning" && same.state.phase === "waiting",
    );
    const connection = second.core.connectAgent({ agent: same });
    await seen;
    await openGate(gate);
    await Promise.all([run, connection]);
    assert.deepEqual(transcript(same.messages), [
      ["user", "wait"],
      ["assistant", "the beginning, the rest"],
    ]);
    assert.deepEqual(same.messages, agent.messages);
    assert.deepEqual(same.state, { phase: "done" });
    assert.deepEqual([...first.errors, ...second.errors], []);
  });

  test("after a reload to the run that the closed page had started", patience, async (t) => {
    const closed = await loadPage();
    const abandoned = closed.open("patient");
    const gate = newGate(t);
    abandoned.addMessage(userMessage("wait"));
    const begun = until(abandoned, () => lastText(abandoned) === "the beginning");
    const run = closed.core.runAgent({ agent: abandoned, forwardedProps: { gate } });
    await begun;
    await abandoned.detachActiveRun(); // cuts the connection, as closing the page does
    await run;

    const { core, errors, open } = await loadPage();
    const agent = open("patient", abandoned.threadId);
    const seen = until(agent, () => lastText(agent) === "the beginning");
    const connection = core.connectAgent({ agent });
    await seen;
    await openGate(gate);
    await connection;
    assert.deepEqual(transcript(agent.messages), [
      ["user", "wait"],
      ["assistant", "the beginning, the rest"],
    ]);
    assert.deepEqual(agent.state, { phase: "done" });
    assert.deepEqual(errors, []);
  });

  test("after the run has ended: messages and state are restored", patience, async (t) => {
    const first = await loadPage();
    const agent = first.open("patient");
    const gate = newGate(t);
    await openGate(gate);
    for (const word of ["once", "twice"]) {
      agent.addMessage(userMessage(word));
      await first.core.runAgent({ agent, forwardedProps: { gate } });
    }

    const { core, errors, open } = await loadPage();
    const restored = open("patient", agent.threadId);
    await core.connectAgent({ agent: restored });
    assert.deepEqual(restored.messages, agent.messages);
    assert.deepEqual(transcript(restored.messages), [
      ["user", "once"],
      ["assistant", "the beginning, the rest"],
      ["user", "twice"],
      ["assistant", "the beginning, the rest"],
    ]);
    assert.deepEqual(restored.state, { phase: "done" });
    assert.equal(restored.isRunning, false);
    assert.deepEqual(errors, []);
  });

  test("and restores a tool call with its answer, not asked again", patience, async (t) => {
    expectComplaints(t);
    const asked = [];
    const tool = {
      name: "get_weather",
      description: "The weather in a city.",
      handler: async ({ city }) => {
        asked.push(city);
        return "sunny";
      },
    };
    const first = await loadPage({ tools: [tool] });
    const agent = first.open("weather");
    agent.addMessage(userMessage("Do I need an umbrella?"));
    await first.core.runAgent({ agent });

    const second = await loadPage({ tools: [tool] });
    const restored = second.open("weather", agent.threadId);
    await second.core.connectAgent({ agent: restored });
    assert.deepEqual(transcript(restored.messages), transcript(agent.messages));
    assert.deepEqual(restored.messages[1].toolCalls, agent.messages[1].toolCalls);
    assert.deepEqual(asked, ["Köln"]);
  });

  test("to a thread with a failed run, and restores what came after it", patience, async (t) => {
    expectComplaints(t);
    const first = await loadPage();
    const failing = first.open("fails");
    failing.addMessage(userMessage("try"));
    await first.core.runAgent({ agent: failing });
    const echo = first.open("echo", failing.threadId);
    echo.setMessages(failing.messages);
    echo.addMessage(userMessage("try again"));
    await first.core.runAgent({ agent: echo });

    const { core, open } = await loadPage();
    const restored = open("echo", failing.threadId);
    await core.connectAgent({ agent: restored });
    assert.deepEqual(transcript(restored.messages), [
      ["user", "try"],
      ["assistant", "so far"],
      ["user", "try again"],
      ["assistant", "try again"],
    ]);
  });

  test("to a thread that nobody has used, and finds it empty", patience, async () => {
    const { core, errors, open } = await loadPage();
    const agent = open("echo");
    const { newMessages } = await core.connectAgent({ agent });
    assert.deepEqual(newMessages, []);
    assert.deepEqual(agent.messages, []);
    assert.equal(agent.isRunning, false);
    assert.deepEqual(errors, []);
  });
});

describe("CopilotKitCore reports", () => {
  test("an agent that the runtime does not have", patience, async (t) => {
    expectComplaints(t);
    const { core, errors } = await loadPage();
    assert.equal(core.getAgent("nobody"), undefined);
    const { agent } = core.registerProxiedAgent({ agentId: "mine", runtimeAgentId: "nobody" });
    await core.runAgent({ agent });
    await core.connectAgent({ agent });
    assert.equal(agent.isRunning, false);
    assert.ok(errors.length >= 2);
    for (const { error } of errors) {
      assert.match(error.message, /^HTTP 404: .*Agent 'nobody' does not exist/);
    }
  });

  test("an agent that raises, and keeps what it had said", patience, async (t) => {
    expectComplaints(t);
    const { core, errors, open } = await loadPage();
    const agent = open("fails");
    agent.addMessage(userMessage("try"));
    await core.runAgent({ agent });
    assert.deepEqual(transcript(agent.messages), [
      ["user", "try"],
      ["assistant", "so far"],
    ]);
    assert.equal(agent.isRunning, false);
    assert.equal(errors.length, 1);
    assert.equal(errors[0].code, "agent_run_error_event");
    assert.equal(errors[0].error.message, "the model is out of reach");
    assert.equal(errors[0].error.code, "INCOMPLETE_STREAM");
  });

  test("an agent that ends its run with an error of its own", patience, async (t) => {
    expectComplaints(t);
    const { core, errors, open } = await loadPage();
    await core.runAgent({ agent: open("refuses") });
    assert.equal(errors.length, 1);
    assert.equal(errors[0].error.message, "no credit left");
    assert.equal(errors[0].error.code, "QUOTA");
  });

  test("a busy thread to the second page, and the first one's run goes on", patience, async (t) => {
    expectComplaints(t);
    const first = await loadPage();
    const agent = first.open("patient");
    const gate = newGate(t);
    const begun = until(agent, () => lastText(agent) === "the beginning");
    const run = first.core.runAgent({ agent, forwardedProps: { gate } });
    await begun;

    const second = await loadPage();
    await second.core.runAgent({ agent: second.open("echo", agent.threadId) });
    assert.ok(second.errors.length > 0);
    assert.match(second.errors[0].error.message, /^HTTP 409: .*Thread already running/);

    await openGate(gate);
    await run;
    assert.equal(lastText(agent), "the beginning, the rest");
    assert.deepEqual(first.errors, []);
  });
});

describe("CopilotKitCore lists threads", () => {
  test("and a page sees of each what it waits for", patience, async () => {
    const threadId = fresh("thread");
    const tools = [{ name: "get_weather", description: "", parameters: {} }];
    const messages = [userMessage("?")];
    const run = { threadId, runId: fresh("run"), messages, tools, state: {}, context: [] };
    const response = await fetch(`${runtimeUrl}/agent/weather/run`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ ...run, forwardedProps: {} }),
    });
    await response.text();

    const store = createThreadStore({ fetch });
    store.start();
    store.setContext({ runtimeUrl, headers: {}, agentId: "weather" });
    const threads = await new Promise((resolve) => {
      store.select(store.selectors.threads).subscribe((found) => found.length && resolve(found));
    });
    store.stop();
    const { waitsFor } = threads.find(({ id }) => id === threadId);
    assert.deepEqual(waitsFor.interrupts, []);
    assert.deepEqual(
      waitsFor.toolCalls.map(({ name }) => name),
      ["get_weather"],
    );
  });
});
