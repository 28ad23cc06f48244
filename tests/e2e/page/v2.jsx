// The pages that are built with the API of today, `@copilotkit/react-core/v2`.

import { useEffect, useState } from "react";
import {
  CopilotChat,
  CopilotKitProvider,
  CopilotPopup,
  CopilotSidebar,
  useAgent,
  useAgentContext,
  useConfigureSuggestions,
  useCopilotKit,
  useDefaultRenderTool,
  useFrontendTool,
  useHumanInTheLoop,
  useInterrupt,
  useRenderTool,
  useThreads,
} from "@copilotkit/react-core/v2";
import { z } from "zod";

import { provider, query } from "./query.js";

const { agent: agentId = "default", thread: threadId } = query;

function App({ children, ...props }) {
  const [errors, setErrors] = useState([]);
  const onError = ({ code, error }) => setErrors((all) => [...all, `${code}: ${error.message}`]);
  return (
    <CopilotKitProvider {...provider} agentId={agentId} onError={onError} {...props}>
      <Status />
      <ul id="errors" hidden>
        {errors.map((error, index) => (
          <li key={index}>{error}</li>
        ))}
      </ul>
      {children}
    </CopilotKitProvider>
  );
}

/** For the scenarios, which wait for it: a user sees no more than the chat. */
function Status() {
  const { copilotkit } = useCopilotKit();
  const { agent, isReady } = useAgent({ agentId });
  return (
    <output
      id="status"
      hidden
      data-runtime={copilotkit.runtimeConnectionStatus}
      data-transport={copilotkit.runtimeTransport}
      data-ready={isReady}
      data-running={agent.isRunning}
    />
  );
}

const chat = { agentId, threadId };

export const Chat = () => (
  <App>
    <div className="chat">
      <CopilotChat {...chat} />
    </div>
  </App>
);

export const Sidebar = () => (
  <App>
    <h1>An application</h1>
    <CopilotSidebar {...chat} defaultOpen={false} />
  </App>
);

export const Popup = () => (
  <App>
    <h1>An application</h1>
    <CopilotPopup {...chat} defaultOpen={false} />
  </App>
);

/** A tool that the page has, whose result goes back to the agent. */
function WeatherTool() {
  useFrontendTool({
    name: "get_weather",
    description: "The weather in a city.",
    parameters: z.object({ city: z.string() }),
    handler: async ({ city }) => `sunny in ${city}`,
    render: ({ args, status, result }) => (
      <p data-testid="weather" data-status={status}>
        {args.city}: {result}
      </p>
    ),
  });
  return null;
}

function LightTool() {
  const [light, setLight] = useState("off");
  useFrontendTool({
    name: "switch_light",
    description: "Switches the light.",
    parameters: z.object({ to: z.string() }),
    handler: async ({ to }) => {
      setLight(to);
      return `the light is ${to}`;
    },
  });
  return <p data-testid="light">{light}</p>;
}

export const Tools = () => (
  <App>
    <WeatherTool />
    <LightTool />
    <div className="chat">
      <CopilotChat {...chat} />
    </div>
  </App>
);

function Confirmation() {
  useHumanInTheLoop({
    name: "confirm",
    description: "Asks the user.",
    parameters: z.object({ question: z.string() }),
    render: ({ args, status, respond, result }) => (
      <div data-testid="confirm" data-status={status}>
        <p>{args.question}</p>
        {respond ? <button onClick={() => respond("yes")}>Yes</button> : null}
        {respond ? <button onClick={() => respond("no")}>No</button> : null}
        {result ? <p>answered: {result}</p> : null}
      </div>
    ),
  });
  return null;
}

export const Human = () => (
  <App>
    <Confirmation />
    <div className="chat">
      <CopilotChat {...chat} />
    </div>
  </App>
);

function Renderers() {
  useRenderTool({
    name: "search",
    parameters: z.object({ query: z.string() }),
    render: ({ parameters, status, result }) => (
      <p data-testid="search" data-status={status}>
        {parameters.query}: {result}
      </p>
    ),
  });
  useDefaultRenderTool();
  return null;
}

