"""The schemas of the published clients, of both generations of the protocol, as data.

A client checks each event with the schemas of its ``@ag-ui/core``, and throws away the whole stream
at the first that does not fit. The texts below are those schemas, printed from the npm packages by
``tests/clients/schemas.mjs``. A test prints them again and compares, so that its failure shows what
a new version has changed. The definitions that both generations have stand once; a name in them
(``Base``) means that of the generation.

The notation is close to TypeScript's::

    Name = { required: type; optional?: type; ...Base }   an object; unknown members are ignored
    Name = only { ... }                                   an object; unknown members are refused
    Name = by kind: A | B                                 one of them, told by its member ``kind``

A type is a name, a string that is meant literally, ``T[]`` for a list and ``T[]+`` for one that is
not empty, or several of them with ``|`` between. ``any`` is every JSON value and ``value`` every
one but null, ``object`` has any members, ``integer`` is a number that JavaScript holds exactly, a
``count`` is an integer that is not below zero, and a ``pointer`` is a JSON Pointer (RFC 6901).

The notation cannot say one thing: a ``binary`` part of 0.0.59 needs an id, a url or data.
"""

from __future__ import annotations

from typing import Final

_BOTH: Final = """\
TextMessageStartEvent = { messageId: string; name?: string; role?: "developer" | "system" |
  "assistant" | "user"; subagentRunId?: string; type: "TEXT_MESSAGE_START"; ...Base }
TextMessageContentEvent = { delta: string; messageId: string; subagentRunId?: string; type:
  "TEXT_MESSAGE_CONTENT"; ...Base }
TextMessageEndEvent = { messageId: string; subagentRunId?: string; type: "TEXT_MESSAGE_END";
  ...Base }
TextMessageChunkEvent = { delta?: string; messageId?: string; name?: string; role?: "developer" |
  "system" | "assistant" | "user"; subagentRunId?: string; type: "TEXT_MESSAGE_CHUNK"; ...Base }
ToolCallStartEvent = { parentMessageId?: string; subagentRunId?: string; toolCallId: string;
  toolCallName: string; type: "TOOL_CALL_START"; ...Base }
ToolCallArgsEvent = { delta: string; subagentRunId?: string; toolCallId: string; type:
  "TOOL_CALL_ARGS"; ...Base }
ToolCallEndEvent = { subagentRunId?: string; toolCallId: string; type: "TOOL_CALL_END"; ...Base }
ToolCallChunkEvent = { delta?: string; parentMessageId?: string; subagentRunId?: string;
  toolCallId?: string; toolCallName?: string; type: "TOOL_CALL_CHUNK"; ...Base }
DeveloperMessage = { content: string; encryptedValue?: string; id: string; metadata?: object;
  name?: string; role: "developer"; subagentRunId?: string }
SystemMessage = { content: string; encryptedValue?: string; id: string; metadata?: object; name?:
  string; role: "system"; subagentRunId?: string }
FunctionCall = { arguments: string; name: string }
ToolCall = { encryptedValue?: string; function: FunctionCall; id: string; metadata?: object; type:
  "function" }
AssistantMessage = { content?: string; encryptedValue?: string; id: string; metadata?: object;
  name?: string; role: "assistant"; subagentRunId?: string; toolCalls?: ToolCall[] }
ActivityMessage = { activityType: string; content: object; id: string; metadata?: object; role:
  "activity"; subagentRunId?: string }
ReasoningMessage = { content: string; encryptedValue?: string; id: string; metadata?: object;
  role: "reasoning"; subagentRunId?: string }
Message = by role: DeveloperMessage | SystemMessage | AssistantMessage | UserMessage | ToolMessage
  | ActivityMessage | ReasoningMessage
MessagesSnapshotEvent = { messages: Message[]; type: "MESSAGES_SNAPSHOT"; ...Base }
ActivitySnapshotEvent = { activityType: string; content: object; messageId: string; replace?:
  boolean; subagentRunId?: string; type: "ACTIVITY_SNAPSHOT"; ...Base }
Context = { description: string; value: string }
Interrupt = { expiresAt?: string; id: string; message?: string; metadata?: object; reason: string;
  responseSchema?: object; subagentRunId?: string; toolCallId?: string }
RunErrorEvent = { code?: string; message: string; type: "RUN_ERROR"; usage?: TokenUsage[]; ...Base
  }
StepStartedEvent = { stepName: string; subagentRunId?: string; type: "STEP_STARTED"; ...Base }
StepFinishedEvent = { stepName: string; subagentRunId?: string; type: "STEP_FINISHED"; ...Base }
ReasoningStartEvent = { messageId: string; subagentRunId?: string; type: "REASONING_START";
  ...Base }
ReasoningMessageStartEvent = { messageId: string; role: "reasoning"; subagentRunId?: string; type:
  "REASONING_MESSAGE_START"; ...Base }
ReasoningMessageContentEvent = { delta: string; messageId: string; subagentRunId?: string; type:
  "REASONING_MESSAGE_CONTENT"; ...Base }
ReasoningMessageEndEvent = { messageId: string; subagentRunId?: string; type:
  "REASONING_MESSAGE_END"; ...Base }
ReasoningMessageChunkEvent = { delta?: string; messageId?: string; subagentRunId?: string; type:
  "REASONING_MESSAGE_CHUNK"; ...Base }
ReasoningEndEvent = { messageId: string; subagentRunId?: string; type: "REASONING_END"; ...Base }
ReasoningEncryptedValueEvent = { encryptedValue: string; entityId: string; subagentRunId?: string;
  subtype: "tool-call" | "message"; type: "REASONING_ENCRYPTED_VALUE"; ...Base }
SubagentStartedEvent = { description?: string; name: string; parentMessageId?: string;
  parentSubagentRunId?: string; parentToolCallId?: string; subagentRunId: string; type:
  "SUBAGENT_STARTED"; ...Base }
SubagentFinishedOutcome = by type: SubagentFinishedSuccessOutcome |
  SubagentFinishedSuspendedOutcome
SubagentErrorEvent = { code?: string; message: string; subagentRunId: string; type:
  "SUBAGENT_ERROR"; ...Base }
"""

