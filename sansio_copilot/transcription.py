"""Speech to text: the recording that a transcription service is given, and the errors it raises.

A service is a function of an :class:`AudioFile`, plain or async, that returns the text::

    async def transcribe(audio: AudioFile) -> str:
        result = await openai.audio.transcriptions.create(
            model="whisper-1", file=(audio.filename, audio.data, audio.mime_type)
        )
        return result.text

    runtime = CopilotRuntime(agents, transcription=transcribe)

The codes, texts and flags are those of ``@copilotkit/shared`` (TranscriptionErrorCode,
TranscriptionErrors), which CopilotKit's chat input shows its user and retries by.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, TypeAlias

import attrs

from .errors import sole_cause, text_of


@attrs.frozen
class AudioFile:
    """A recording to transcribe.

    :param data: the bytes of the file, in a container that ``mime_type`` names. It may be empty,
        and the service decides whether that is an error.
    :param filename: the name that the client gave it, or "recording.webm". Providers look at its
        ending. It is free text of the client, and must never be opened as a path.
    :param mime_type: in lower case, with its parameters ("audio/webm;codecs=opus"); "" if it had
        characters that a media type cannot have.
    """

    data: bytes = attrs.field(repr=False)
    filename: str
    mime_type: str

    @property
    def size(self) -> int:
        """The length of ``data`` in bytes."""
        return len(self.data)


TranscriptionService: TypeAlias = Callable[[AudioFile], str | Awaitable[str]]
"""A plain or async function that returns the text of an :class:`AudioFile`, which may be "".

A plain one is called in a thread, and may block. It may raise
:class:`TranscriptionError`; :func:`classify` says what becomes of other exceptions."""

ErrorCode: TypeAlias = Literal[
    "service_not_configured",
    "invalid_audio_format",
    "audio_too_long",
    "audio_too_short",
    "rate_limited",
    "auth_failed",
    "provider_error",
    "network_error",
    "invalid_request",
]


@attrs.frozen
class ErrorKind:
    """A kind of error, as the client is told of it.

    :param status: the status code.
    :param retryable: whether the same request may succeed later.
    :param message: the text if there is nothing more precise to say.
    """

    status: int
    retryable: bool
    message: str


ERRORS: Mapping[ErrorCode, ErrorKind] = {
    "service_not_configured": ErrorKind(503, False, "Transcription service is not configured"),
    "invalid_audio_format": ErrorKind(400, False, "Unsupported audio format"),
    "audio_too_long": ErrorKind(400, False, "Audio file is too long"),
    "audio_too_short": ErrorKind(400, False, "Audio is too short to transcribe"),
    "rate_limited": ErrorKind(429, True, "Rate limited. Please try again later."),
    "auth_failed": ErrorKind(401, False, "Authentication failed with transcription provider"),
    "provider_error": ErrorKind(500, True, "Unknown error occurred"),
    "network_error": ErrorKind(502, True, "Network error during transcription"),
    "invalid_request": ErrorKind(400, False, "Invalid transcription request"),
}
"""The kinds of errors, by the code that the client is sent."""


class TranscriptionError(Exception):
    """Raised by a service to decide what the client is told.

    :param code: one of :data:`ERRORS`.
    :param message: the text for the client, with nothing private in it; by default that of the
        code.
    :raises ValueError: for a ``code`` that is not one of :data:`ERRORS`.
    """

    def __init__(self, code: ErrorCode, message: str | None = None) -> None:
        if code not in ERRORS:
            raise ValueError(f"code is one of {', '.join(ERRORS)}, not {code!r}")
        # The exception keeps its arguments as they came, so that it can be pickled on its way out
        # of a process pool.
        super().__init__(code, message)
        self.code: ErrorCode = code
        self.message = ERRORS[code].message if message is None else message

    def __str__(self) -> str:
        return self.message


# The name and text of an exception are searched for these words, in this order. So short a list of
# such short words errs ("could not generate" has a "rate" in it), but it is the reference's, and
# clients rely on it; a service that knows better raises a TranscriptionError. Only "too short" is
# not in the reference, which takes OpenAI's "Audio file is too short. Minimum audio length is 0.1
# seconds." for a recording that is too long.
_SIGNS: tuple[tuple[ErrorCode, tuple[str, ...]], ...] = (
    ("rate_limited", ("rate", "429", "too many")),
    ("auth_failed", ("auth", "401", "api key")),
    ("audio_too_short", ("too short",)),
    ("audio_too_long", ("too long", "duration", "length")),
)


def classify(error: Exception) -> TranscriptionError:
    """The error that the client is told of for an exception that a service raised.

    A :class:`TranscriptionError` is returned as it is. A built-in ``ConnectionError`` or
    ``TimeoutError`` is a network_error. Any other exception is judged by its name and text, as in
    the reference (handle-transcribe, categorizeProviderError), and is a provider_error if no sign
    fits.

    Only a provider_error carries the exception's own text to the client, as it does in the
    reference; the name of its type, its cause and its traceback never leave. The other kinds have
    fixed texts, so that "Incorrect API key provided: sk-..." is not repeated. A service whose
    exceptions have private texts translates them to :class:`TranscriptionError`.
    """
    cause = sole_cause(error)
    if isinstance(cause, TranscriptionError):
        return cause
    if isinstance(cause, (ConnectionError, TimeoutError)):
        return TranscriptionError("network_error")
    text = text_of(error)
    haystack = f"{type(cause).__name__}: {text}".lower()
    for code, signs in _SIGNS:
        if any(sign in haystack for sign in signs):
            return TranscriptionError(code)
    return TranscriptionError("provider_error", text or None)
