// The pages that are built with the API before, which `@copilotkit/react-core` still has.

import {
  CopilotKit,
  useCoAgent,
  useCopilotAction,
  useLangGraphInterrupt,
} from "@copilotkit/react-core";
import { CopilotChat, useAgent, useCopilotKit } from "@copilotkit/react-core/v2";

import { provider, query } from "./query.js";

const { agent = "default", thread: threadId } = query;

function Status() {
  const { copilotkit } = useCopilotKit();
  const { agent: live, isReady } = useAgent({ agentId: agent });
  return (
    <output
      id="status"
      hidden
      data-runtime={copilotkit.runtimeConnectionStatus}
      data-transport={copilotkit.runtimeTransport}
      data-ready={isReady}
      data-running={live.isRunning}
    />
  );
}

const App = ({ children }) => (
  <CopilotKit {...provider} agent={agent} threadId={threadId}>
    <Status />
    {children}
    <div className="chat">
      <CopilotChat agentId={agent} threadId={threadId} />
    </div>
  </CopilotKit>
);

export const LegacyChat = () => <App />;

function Action() {
  useCopilotAction({
    name: "get_weather",
    description: "The weather in a city.",
    parameters: [{ name: "city", type: "string", description: "The city.", required: true }],
    handler: async ({ city }) => `sunny in ${city}`,
    render: ({ args, status }) => (
      <p data-testid="weather" data-status={status}>
        {args.city}
      </p>
    ),
  });
  return null;
}

export const LegacyAction = () => (
  <App>
    <Action />
  </App>
);

function CoAgent() {
  const { state, setState } = useCoAgent({ name: agent, initialState: { count: 1 } });
  return (
    <aside>
      <pre data-testid="state">{JSON.stringify(state)}</pre>
      <button onClick={() => setState({ ...state, count: 41 })}>Set to 41</button>
    </aside>
  );
}

export const LegacyCoAgent = () => (
  <App>
    <CoAgent />
  </App>
);

function Interrupt() {
  useLangGraphInterrupt({
    render: ({ event, resolve }) => (
      <div data-testid="interrupt">
        <p>{String(event.value)}</p>
        <button onClick={() => resolve("approved")}>Approve</button>
      </div>
    ),
  });
  return null;
}

export const LegacyInterrupt = () => (
  <App>
    <Interrupt />
  </App>
);
