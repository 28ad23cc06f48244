// What runs beside the browser: the page's own server, a network that can fail, a server to restart.

import { spawn } from "node:child_process";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import net from "node:net";
import path from "node:path";
import { createInterface } from "node:readline";

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css" };

const listening = (server) =>
  new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server.address().port)));

/** Serves the built page; returns its origin. */
export async function servePage(folder) {
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://page");
    const file = path.join(folder, path.normalize(pathname === "/" ? "/index.html" : pathname));
    if (!(await stat(file).catch(() => undefined))?.isFile()) {
      response.writeHead(404).end();
      return;
    }
    const type = TYPES[path.extname(file)] ?? "application/octet-stream";
    response.writeHead(200, { "content-type": type, "cache-control": "max-age=3600" });
    createReadStream(file).pipe(response);
  });
  return `http://127.0.0.1:${await listening(server)}`;
}

/** A network between the page and a server: it can be cut, and lead to another server. */
export async function openNetwork(url) {
  let upstream = new URL(url);
  let up = true;
  const sockets = new Set();
  const server = net.createServer((client) => {
    if (!up) {
      client.destroy();
      return;
    }
    const socket = net.connect(Number(upstream.port), upstream.hostname);
    for (const [from, to] of [
      [client, socket],
      [socket, client],
    ]) {
      sockets.add(from);
      from.pipe(to);
      from.on("error", () => {});
      from.on("close", () => {
        sockets.delete(from);
        to.destroy();
      });
    }
  });
  const port = await listening(server);
  const cut = () => {
    for (const socket of sockets) {
      socket.destroy();
    }
  };
  return {
    url: `http://127.0.0.1:${port}${upstream.pathname}`,
    /** Ends all connections; while it is down, new ones as well. */
    down() {
      up = false;
      cut();
    },
    cut,
    up(newUrl = upstream) {
      upstream = new URL(newUrl);
      up = true;
    },
    close() {
      cut();
      server.close();
    },
  };
}

/** Starts a server by its command; returns what it announces, and how to end it. */
export async function startServer([program, ...args]) {
  const child = spawn(program, args, { stdio: ["pipe", "pipe", "inherit"] });
  const ended = new Promise((resolve) => child.on("exit", resolve));
  const [line] = await new Promise((resolve) => {
    createInterface(child.stdout).once("line", (text) => resolve([text]));
    ended.then(() => resolve([undefined]));
  });
  if (line === undefined) {
    throw new Error(`${program} ${args.join(" ")} ended before it announced anything`);
  }
  return {
    urls: JSON.parse(line),
    async kill() {
      child.kill("SIGKILL");
      await ended;
    },
    async end() {
      child.kill("SIGTERM");
      await ended;
    },
  };
}
