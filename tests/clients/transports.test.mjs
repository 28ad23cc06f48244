// The unmodified CopilotKitCore in each of its transports, against a runtime of each mode: what it
// can do is the same however the requests travel, and what cannot work says why.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { CopilotKitCore, ɵcreateThreadStore } from "@copilotkit/core";

import {
  bothUrl,
  expectComplaints,
  fresh,
  lastText,
  newGate,
  openGate,
  patience,
  runtimeUrl,
  singleUrl,
  transcript,
  until,
  userMessage,
} from "./support.mjs";

// Where there is no window the core takes itself to be rendering on a server, and asks for nothing.
globalThis.window ??= {};

/** A core that has asked the runtime who it is, and has its answer or an error. */
async function loadPage({ url, runtimeTransport }) {
  const core = new CopilotKitCore({ runtimeUrl: url, runtimeTransport });
  const errors = [];
  await new Promise((resolve) => {
    core.subscribe({
      onError: ({ error, code }) => {
        errors.push({ error, code });
        resolve();
      },
      onAgentsChanged: () => {
        if (core.runtimeConnectionStatus === "connected") {
          resolve();
        }
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

const multi = { mode: "multi-route", url: runtimeUrl };
const single = { mode: "single-route", url: singleUrl };
const both = { mode: "both", url: bothUrl };
const working = [
  { ...multi, runtimeTransport: "auto", detected: "rest" },
  { ...multi, runtimeTransport: "rest", detected: "rest" },
  { ...single, runtimeTransport: "auto", detected: "single" },
  { ...single, runtimeTransport: "single", detected: "single" },
  { ...both, runtimeTransport: "auto", detected: "rest" },
  { ...both, runtimeTransport: "rest", detected: "rest" },
  { ...both, runtimeTransport: "single", detected: "single" },
];

for (const config of working) {
  describe(`The transport ${config.runtimeTransport} to a ${config.mode} runtime`, () => {
    test("discovers the agents", patience, async () => {
      const { core, errors } = await loadPage(config);
      assert.equal(core.runtimeTransport, config.detected);
      assert.equal(core.agents.echo.description, "Repeats the last message.");
      assert.deepEqual(core.agents.echo.capabilities, { transport: { streaming: true } });
      assert.deepEqual(errors, []);
    });

    test("runs an agent again and again on one thread", patience, async () => {
      const { core, errors, open } = await loadPage(config);
      const agent = open("echo");
      for (const word of ["eins", "zwei 🚀"]) {
        agent.addMessage(userMessage(word));
        await core.runAgent({ agent });
        assert.equal(lastText(agent), word);
      }
      assert.equal(agent.isRunning, false);
      assert.deepEqual(errors, []);
    });

    test("connects to a live run, and to one that has ended", patience, async (t) => {
      const first = await loadPage(config);
      const agent = first.open("patient");
      const gate = newGate(t);
      agent.addMessage(userMessage("wait"));
      const begun = until(agent, () => lastText(agent) === "the beginning");
      const run = first.core.runAgent({ agent, forwardedProps: { gate } });
      await begun;

      const second = await loadPage(config);
      const same = second.open("patient", agent.threadId);
      const seen = until(same, () => lastText(same) === "the beginning");
      const connection = second.core.connectAgent({ agent: same });
      await seen;
      await openGate(gate);
      await Promise.all([run, connection]);
      assert.deepEqual(same.messages, agent.messages);

      const third = await loadPage(config);
      const restored = third.open("patient", agent.threadId);
      await third.core.connectAgent({ agent: restored });
      assert.deepEqual(restored.messages, agent.messages);
      assert.deepEqual(restored.state, { phase: "done" });
      assert.deepEqual([...first.errors, ...second.errors, ...third.errors], []);
    });

    test("stops a run, whatever its agent and thread are called", patience, async (t) => {
      const { core, errors, open } = await loadPage(config);
      const agent = open("Geduld & Größe", `${fresh("thread")}/100 %? #ü`);
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
      assert.deepEqual(errors, []);
    });

    test("has suggestions", patience, async () => {
      const { core, open } = await loadPage(config);
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

    test("lists the threads of an agent", patience, async (t) => {
      const { core, errors, open } = await loadPage(config);
      assert.equal(core.threadEndpoints.list, true);
      const agent = open("echo");
      agent.addMessage(userMessage("remember this"));
      await core.runAgent({ agent });

      const store = ɵcreateThreadStore({ fetch: core.ɵruntimeFetch });
      store.start();
      t.after(() => store.stop());
      const listed = new Promise((resolve) => {
        store.select(({ threads }) => threads).subscribe((threads) => {
          if (threads.length > 0) {
            resolve(threads);
          }
        });
      });
      store.setContext({ runtimeUrl: core.runtimeUrl, headers: {}, agentId: "echo" });
      const threads = await listed;
      assert.ok(threads.some(({ id }) => id === agent.threadId));
      assert.ok(threads.every(({ agentId }) => agentId === "echo"));
      assert.equal(store.getState().error, null);
      assert.deepEqual(errors, []);
    });

    test("reports an agent that raises", patience, async (t) => {
      expectComplaints(t);
      const { core, errors, open } = await loadPage(config);
      await core.runAgent({ agent: open("fails") });
      assert.equal(errors.length, 1);
      assert.equal(errors[0].code, "agent_run_error_event");
      assert.equal(errors[0].error.message, "the model is out of reach");
    });
  });
}

describe("The transport single to a multi-route runtime", () => {
  test("is told what is wrong, and what to do about it", patience, async (t) => {
    expectComplaints(t);
    const { core, errors } = await loadPage({ ...multi, runtimeTransport: "single" });
    assert.deepEqual(core.agents, {});
    assert.equal(errors.length, 1);
    assert.equal(errors[0].code, "runtime_info_fetch_failed");
    assert.match(errors[0].error.message, /status 404: .*mounted in multi-route mode/);
    assert.match(errors[0].error.message, /drop useSingleEndpoint .* mode="both"/);
  });
});

describe("The transport rest to a single-route runtime", () => {
  test("learns that GET is not allowed there", patience, async (t) => {
    expectComplaints(t);
    const { core, errors } = await loadPage({ ...single, runtimeTransport: "rest" });
    assert.deepEqual(core.agents, {});
    assert.equal(errors.length, 1);
    assert.equal(errors[0].code, "runtime_info_fetch_failed");
    assert.match(errors[0].error.message, /status 405/);
  });
});
