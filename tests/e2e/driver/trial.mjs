// One scenario as it runs: its pages, what it waits for, and what is wrong at its end.

import { randomUUID } from "node:crypto";
import path from "node:path";

import { openNetwork, startServer } from "./servers.mjs";

/** Long enough for a busy machine: nothing is decided by it but that a thing never comes. */
export const PATIENCE = 30_000;

export class Trial {
  threadId = `thread-${randomUUID()}`;
  pages = [];
  #contexts = [];
  #expected = [];
  #complaints = [];
  #atEnd = [];

  constructor(browser, pageOrigin, target) {
    this.browser = browser;
    this.pageOrigin = pageOrigin;
    this.target = target;
  }

  /** What is opened from now on shows another thread. */
  newThread() {
    this.threadId = `thread-${randomUUID()}`;
  }

  /** A browser profile of its own: cookies, storage, tabs. */
  async profile(options = {}) {
    const context = await this.browser.newContext({
      viewport: { width: 900, height: 700 },
      permissions: ["microphone"],
      ...options,
    });
    context.setDefaultTimeout(PATIENCE);
    this.#contexts.push(context);
    return context;
  }

  /**
   * Opens a page in a new tab, and waits until it knows its runtime.
   *
   * @param query what is shown: `page` names a component of page/v2.jsx or v1.jsx; `agent`,
   *   `thread`, `runtimeUrl`, `headers`, ... are what page/query.js reads.
   */
  async open(query, { ready = true, profile } = {}) {
    const said = { runtimeUrl: this.target.urls.main, thread: this.threadId, ...query };
    const known = Object.entries(said).filter(([, value]) => value !== undefined);
    const address = `${this.pageOrigin}/?${new URLSearchParams(known)}`;
    const view = await this.openPage(address, { profile });
    if (ready) {
      await view.ready();
    }
    return view;
  }

  /** Opens whatever page in a new tab. */
  async openPage(address, { profile } = {}) {
    const context = profile ?? this.#contexts[0] ?? (await this.profile());
    const page = await context.newPage();
    page.on("console", (message) => {
      const { url } = message.location();
      // The inspector asks the internet for fonts and news, which there is none of here.
      const foreign = /ERR_NAME_NOT_RESOLVED/.test(message.text()) && !url.includes("127.0.0.1");
      if (message.type() === "error" && !foreign) {
        this.#complain(message.text(), url);
      }
    });
    page.on("pageerror", (error) => this.#complain(`uncaught ${error.stack || error}`));
    page.on("crash", () => this.#complain("the page crashed"));
    const view = new View(page, address);
    this.pages.push(view);
    await page.goto(address);
    return view;
  }

  /** What the console may say in this scenario; anything else that it says is a failure. */
  expectComplaints(...patterns) {
    this.#expected.push(...patterns);
  }

  #complain(text, url = "") {
    this.#complaints.push(`${text}${url && !text.includes(url) ? ` (${url})` : ""}`);
  }

  /** A new gate, at which the agent `patient` waits. It is open when the scenario has ended. */
  gate() {
    const gate = `gate-${randomUUID()}`;
    const open = () => openGate(this.target.agents ?? this.target.urls.main, gate);
    this.#atEnd.push(open);
    return { properties: JSON.stringify({ gate }), open };
  }

  async network(url = this.target.urls.main) {
    const network = await openNetwork(url);
    this.#atEnd.push(() => network.close());
    return network;
  }

  /** A server of its own, which the scenario may end. */
  async server() {
    const server = await startServer(this.target.command);
    this.#atEnd.push(() => server.end());
    return server;
  }

  /** Has something done at the end of the scenario. */
  atEnd(end) {
    this.#atEnd.push(end);
  }

  /** What is wrong with what the pages said. */
  unexpected() {
    return this.#complaints.filter((text) => !this.#expected.some((known) => known.test(text)));
  }

  async screenshot(file) {
    const last = this.pages.findLast(({ page }) => !page.isClosed());
    await last?.page.screenshot({ path: file, timeout: PATIENCE }).catch(() => {});
    return last ? path.basename(file) : undefined;
  }

  async close() {
    for (const context of this.#contexts) {
      await context.close();
    }
    for (const end of this.#atEnd.reverse()) {
      await end();
    }
  }
}

async function openGate(url, gate) {
  const id = () => randomUUID();
  const response = await fetch(`${url}/agent/gatekeeper/run`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      threadId: id(),
      runId: id(),
      messages: [],
      state: {},
      tools: [],
      context: [],
      forwardedProps: { gate },
    }),
  });
  if (!response.ok) {
    throw new Error(`the gatekeeper answered ${response.status}`);
  }
  await response.text();
}

/** A page as its user sees it. */
export class View {
  constructor(page, address) {
    this.page = page;
    this.address = address;
  }

  /** An element by its test id; within `within`, where a page has several. */
  get(testId, options = {}, within = this.page) {
    return within.locator(`[data-testid="${testId}"]`, options);
  }

  async ready() {
    await this.page.locator('#status[data-ready="true"]').waitFor({ state: "attached" });
  }

  async reload() {
    await this.page.reload();
    await this.ready();
  }

  /** Types a message and sends it. */
  async send(text, within = this.page) {
    await this.get("copilot-chat-textarea", {}, within).fill(text);
    await this.get("copilot-send-button", {}, within).click();
  }

  /** Waits until a message of the agent has this text. */
  async says(text, within = this.page) {
    await this.get("copilot-assistant-message", { hasText: text }, within).first().waitFor();
  }

  async asked(text, within = this.page) {
    await this.get("copilot-user-message", { hasText: text }, within).first().waitFor();
  }

  async sees(text) {
    await this.page.getByText(text).first().waitFor();
  }

  /** Waits until no run is on. */
  async idle() {
    await this.page.locator('#status[data-running="false"]').waitFor({ state: "attached" });
  }

  async running() {
    await this.page.locator('#status[data-running="true"]').waitFor({ state: "attached" });
  }

  /** What is in the chat, in its order: ["user: hello", "agent: hello"]. */
  async transcript(within = this.page) {
    const messages = within.locator(
      '[data-testid="copilot-user-message"], [data-testid="copilot-assistant-message"]',
    );
    return await messages.evaluateAll((elements) =>
      elements
        .map((element) => {
          const user = element.dataset.testid === "copilot-user-message";
          return `${user ? "user" : "agent"}: ${element.innerText.trim()}`;
        })
        .filter((line) => line !== "agent: "),
    );
  }

  /** Waits until `holds` is true of the transcript, and returns that. */
  async until(holds, what) {
    const deadline = Date.now() + PATIENCE;
    for (;;) {
      const value = await holds();
      if (value) {
        return value;
      }
      if (Date.now() > deadline) {
        throw new Error(`never came to be: ${what}`);
      }
      await this.page.evaluate(() => new Promise(requestAnimationFrame));
    }
  }
}
