// Clients of both generations that hold conversations: told on stdin what to do, one JSON text a line.
//
// { make: name, generation }: a client without messages. { run: name, said, runId, resume } and
// { connect: name }: it asks for a stream. Its body is written to stdout as { body }, and the next line
// on stdin is the answer that it gets: { status, frames }. When the client has read it, what it shows is
// written: { messages, state, interrupts, error? }.

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

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const told = async () => JSON.parse((await lines.next()).value);
const tell = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

async function fetch(_, { body }) {
  tell({ body: JSON.parse(body) });
  const { status, frames } = await told();
  return new Response(frames, { status, headers: { "content-type": "text/event-stream" } });
}

function make({ HttpAgent }) {
  class Client extends HttpAgent {
    connect(input) {
      return this.run(input);
    }
  }
  return new Client({ url: "http://runtime.test", threadId: "t", fetch });
}

const clients = {};
for (;;) {
  const { value, done } = await lines.next();
  if (done) break;
  const command = JSON.parse(value);
  if (command.make) {
    clients[command.make] = make(GENERATIONS[command.generation]);
    continue;
  }
  const agent = clients[command.run ?? command.connect];
  let failed;
  stray = undefined;
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
