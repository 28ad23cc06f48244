// What the clients make of streams: both generations, told on stdin, one JSON text a line, and answered
// in the same order on stdout.
//
// A line is { runs: [{ said: [message], events: [event] }], replay: [event] }. The answer has, of each
// generation, the messages and the state of a client that was there, and of one that connects later, and
// what each of them sends with its next run; or the error that one of them ended with.

import { createInterface } from "node:readline";
import * as newest from "@ag-ui/client";
import * as oldest from "ag-ui-client-0";
import { from } from "rxjs";

console.warn = console.error = console.debug = () => {};

const next = [
  { type: "RUN_STARTED", threadId: "t", runId: "next" },
  { type: "RUN_FINISHED", threadId: "t", runId: "next" },
];

async function seen(agent) {
  const { messages, state } = structuredClone({ messages: agent.messages, state: agent.state });
  agent.events = next;
  await agent.runAgent({ runId: "next" });
  return { messages, state, sent: agent.sent };
}

async function attempt(look) {
  try {
    return await look();
  } catch (error) {
    return { error: String(error?.message ?? error) };
  }
}

function judge({ AbstractAgent }, { runs, replay }) {
  class Told extends AbstractAgent {
    run({ messages, state }) {
      this.sent = { messages, state };
      return from(structuredClone(this.events));
    }
    connect() {
      return from(structuredClone(replay));
    }
  }
  const live = async () => {
    const agent = new Told({ threadId: "t" });
    for (const { said, events } of runs) {
      agent.events = events;
      agent.addMessages(structuredClone(said));
      await agent.runAgent({ runId: "r" });
    }
    return seen(agent);
  };
  const reload = async () => {
    const agent = new Told({ threadId: "t" });
    await agent.connectAgent({ runId: "again" });
    return seen(agent);
  };
  return Promise.all([attempt(live), attempt(reload)]);
}

for await (const line of createInterface({ input: process.stdin })) {
  const told = JSON.parse(line);
  const [first, second] = [await judge(oldest, told), await judge(newest, told)];
  process.stdout.write(`${JSON.stringify({ "0.0.59": first, "1.0.0": second })}\n`);
}
