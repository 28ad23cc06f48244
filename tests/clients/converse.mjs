// Clients of both generations that hold conversations: told on stdin what to do, one JSON text a line.
//
// { make: name, generation, thread }: a client without messages. { run: name, said, runId, resume } and
// { connect: name }: it asks for a stream, and its body is written to stdout as { body }. It waits for
// { answer: name, status, frames }, and others may be told something meanwhile. When the client has read
// its answer, what it shows is written: { messages, state, interrupts, error? }.

import { createInterface } from "node:readline";
import * as newest from "@ag-ui/client";
import * as oldest from "ag-ui-client-0";

const GENERATIONS = { "0.0.59": oldest, "1.0.0": newest };

process.env.SUPPRESS_TRANSFORMATION_WARNINGS = "true";
console.warn = console.error = console.debug = () => {};
// A rejection that nobody waits for would end the process without a word of the stream.
let stray;
process.on("unhandledRejection", (error) => (stray = error));
process.on("uncaughtException", (error) => (stray = error));

const tell = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
const clients = {};
const waiting = {};

function make({ make: name, generation, thread }) {
  const { HttpAgent } = GENERATIONS[generation];
  class Client extends HttpAgent {
    connect(input) {
      return this.run(input);
    }
  }
  async function fetch(_, { body }) {
    const answered = new Promise((resolve) => (waiting[name] = resolve));
    tell({ body: JSON.parse(body) });
    const { status, frames } = await answered;
    return new Response(frames, { status, headers: { "content-type": "text/event-stream" } });
  }
  return new Client({ url: "http://runtime.test", threadId: thread, fetch });
}

async function ask(command) {
  const agent = clients[command.run ?? command.connect];
  let failed;
  try {
    if (command.run) {
      agent.addMessages(command.said);
      await agent.runAgent({ runId: command.runId, resume: command.resume });
    } else {
      await agent.connectAgent({ runId: "reader" });
    }
  } catch (error) {
    failed = error;
  }
  failed ??= stray;
  tell({
    messages: agent.messages,
    state: agent.state,
    interrupts: agent.pendingInterrupts ?? [],
    ...(failed ? { error: String(failed.message ?? failed).slice(0, 2000) } : {}),
  });
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  stray = undefined;
  if (command.make) clients[command.make] = make(command);
  else if (command.answer) waiting[command.answer](command);
  else void ask(command);
}