V0_0_59: Final = (
    _BOTH
    + """\
Base = { metadata?: object; rawEvent?: any; timestamp?: number }
ThinkingStartEvent = { title?: string; type: "THINKING_START"; ...Base }
ThinkingEndEvent = { type: "THINKING_END"; ...Base }
ThinkingTextMessageStartEvent = { type: "THINKING_TEXT_MESSAGE_START"; ...Base }
ThinkingTextMessageContentEvent = { delta: string; type: "THINKING_TEXT_MESSAGE_CONTENT"; ...Base
  }
ThinkingTextMessageEndEvent = { type: "THINKING_TEXT_MESSAGE_END"; ...Base }
ToolCallResultEvent = { content: string; messageId: string; role?: "tool"; subagentRunId?: string;
  toolCallId: string; type: "TOOL_CALL_RESULT"; ...Base }
StateSnapshotEvent = { snapshot?: any; subagentRunId?: string; type: "STATE_SNAPSHOT"; ...Base }
StateDeltaEvent = { delta: any[]; subagentRunId?: string; type: "STATE_DELTA"; ...Base }
TextInputContent = { text: string; type: "text" }
InputContentDataSource = { mimeType: string; type: "data"; value: string }
InputContentUrlSource = { mimeType?: string; type: "url"; value: string }
InputContentSource = by type: InputContentDataSource | InputContentUrlSource
ImageInputPart = { metadata?: any; source: InputContentSource; type: "image" }
AudioInputPart = { metadata?: any; source: InputContentSource; type: "audio" }
VideoInputPart = { metadata?: any; source: InputContentSource; type: "video" }
DocumentInputPart = { metadata?: any; source: InputContentSource; type: "document" }
BinaryVariant = { data?: string; filename?: string; id?: string; mimeType: string; type: "binary";
  url?: string }
InputContent = by type: TextInputContent | ImageInputPart | AudioInputPart | VideoInputPart |
  DocumentInputPart | BinaryVariant
UserMessage = { content: string | InputContent[]; encryptedValue?: string; id: string; metadata?:
  object; name?: string; role: "user"; subagentRunId?: string }
ToolMessage = { content: string; encryptedValue?: string; error?: string; id: string; metadata?:
  object; role: "tool"; subagentRunId?: string; toolCallId: string }
ActivityDeltaEvent = { activityType: string; messageId: string; patch: any[]; subagentRunId?:
  string; type: "ACTIVITY_DELTA"; ...Base }
RawEvent = { event?: any; source?: string; subagentRunId?: string; type: "RAW"; ...Base }
CustomEvent = { name: string; subagentRunId?: string; type: "CUSTOM"; value?: any; ...Base }
Tool = { description: string; metadata?: object; name: string; parameters?: any }
ResumeEntry = { interruptId: string; metadata?: object; payload?: any; status: "resolved" |
  "cancelled" }
RunAgentInput = { context: Context[]; forwardedProps?: any; messages: Message[]; parentRunId?:
  string; resume?: ResumeEntry[]; runId: string; state?: any; threadId: string; tools: Tool[] }
RunStartedEvent = { input?: RunAgentInput; parentRunId?: string; runId: string; threadId: string;
  type: "RUN_STARTED"; ...Base }
RunFinishedSuccessOutcome = only { type: "success" }
RunFinishedInterruptOutcome = only { interrupts: Interrupt[]+; type: "interrupt" }
RunFinishedOutcome = by type: RunFinishedSuccessOutcome | RunFinishedInterruptOutcome
TokenUsage = { cachedInputTokens?: count; inputTokens?: count; model?: string; outputTokens?:
  count; provider?: string; reasoningTokens?: count; totalTokens?: count }
RunFinishedEvent = { outcome?: RunFinishedOutcome; result?: any; runId: string; threadId: string;
  type: "RUN_FINISHED"; usage?: TokenUsage[]; ...Base }
SubagentFinishedSuccessOutcome = only { type: "success" }
SubagentFinishedSuspendedOutcome = only { interruptIds?: string[]; type: "suspended" }
SubagentFinishedEvent = { outcome?: SubagentFinishedOutcome; result?: any; subagentRunId: string;
  type: "SUBAGENT_FINISHED"; ...Base }
Event = by type: TextMessageStartEvent | TextMessageContentEvent | TextMessageEndEvent |
  TextMessageChunkEvent | ThinkingStartEvent | ThinkingEndEvent | ThinkingTextMessageStartEvent |
  ThinkingTextMessageContentEvent | ThinkingTextMessageEndEvent | ToolCallStartEvent |
  ToolCallArgsEvent | ToolCallEndEvent | ToolCallChunkEvent | ToolCallResultEvent |
  StateSnapshotEvent | StateDeltaEvent | MessagesSnapshotEvent | ActivitySnapshotEvent |
  ActivityDeltaEvent | RawEvent | CustomEvent | RunStartedEvent | RunFinishedEvent | RunErrorEvent
  | StepStartedEvent | StepFinishedEvent | ReasoningStartEvent | ReasoningMessageStartEvent |
  ReasoningMessageContentEvent | ReasoningMessageEndEvent | ReasoningMessageChunkEvent |
  ReasoningEndEvent | ReasoningEncryptedValueEvent | SubagentStartedEvent | SubagentFinishedEvent
  | SubagentErrorEvent
"""
)

