"""POST /transcribe: the text of a recording, by the application's transcription service.

The recording comes as the part ``audio`` of multipart/form-data, or in JSON as base64::

    {"audio": "GkXfo59C...", "mimeType": "audio/webm;codecs=opus", "filename": "note.webm"}

``filename`` may be left out, and ``audio`` may be a data URL. A body that cannot be read is
answered 400, while the reference takes it for a failure of the provider (500, retryable).
"""

from __future__ import annotations

import binascii
import logging
import re
from typing import TYPE_CHECKING

import attrs
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from ..agents.disclosure import Teller
from ..calls import Call
from ..errors import shorten, sole_cause
from ..hooks import Reject
from ..http.messages import Request, Response
from ..transcription import ERRORS, AudioFile, TranscriptionError, classify
from .body import JsonBody
from .request_and_reply import EndpointInput, EndpointSteps, Reply

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

logger = logging.getLogger(__name__)

AUDIO_TYPES = (
    "audio/mpeg",
    "audio/mp3",
    "audio/mp4",
    "audio/wav",
    "audio/webm",
    "audio/ogg",
    "audio/flac",
    "audio/aac",
)
"""The media types that a recording may have, in the order in which an error lists them."""

# If the type is one of these, which say nothing, the recording is taken for that of a browser.
_UNKNOWN_TYPES = ("", "application/octet-stream")
_DEFAULT_NAME = "recording.webm"
_DEFAULT_TYPE = "audio/webm"
_NO_TEXT = "The transcription service returned no text"

# An honest form has a handful of parts with a few hundred bytes of headers each. Reading headers
# takes a hundred times as long as reading a recording, so that a body full of parts would take
# seconds.
_MAX_HEADER_BYTES = 64 * 1024

_NOT_IN_A_TYPE = re.compile("[^ -~]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_FORM_ESCAPE = re.compile("%(0A|0D|22)", re.IGNORECASE)
_ASCII_SPACE = b"\t\n\f\r "


def transcribe(given: EndpointInput) -> EndpointSteps:
    """Give the recording to the service; the reply has its text, and its size and type."""
    service = given.runtime.transcription
    if service is None:
        return _error(TranscriptionError("service_not_configured"))
    try:
        audio = read_audio(given.request, given.runtime.limits.body_values)
    except TranscriptionError as refusal:
        return _error(refusal)
    try:
        text = yield Call(service, (audio,), name="the transcription service", part="service")
    except Reject:
        raise
    except Exception as error:
        return _failure(given, audio, error, classify(error))
    if not isinstance(text, str):
        wrong = TypeError(f"the transcription service returned {type(text).__name__}, expected str")
        # The error is not classified by words such as "rate" or "auth" in its text, because the
        # text has the name of a type.
        return _failure(given, audio, wrong, TranscriptionError("provider_error", _NO_TEXT))
    return Reply(Response.json({"text": text, "size": audio.size, "type": audio.mime_type}))


def _failure(
    given: EndpointInput, audio: AudioFile, error: Exception, problem: TranscriptionError
) -> Reply:
    # The level is lower for a bad recording, because that is the client's affair and not the
    # operator's.
    level = logging.WARNING if ERRORS[problem.code].status == 400 else logging.ERROR
    logger.log(level, "transcribing %d bytes: %s", audio.size, problem.code, exc_info=error)
    told = Teller(None, given.runtime.error_message).told(sole_cause(error), problem.message)
    return _error(TranscriptionError(problem.code, told))


def read_audio(request: Request, max_values: int) -> AudioFile:
    """The recording in a request whose body has been read.

    :param max_values: JSON values that the body may have.
    :raises TranscriptionError: invalid_request or invalid_audio_format, if there is no recording.
    :raises Refusal: with 413, if the body has too many JSON values.
    """
    content_type = request.headers.get("content-type", "")
    body = request.body or b""
    # The type is searched for substrings, as in the reference, but without regard to case (RFC 9110
    # section 8.3.1).
    kind = content_type.lower()
    if "multipart/form-data" in kind:
        return _from_form(content_type, body)
    if "application/json" in kind:
        return _from_json(body, max_values)
    raise _wrong_content_type()


def decode_base64(text: str) -> bytes:
    """Decode as a browser's ``atob`` does (WHATWG Infra, forgiving-base64 decode).

    White space is ignored and the padding may be left out, but padding that is there must be right.

    :raises ValueError: if it is not base64.
    """
    digits = text.encode("ascii").translate(None, _ASCII_SPACE)
    if len(digits) % 4 == 0:
        digits = digits[:-2] if digits.endswith(b"==") else digits.removesuffix(b"=")
    if b"=" in digits:
        raise ValueError("padding where none belongs")
    return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4), strict_mode=True)


def _error(problem: TranscriptionError) -> Reply:
    kind = ERRORS[problem.code]
    body = {"error": problem.code, "message": problem.message, "retryable": kind.retryable}
    return Reply(Response.json(body, kind.status))


def _invalid(message: str) -> TranscriptionError:
    return TranscriptionError("invalid_request", message)


def _wrong_content_type() -> TranscriptionError:
    return _invalid("Request must be multipart/form-data or application/json with base64 audio")


def _check_type(mime_type: str) -> None:
    base_type = mime_type.partition(";")[0].strip().lower()
    if base_type not in AUDIO_TYPES and base_type not in _UNKNOWN_TYPES:
        raise TranscriptionError(
            "invalid_audio_format",
            f"Unsupported audio format: {shorten(mime_type)}. Supported: {', '.join(AUDIO_TYPES)}",
        )


def _normal_type(mime_type: str) -> str:
    """The ``type`` that a ``File`` made with ``mime_type`` has (W3C File API section 3.2)."""
    return "" if _NOT_IN_A_TYPE.search(mime_type) else mime_type.lower()


