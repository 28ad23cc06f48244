// What is behind a proxy that compresses, as Next.js does with what it rewrites: the same two
// packages. Events have to arrive one by one all the same, and not when there is a block of them.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";

import { HttpAgent } from "@ag-ui/client";
import compression from "compression";
import httpProxy from "http-proxy";

import {
  fresh,
  lastText,
  newGate,
  openGate,
  patience,
  runtimeUrl,
  until,
  userMessage,
} from "./support.mjs";

const target = new URL(runtimeUrl);
// Whatever is small is compressed as well.
const compress = compression({ threshold: 0 });
const proxy = httpProxy.createProxyServer({ target: target.origin });
const server = createServer((request, response) =>
  compress(request, response, () => proxy.web(request, response)),
);
let url;

before(async () => {
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  url = `http://127.0.0.1:${server.address().port}${target.pathname}`;
});

after(() => {
  server.closeAllConnections();
  server.close();
  proxy.close();
});

describe("a proxy that compresses", () => {
  test("compresses what is no stream", patience, async () => {
    const response = await fetch(`${url}/info`, { headers: { "accept-encoding": "gzip" } });
    assert.equal(response.headers.get("content-encoding"), "gzip");
    assert.ok((await response.json()).agents);
  });

  test("passes events on as they come", patience, async (t) => {
    const gate = newGate(t);
    const agent = new HttpAgent({
      url: `${url}/agent/patient/run`,
      threadId: fresh("thread"),
      initialMessages: [userMessage("hello")],
      headers: { "accept-encoding": "gzip" },
    });
    const half = until(agent, () => lastText(agent) !== undefined && lastText(agent) !== "");
    const run = agent.runAgent({ forwardedProps: { gate } });
    // The agent waits at its gate, so that nothing more comes behind what it has said.
    await half;
    await openGate(gate);
    await run;
    assert.notEqual(lastText(agent), "");
  });
});