V1_0_0: Final = (
    _BOTH
    + """\
Base = { metadata?: object; rawEvent?: value; timestamp?: integer }
TextPart = { id?: string; metadata?: value; text: string; type: "text" }
DataSource = { mimeType: string; type: "data"; value: string }
UrlSource = { mimeType?: string; type: "url"; value: string }
FileSource = { mimeType?: string; provider?: string; type: "file"; value: string }
PartSource = by type: DataSource | UrlSource | FileSource
ImagePart = { id?: string; metadata?: value; source: PartSource; type: "image" }
AudioPart = { id?: string; metadata?: value; source: PartSource; type: "audio" }
VideoPart = { id?: string; metadata?: value; source: PartSource; type: "video" }
DocumentPart = { id?: string; metadata?: value; source: PartSource; type: "document" }
ContentPart = by type: TextPart | ImagePart | AudioPart | VideoPart | DocumentPart
ToolCallResultEvent = { content: string | ContentPart[]; messageId: string; role?: "tool";
  subagentRunId?: string; toolCallId: string; type: "TOOL_CALL_RESULT"; ...Base }
StateSnapshotEvent = { snapshot: any; subagentRunId?: string; type: "STATE_SNAPSHOT"; ...Base }
AddOperation = { op: "add"; path: pointer; value: any }
RemoveOperation = { op: "remove"; path: pointer }
ReplaceOperation = { op: "replace"; path: pointer; value: any }
MoveOperation = { from: pointer; op: "move"; path: pointer }
CopyOperation = { from: pointer; op: "copy"; path: pointer }
TestOperation = { op: "test"; path: pointer; value: any }
JsonPatchOperation = by op: AddOperation | RemoveOperation | ReplaceOperation | MoveOperation |
  CopyOperation | TestOperation
StateDeltaEvent = { delta: JsonPatchOperation[]; subagentRunId?: string; type: "STATE_DELTA";
  ...Base }
UserMessage = { content: string | ContentPart[]; encryptedValue?: string; id: string; metadata?:
  object; name?: string; role: "user"; subagentRunId?: string }
ToolMessage = { content: string | ContentPart[]; encryptedValue?: string; error?: string; id:
  string; metadata?: object; role: "tool"; subagentRunId?: string; toolCallId: string }
ActivityDeltaEvent = { activityType: string; messageId: string; patch: JsonPatchOperation[];
  subagentRunId?: string; type: "ACTIVITY_DELTA"; ...Base }
RawEvent = { event: any; source?: string; subagentRunId?: string; type: "RAW"; ...Base }
CustomEvent = { name: string; subagentRunId?: string; type: "CUSTOM"; value: any; ...Base }
Tool = { description: string; metadata?: object; name: string; parameters?: value }
ResumeEntry = { interruptId: string; metadata?: object; payload?: value; status: "resolved" |
  "cancelled" }
RunAgentInput = { context?: Context[]; forwardedProps?: value; messages: Message[]; parentRunId?:
  string; protocolVersion?: string; resume?: ResumeEntry[]; runId: string; state?: any; threadId:
  string; tools?: Tool[] }
RunStartedEvent = { input?: RunAgentInput; parentRunId?: string; protocolVersion?: string; runId:
  string; threadId: string; type: "RUN_STARTED"; ...Base }
RunFinishedSuccessOutcome = { pendingToolCallIds?: string[]; type: "success" }
RunFinishedInterruptOutcome = { interrupts: Interrupt[]+; type: "interrupt" }
RunFinishedCancelledOutcome = { type: "cancelled" }
RunFinishedOutcome = by type: RunFinishedSuccessOutcome | RunFinishedInterruptOutcome |
  RunFinishedCancelledOutcome
TokenUsage = { cacheWriteInputTokens?: count; cachedInputTokens?: count; inputTokens?: count;
  model?: string; outputTokens?: count; provider?: string; reasoningTokens?: count; totalTokens?:
  count }
RunFinishedEvent = { outcome?: RunFinishedOutcome; result?: value; runId: string; threadId:
  string; type: "RUN_FINISHED"; usage?: TokenUsage[]; ...Base }
SubagentFinishedSuccessOutcome = { type: "success" }
SubagentFinishedSuspendedOutcome = { interruptIds?: string[]; type: "suspended" }
SubagentFinishedEvent = { outcome?: SubagentFinishedOutcome; result?: value; subagentRunId:
  string; type: "SUBAGENT_FINISHED"; ...Base }
Event = by type: TextMessageStartEvent | TextMessageContentEvent | TextMessageEndEvent |
  TextMessageChunkEvent | ToolCallStartEvent | ToolCallArgsEvent | ToolCallEndEvent |
  ToolCallChunkEvent | ToolCallResultEvent | StateSnapshotEvent | StateDeltaEvent |
  MessagesSnapshotEvent | ActivitySnapshotEvent | ActivityDeltaEvent | RawEvent | CustomEvent |
  RunStartedEvent | RunFinishedEvent | RunErrorEvent | StepStartedEvent | StepFinishedEvent |
  ReasoningStartEvent | ReasoningMessageStartEvent | ReasoningMessageContentEvent |
  ReasoningMessageEndEvent | ReasoningMessageChunkEvent | ReasoningEndEvent |
  ReasoningEncryptedValueEvent | SubagentStartedEvent | SubagentFinishedEvent | SubagentErrorEvent
"""
)