export const ToolRenderers = () => (
  <App>
    <Renderers />
    <div className="chat">
      <CopilotChat {...chat} />
    </div>
  </App>
);

function Approval() {
  useInterrupt({
    render: ({ interrupt, event, resolve, cancel }) => (
      <div data-testid="interrupt">
        <p>{interrupt?.message ?? String(event?.value)}</p>
        <button onClick={() => resolve({ approved: true })}>Approve</button>
        <button onClick={() => cancel()}>Cancel</button>
      </div>
    ),
  });
  return null;
}

export const Interrupts = () => (
  <App>
    <div className="chat">
      <CopilotChat {...chat} />
    </div>
    <Approval />
  </App>
);

/** Shows the agent's state, and changes it. */
function StateView() {
  const { agent } = useAgent({ agentId });
  return (
    <aside>
      <pre data-testid="state">{JSON.stringify(agent.state)}</pre>
      <button onClick={() => agent.setState({ ...agent.state, count: 41 })}>Set to 41</button>
    </aside>
  );
}

function Background() {
  useAgentContext({ description: "the open page", value: { path: "/orders" } });
  return null;
}

export const State = () => (
  <App>
    <Background />
    <StateView />
    <div className="chat">
      <CopilotChat {...chat} />
    </div>
  </App>
);

function Suggestions() {
  useConfigureSuggestions(
    query.static
      ? { suggestions: [{ title: "A fixed one", message: "fixed" }], available: "always" }
      : { instructions: "Suggest what to ask next.", available: "always" },
  );
  return null;
}

export const Suggest = () => (
  <App>
    <div className="chat">
      <Suggestions />
      <CopilotChat {...chat} />
    </div>
  </App>
);

const activityRenderers = [
  {
    activityType: "plan",
    content: z.object({ steps: z.array(z.string()), done: z.boolean().optional() }),
    render: ({ content }) => (
      <ol data-testid="plan" data-done={content.done}>
        {content.steps.map((step) => (
          <li key={step}>{step}</li>
        ))}
      </ol>
    ),
  },
];

export const Activities = () => (
  <App renderActivityMessages={activityRenderers}>
    <div className="chat">
      <CopilotChat {...chat} />
    </div>
  </App>
);

export const TwoAgents = () => (
  <App>
    <div className="side">
      <section id="first">
        <CopilotChat agentId={agentId} threadId={threadId} />
      </section>
      <section id="second">
        <CopilotChat agentId={query.other} threadId={`${threadId}-other`} />
      </section>
    </div>
  </App>
);

export const Images = () => (
  <App>
    <div className="chat">
      <CopilotChat {...chat} attachments={{ enabled: true, accept: "image/*" }} />
    </div>
  </App>
);

function ThreadList({ open, onOpen }) {
  const { threads, isLoading, error, refetchThreads, ...change } = useThreads({
    agentId,
    includeArchived: Boolean(query.archived),
  });
  return (
    <nav>
      <p data-testid="threads" data-loading={isLoading}>
        {error?.message}
      </p>
      <button onClick={refetchThreads}>Refresh</button>
      <ul>
        {threads.map(({ id, name, archived }) => (
          <li key={id} data-thread={id} data-archived={archived}>
            <button onClick={() => onOpen(id)}>{name ?? id}</button>
            <button onClick={() => change.renameThread(id, "Renamed")}>Rename</button>
            <button onClick={() => change.archiveThread(id)}>Archive</button>
            <button onClick={() => change.unarchiveThread(id)}>Unarchive</button>
            <button onClick={() => change.deleteThread(id)}>Delete</button>
          </li>
        ))}
      </ul>
      <p>{open}</p>
    </nav>
  );
}

export function Threads() {
  const [open, setOpen] = useState(threadId);
  return (
    <App>
      <div className="side">
        <ThreadList open={open} onOpen={setOpen} />
        <section>
          <CopilotChat agentId={agentId} threadId={open} />
        </section>
      </div>
    </App>
  );
}