# --- JSON -------------------------------------------------------------------------------------


def _from_json(body: bytes, max_values: int) -> AudioFile:
    parsed = JsonBody.parse(body, max_values)
    if parsed.problem is not None:
        raise _invalid("Request body must be valid JSON")
    fields = parsed.content if isinstance(parsed.content, dict) else {}
    audio, mime_type = fields.get("audio"), fields.get("mimeType")
    if not audio or not isinstance(audio, str):
        raise _invalid("Request must include 'audio' field with base64-encoded audio data")
    if not mime_type or not isinstance(mime_type, str):
        raise _invalid("Request must include 'mimeType' field (e.g., 'audio/webm')")
    _check_type(mime_type)
    filename = fields.get("filename")
    if not filename or not isinstance(filename, str):
        filename = _DEFAULT_NAME
    # The data of a data URL stands behind its comma. Base64 text itself has no comma.
    before, comma, after = audio.partition(",")
    data = _decode_audio(after.partition(",")[0] if comma else before)
    return AudioFile(data, _SURROGATE.sub("\ufffd", filename), _normal_type(mime_type))


def _decode_audio(text: str) -> bytes:
    try:
        return decode_base64(text)
    except ValueError:
        raise _invalid("Failed to decode base64 audio data") from None


# --- multipart/form-data (RFC 7578) -----------------------------------------------------------


def _from_form(content_type: str, body: bytes) -> AudioFile:
    part = _read_form(_boundary(content_type), body)
    if part is None or part.filename is None:
        raise _invalid("No audio file found in form data. Please include an 'audio' field.")
    mime_type = _normal_type(part.mime_type)
    _check_type(mime_type)
    data, filename = b"".join(part.pieces), part.filename
    if part.base64:
        data = _decode_audio(data.decode("latin-1"))
    if mime_type in _UNKNOWN_TYPES:
        mime_type, filename = _DEFAULT_TYPE, filename or _DEFAULT_NAME
    return AudioFile(data, filename, mime_type)


def _boundary(content_type: str) -> bytes:
    try:
        media_type, options = parse_options_header(content_type)
    except UnicodeEncodeError:
        raise _invalid("Content-Type must be ASCII") from None
    if b"multipart/form-data" not in media_type.lower():
        # The type is refused, because the words that were looked for stand in one of its
        # parameters.
        raise _wrong_content_type()
    boundary = options.get(b"boundary")
    if not boundary:
        # The boundary is missing if a developer sets the header by hand, because only the HTTP
        # client knows it.
        raise _invalid("Content-Type multipart/form-data must have a boundary parameter")
    return boundary


@attrs.define
class _Part:
    """The part ``audio`` of a form.

    :param filename: None for a field that is not a file.
    :param mime_type: the type as it was sent, or else the default of RFC 7578 section 4.4.
    :param base64: whether the data is in base64. RFC 7578 deprecates that, and clients made for
        mail still do it.
    """

    filename: str | None
    mime_type: str
    base64: bool
    pieces: list[bytes] = attrs.field(factory=list)


def _read_form(boundary: bytes, body: bytes) -> _Part | None:
    """The first part called ``audio``; None if there is none. Nothing else is kept."""
    callbacks = _FormCallbacks()
    try:
        MultipartParser(boundary, callbacks.by_name()).write(body)
    except FormParserError:
        raise _invalid(
            "Request body must be valid multipart/form-data, "
            "with the boundary that Content-Type names"
        ) from None
    if not callbacks.ended:
        raise _invalid(
            "Request body must be valid multipart/form-data: it ends before its closing boundary"
        )
    return callbacks.audio


@attrs.define
class _FormCallbacks:
    """The callbacks of the parser, for one form."""

    audio: _Part | None = None
    ended: bool = False
    _header_bytes: int = 0
    _current: _Part | None = None
    _headers: dict[bytes, bytes] = attrs.field(factory=dict)
    _name: bytes = b""
    _value: bytes = b""

    def by_name(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._part_begin,
            "on_header_begin": self._header_begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_end": self._end,
        }

    def _part_begin(self) -> None:
        self._current = None
        self._headers = {}

    def _header_begin(self) -> None:
        self._name = self._value = b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name = data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value = data[start:end]

    def _header_end(self) -> None:
        self._header_bytes += len(self._name) + len(self._value)
        if self._header_bytes > _MAX_HEADER_BYTES:
            raise _invalid(
                f"The parts of a form must not have more than {_MAX_HEADER_BYTES} bytes of headers"
            )
        self._headers[self._name.lower()] = self._value.strip(b" \t")

    def _headers_finished(self) -> None:
        header = self._headers.get(b"content-disposition", b"").decode("latin-1")
        disposition, options = parse_options_header(header)
        name = options.get(b"name")
        if disposition.lower() != b"form-data" or name is None:
            raise FormParserError("a part without a name")
        if self.audio is not None or _form_text(name) != "audio":
            return
        filename = options.get(b"filename")
        encoding = self._headers.get(b"content-transfer-encoding", b"")
        self._current = self.audio = _Part(
            None if filename is None else _form_text(filename),
            self._headers.get(b"content-type", b"text/plain").decode("latin-1"),
            encoding.lower() == b"base64",
        )

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._current is not None:
            self._current.pieces.append(data[start:end])

    def _end(self) -> None:
        self.ended = True


def _form_text(value: bytes) -> str:
    """A name in a form, without the three escapes of the HTML Standard ("multipart/form-data
    encoding algorithm"), which has no escape for "%"."""
    text = value.decode("utf-8", "replace")
    return _FORM_ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), text)
