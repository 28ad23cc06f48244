"""Transcription: the vectors of the reference runtime, then what they leave open."""

from __future__ import annotations

import base64
import json
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.vectors import UNROUTED_ENVELOPE

from sansio_copilot import CopilotRuntime, Hooks, Limits, Reject, Request, Response
from sansio_copilot.actions import Abandon, Call, ReadBody
from sansio_copilot.endpoints.transcribe import AUDIO_TYPES, decode_base64, read_audio
from sansio_copilot.testing import Client, ClientResponse
from sansio_copilot.transcription import (
    ERRORS,
    AudioFile,
    ErrorCode,
    TranscriptionError,
    TranscriptionService,
    classify,
)

VECTORS = Path(__file__).parents[2] / "vectors"
BASE = "/api/copilotkit"
BOUNDARY = "----boundary"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
JSON = {"content-type": "application/json"}
MALFORMED = (
    "Request body must be valid multipart/form-data, with the boundary that Content-Type names"
)
TRUNCATED = "Request body must be valid multipart/form-data: it ends before its closing boundary"
NO_BOUNDARY = "Content-Type multipart/form-data must have a boundary parameter"
NO_FILE = "No audio file found in form data. Please include an 'audio' field."
NO_AUDIO = "Request must include 'audio' field with base64-encoded audio data"
NOT_BASE64 = "Failed to decode base64 audio data"
WRONG_TYPE = "Request must be multipart/form-data or application/json with base64 audio"
Case = dict[str, Any]


def echo(audio: AudioFile) -> str:
    return f"{audio.filename} | {audio.mime_type} | {audio.size} | {audio.data.hex()}"


def runtime(
    service: TranscriptionService | None = echo, mode: Any = "multi-route", **options: Any
) -> CopilotRuntime:
    return CopilotRuntime({}, mode=mode, cors=False, transcription=service, **options)


def failure(code: ErrorCode, message: str | None = None) -> tuple[int, dict[str, Any]]:
    kind = ERRORS[code]
    message = kind.message if message is None else message
    return kind.status, {"error": code, "message": message, "retryable": kind.retryable}


def invalid(message: str) -> tuple[int, dict[str, Any]]:
    return failure("invalid_request", message)


def heard(filename: str, mime_type: str, data: bytes) -> tuple[int, dict[str, Any]]:
    text = echo(AudioFile(data, filename, mime_type))
    return 200, {"text": text, "size": len(data), "type": mime_type}


def told(answer: ClientResponse) -> tuple[int, Any]:
    return answer.status, answer.json()


def post_json(
    value: Any, service: TranscriptionService | None = echo, **options: Any
) -> ClientResponse:
    return Client(runtime(service, **options)).post(f"{BASE}/transcribe", json=value)


def post_form(body: bytes, service: TranscriptionService | None = echo) -> ClientResponse:
    client = Client(runtime(service))
    return client.request("POST", f"{BASE}/transcribe", headers=FORM, body=body)


def form_part(data: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join((b"--" + BOUNDARY.encode(), *headers, b"", data, b""))


def audio_part(data: bytes, mime_type: bytes = b"audio/wav", filename: bytes = b"a.wav") -> bytes:
    disposition = b'Content-Disposition: form-data; name="audio"; filename="%s"' % filename
    return form_part(data, disposition, b"Content-Type: " + mime_type)


END = f"--{BOUNDARY}--\r\n".encode()
RECORDING = {"audio": "AAEC", "mimeType": "audio/webm"}


# --- The vectors ------------------------------------------------------------------------------

CASES: list[Case] = json.loads((VECTORS / "transcribe.json").read_text("utf-8"))["cases"]

# The reference calls a form that it cannot read a failure of the provider, to be retried.
FORM_FAILURES = (
    "Failed to parse body as FormData.",
    'Content-Type was not one of "multipart/form-data" or "application/x-www-form-urlencoded".',
)

UNREADABLE = "what the client sent wrong is not a failure of the provider: 400, not to be retried"
GOOD_FORM = "the reference cannot read this form, which RFC 7578 or RFC 2046 allows"
FILE_NAME = "a file name that is no string is none; the reference writes it as JavaScript does"
EXTENDED_NAME = "RFC 7578 section 4.2 forbids filename*, so this part is not a file"
DISK_PATH = "old browsers send a path of the client's disk; its last segment is the name"
ENCODING = "the name of an encoding has no case, and what is not base64 is not an empty recording"
TOO_SHORT = "the reference has the code, but takes what is too short for too long, or the provider"
NO_CASE = "a media type is compared without regard to case (RFC 9110 section 8.3.1)"
HINT = "the hint names what is here"
NO_TEXT = "an empty message helps nobody; the reference has words for an unknown error"

# Each name of a vector is mapped to the reason why the answer differs from the reference's, and to
# the answer here.
ACCEPTED_DIFFERENCES: dict[str, tuple[str, tuple[int, dict[str, Any]]]] = {
    **{
        case["name"]: (UNREADABLE, invalid(MALFORMED))
        for case in CASES
        if case["expect"]["body"].get("message") in FORM_FAILURES
    },
    "content type 5": (NO_CASE, heard("recording.webm", "audio/webm", bytes(range(6)))),
    "content type 6": (NO_CASE, heard("recording.webm", "audio/webm", bytes(range(6)))),
    "content type 17": (NO_CASE, heard("speech.webm", "audio/webm", b"AUDIO")),
    "json type 18": (NO_CASE, heard("recording.webm", "audio/webm", bytes(range(6)))),
    "json type 19": (NO_CASE, heard("recording.webm", "audio/webm;codecs=opus", bytes(range(6)))),
    "single-route 26": (HINT, (404, UNROUTED_ENVELOPE)),
    "content type 18": (UNREADABLE, invalid(NO_BOUNDARY)),
    "content type 19": (UNREADABLE, invalid(NO_BOUNDARY)),
    "content type 20": (UNREADABLE, invalid(NO_BOUNDARY)),
    "content type 27": (UNREADABLE, invalid(WRONG_TYPE)),
    "content type 28": (UNREADABLE, invalid(WRONG_TYPE)),
    "form framing 4": (UNREADABLE, invalid(TRUNCATED)),
    "form framing 5": (UNREADABLE, invalid(TRUNCATED)),
    "form framing 6": (UNREADABLE, invalid(TRUNCATED)),
    "form framing 10": (UNREADABLE, invalid(TRUNCATED)),
    "form framing 11": (UNREADABLE, invalid(TRUNCATED)),
    "form framing 14": (UNREADABLE, invalid(TRUNCATED)),
    "form framing 15": (UNREADABLE, invalid(TRUNCATED)),
    "form framing 17": (UNREADABLE, invalid(TRUNCATED)),
    "form header 12": (UNREADABLE, invalid(NO_FILE)),
    "form header 18": (UNREADABLE, invalid(NO_FILE)),
    "json document 4": (UNREADABLE, invalid(NO_AUDIO)),
    "single-route 16": (UNREADABLE, invalid(NO_AUDIO)),
    "form header 9": (GOOD_FORM, heard("a.webm", "audio/webm", b"X")),
    "form header 10": (GOOD_FORM, heard("a.webm", "audio/webm", b"X")),
    "form header 16": (GOOD_FORM, heard("a.webm", "audio/webm", b"X")),
    "form header 17": (GOOD_FORM, heard("a.webm", "audio/webm", b"X")),
    "form framing 3": (GOOD_FORM, heard("speech.webm", "audio/webm", b"AUDIO")),
    "form framing 9": (GOOD_FORM, heard("speech.webm", "audio/webm", b"AUDIO")),
    "json field 11": (FILE_NAME, heard("recording.webm", "audio/webm", bytes(range(6)))),
    "json field 12": (FILE_NAME, heard("recording.webm", "audio/webm", bytes(range(6)))),
    "json field 13": (FILE_NAME, heard("recording.webm", "audio/webm", bytes(range(6)))),
    "json field 14": (FILE_NAME, heard("recording.webm", "audio/webm", bytes(range(6)))),
    "form header 7": (DISK_PATH, heard("a.webm", "audio/webm", b"X")),
    "form header 11": (EXTENDED_NAME, invalid(NO_FILE)),
    "form data 9": (ENCODING, heard("speech.webm", "audio/webm", b"ABC")),
    "form data 10": (ENCODING, invalid(NOT_BASE64)),
    "service 27": (TOO_SHORT, failure("audio_too_short")),
    "service 28": (TOO_SHORT, failure("audio_too_short")),
    "service 36": (NO_TEXT, failure("provider_error")),
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_each_vector_is_answered_as_recorded(case: Case) -> None:
    request, expected = case["request"], case["expect"]
    body = request["body"].encode() if "body" in request else b""
    if "body_base64" in request:
        body = base64.b64decode(request["body_base64"])
    client = Client(runtime(scripted(case["service"]), case["mode"]))
    answer = client.request(
        request["method"], BASE + request["path"], headers=request["headers"], body=body
    )
    recorded = expected["status"], expected["body"]
    if case["name"] in ACCEPTED_DIFFERENCES:
        _, instead = ACCEPTED_DIFFERENCES[case["name"]]
        assert instead != recorded, "this is no difference"
        recorded = instead
    assert told(answer) == recorded
    headers = {name: answer.headers.get(name) for name in ("content-type", "allow")}
    assert headers == {"content-type": None, "allow": None, **expected["headers"]}


def scripted(script: dict[str, Any] | None) -> TranscriptionService | None:
    """The fake service of a vector."""
    if script is None:
        return None

    async def service(audio: AudioFile) -> str:
        if "raises" in script:
            raise error_of(**script["raises"])
        return str(script.get("returns", echo(audio)))

    return service


def error_of(name: str, message: str) -> Exception:
    error: Exception = type(name, (Exception,), {})(message)
    return error


# --- The service ------------------------------------------------------------------------------


class TestService:
    def test_a_service_may_be_plain_async_or_an_object(self) -> None:
        async def later(audio: AudioFile) -> str:
            return echo(audio)

        class Whisper:
            def __call__(self, audio: AudioFile) -> str:
                return echo(audio)

        for service in (echo, later, Whisper()):
            answer = post_json(RECORDING, service)
            assert told(answer) == heard("recording.webm", "audio/webm", b"\0\1\2")

    def test_the_core_never_calls_a_service(self) -> None:
        request = Request("POST", f"{BASE}/transcribe", headers=JSON)
        exchange = runtime(echo).exchange(request, 0.0)
        assert isinstance(exchange.start(), ReadBody)
        action = exchange.done(json.dumps(RECORDING).encode())
        audio = AudioFile(b"\0\1\2", "recording.webm", "audio/webm")
        assert action == Call(echo, (audio,), "the transcription service", part="service")

    def test_a_client_that_leaves_meanwhile_is_no_failure(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        request = Request("POST", f"{BASE}/transcribe", headers=JSON)
        exchange = runtime(echo).exchange(request, 0.0)
        exchange.start()
        exchange.done(json.dumps(RECORDING).encode())
        assert exchange.client_gone() == Abandon()
        assert caplog.records == []

    @pytest.mark.parametrize("service", ["whisper", 5, {}, object()])
    def test_a_service_that_cannot_be_called_is_refused(self, service: Any) -> None:
        with pytest.raises(TypeError, match=r"transcription is a function of an AudioFile, not "):
            runtime(service)

    @pytest.mark.parametrize("returned", [None, b"text", 5, {"text": "x"}])
    def test_a_result_that_is_not_text_is_a_failure_like_any_other(
        self, returned: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        answer = post_json(RECORDING, lambda audio: returned)
        assert answer.status == 500
        assert answer.json()["error"] == "provider_error"
        assert f"returned {type(returned).__name__}, expected str" in caplog.text

    def test_a_subclass_of_str_is_text(self) -> None:
        class Text(str):
            __slots__ = ()

        assert post_json(RECORDING, lambda audio: Text("hello")).json()["text"] == "hello"

    def test_info_tells_whether_there_is_a_service(self) -> None:
        for service, enabled in ((echo, True), (None, False)):
            info = Client(runtime(service)).get(f"{BASE}/info").json()
            assert info["audioFileTranscriptionEnabled"] is enabled

    def test_the_body_does_not_matter_without_a_service(self) -> None:
        assert told(post_form(b"nonsense", None)) == failure("service_not_configured")

    def test_a_service_may_reject_as_a_hook_may(self) -> None:
        def service(audio: AudioFile) -> str:
            raise Reject(Response.json({"error": "out of credit"}, 402))

        assert told(post_json(RECORDING, service)) == (402, {"error": "out of credit"})

    def test_a_body_over_the_limit_does_not_reach_the_service(self) -> None:
        limits = Limits(body_bytes=100)
        assert post_json({**RECORDING, "audio": "A" * 100}, limits=limits).status == 413

    def test_hooks_see_the_answers(self) -> None:
        seen: list[tuple[str, int]] = []

        def on_response(context: Any) -> None:
            seen.append((context.route.name, context.response.status))

        hooks = Hooks(on_response=on_response)
        post_json(RECORDING, hooks=hooks)
        post_json({}, hooks=hooks)
        assert seen == [("transcribe", 200), ("transcribe", 400)]


class TestAudioFile:
    def test_the_repr_of_an_audio_file_has_no_audio(self) -> None:
        audio = AudioFile(b"secret", "a.webm", "audio/webm")
        assert repr(audio) == "AudioFile(filename='a.webm', mime_type='audio/webm')"
        assert audio.size == 6

    def test_an_audio_file_is_frozen(self) -> None:
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            AudioFile(b"", "", "").data = b"x"  # type: ignore[misc]


# --- Errors -----------------------------------------------------------------------------------


class TestErrors:
    def test_the_table_has_every_code(self) -> None:
        assert set(ERRORS) == set(get_args(ErrorCode))
        assert {code for code, kind in ERRORS.items() if kind.retryable} == {
            "rate_limited",
            "provider_error",
            "network_error",
        }

    @pytest.mark.parametrize("code", list(ERRORS))
    def test_a_service_picks_the_answer(self, code: ErrorCode) -> None:
        def with_its_text(audio: AudioFile) -> str:
            raise TranscriptionError(code)

        def with_another(audio: AudioFile) -> str:
            raise TranscriptionError(code, "429 too long")

        assert told(post_json(RECORDING, with_its_text)) == failure(code)
        assert told(post_json(RECORDING, with_another)) == failure(code, "429 too long")

    def test_a_subclass_of_an_error_picks_the_answer_as_well(self) -> None:
        class Silent(TranscriptionError):
            def __init__(self) -> None:
                super().__init__("audio_too_short", "Nobody spoke")

        async def service(audio: AudioFile) -> str:
            raise Silent

        assert told(post_json(RECORDING, service)) == failure("audio_too_short", "Nobody spoke")

    def test_the_message_of_an_error_may_be_empty(self) -> None:
        assert TranscriptionError("provider_error", "").message == ""

    def test_an_unknown_code_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"code is one of .*, not 'too_loud'"):
            TranscriptionError("too_loud")  # type: ignore[arg-type]

    def test_an_error_leaves_a_process_pool_as_it_was(self) -> None:
        error = pickle.loads(pickle.dumps(TranscriptionError("network_error", "no route")))
        assert (error.code, error.message, str(error)) == ("network_error", "no route", "no route")

    @pytest.mark.parametrize(
        "error", [ConnectionResetError("rate"), ConnectionError("10.0.0.5"), TimeoutError("401")]
    )
    def test_a_connection_that_fails_is_told_by_its_type(self, error: Exception) -> None:
        def service(audio: AudioFile) -> str:
            raise error

        assert told(post_json(RECORDING, service)) == failure("network_error")

    @pytest.mark.parametrize(
        ("text", "code"),
        [
            ("too short, and too long", "audio_too_short"),
            ("rate: too short", "rate_limited"),
            ("auth: too short", "auth_failed"),
            ("boom", "provider_error"),
        ],
    )
    def test_the_first_sign_decides(self, text: str, code: str) -> None:
        assert classify(ValueError(text)).code == code

    def test_only_a_message_that_no_sign_fits_is_repeated(self) -> None:
        def service(audio: AudioFile) -> str:
            try:
                raise KeyError("the cause")
            except KeyError as cause:
                raise error_of("VendorFault", "socket hang up") from cause

        answer = post_json(RECORDING, service)
        assert told(answer) == failure("provider_error", "socket hang up")
        assert b"VendorFault" not in answer.body
        assert b"sk-1" not in post_json(RECORDING, raising("Bad API key sk-1")).body

    def test_failures_are_logged_without_the_audio(self, caplog: pytest.LogCaptureFixture) -> None:
        recording = {**RECORDING, "audio": "U0VDUkVU", "filename": "diary.webm"}
        post_json(recording, raising("boom"))
        post_json(recording, raising("too short"))
        assert [(record.name, record.levelno, record.message) for record in caplog.records] == [
            (
                "sansio_copilot.endpoints.transcribe",
                logging.ERROR,
                "transcribing 6 bytes: provider_error",
            ),
            (
                "sansio_copilot.endpoints.transcribe",
                logging.WARNING,
                "transcribing 6 bytes: audio_too_short",
            ),
        ]
        assert "boom" in caplog.text
        for private in ("SECRET", "U0VDUkVU", "diary"):
            assert private not in caplog.text


def raising(message: str) -> Callable[[AudioFile], str]:
    def service(audio: AudioFile) -> str:
        raise RuntimeError(message)

    return service


# --- JSON -------------------------------------------------------------------------------------


class TestJson:
    @pytest.mark.parametrize("mime_type", AUDIO_TYPES)
    def test_every_type_that_an_error_lists_is_taken(self, mime_type: str) -> None:
        answer = post_json({"audio": "AAEC", "mimeType": f"{mime_type}; Rate=1"})
        assert told(answer) == heard("recording.webm", f"{mime_type}; rate=1", b"\0\1\2")

    def test_the_error_of_a_type_lists_what_there_is(self) -> None:
        supported = ", ".join(AUDIO_TYPES)
        assert told(post_json({"audio": "AAEC", "mimeType": "video/mp4"})) == failure(
            "invalid_audio_format", f"Unsupported audio format: video/mp4. Supported: {supported}"
        )

    def test_nesting_without_end_is_not_json(self) -> None:
        answer = Client(runtime()).request(
            "POST", f"{BASE}/transcribe", headers=JSON, body=b"[" * 100_000
        )
        assert told(answer) == invalid("Request body must be valid JSON")

    def test_a_long_recording_is_read(self) -> None:
        data = bytes(range(256)) * 4096
        audio = "data:audio/webm;base64," + base64.b64encode(data).decode()
        answer = post_json({"audio": audio, "mimeType": "audio/webm"})
        assert told(answer) == heard("recording.webm", "audio/webm", data)

    @given(st.binary(max_size=64))
    def test_any_body_is_answered(self, body: bytes) -> None:
        answer = Client(runtime()).request("POST", f"{BASE}/transcribe", headers=JSON, body=body)
        assert answer.status == 400
        assert answer.json()["error"] == "invalid_request"

    @given(st.dictionaries(st.sampled_from(["audio", "mimeType", "filename"]), st.text()))
    @example({"audio": "AAEC", "mimeType": "audio/webm", "filename": "\ud800"})
    @example({"audio": "AAEC", "mimeType": "\ud800"})
    def test_any_fields_are_answered(self, fields: dict[str, str]) -> None:
        assert post_json(fields).status in (200, 400)


class TestBase64:
    @given(st.binary(), st.booleans(), st.integers(min_value=1, max_value=76))
    def test_text_that_any_encoder_wrote_is_read(
        self, data: bytes, padded: bool, width: int
    ) -> None:
        text = base64.b64encode(data).decode()
        if not padded:
            text = text.rstrip("=")
        lines = "\r\n".join(text[at : at + width] for at in range(0, len(text), width))
        assert decode_base64(lines) == data

    @given(st.text(alphabet="AQz09+/= \t\n", max_size=12))
    def test_base64_is_read_as_the_specification_has_it(self, text: str) -> None:
        # The steps are those of WHATWG Infra, "forgiving-base64 decode", bit by bit, so that the
        # test shares no code with what it tests.
        digits = "".join(text.split())
        if len(digits) % 4 == 0:
            for _ in range(2):
                digits = digits.removesuffix("=")
        if len(digits) % 4 == 1 or "=" in digits:
            with pytest.raises(ValueError):
                decode_base64(text)
            return
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        bits = "".join(f"{alphabet.index(digit):06b}" for digit in digits)
        whole = len(bits) // 8
        assert decode_base64(text) == bytes(int(bits[8 * n : 8 * n + 8], 2) for n in range(whole))

    @pytest.mark.parametrize("text", ["QUJ\vD", "QUJ\xa0D", "QU-_", "QUJ\ud800", "Q", "=", "A=B="])
    def test_text_that_is_not_base64_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError):
            decode_base64(text)


# --- multipart/form-data ----------------------------------------------------------------------


class TestForm:
    @given(st.binary())
    @example(b"\r\n")
    @example(b"\r\n--" + BOUNDARY.encode()[:-1])
    @example(b"\r\n--" + BOUNDARY.encode() + b"x")
    @example(b"\r\n--" + BOUNDARY.encode() + b"-x")
    @example(b"\r\n--" + BOUNDARY.encode() + b"\rx")
    @example(b"\r\n--" + BOUNDARY.encode()[:-1] + b"\r\n--" + BOUNDARY.encode()[:-1])
    @example(BOUNDARY.encode())
    def test_any_recording_arrives_as_it_was(self, data: bytes) -> None:
        assert told(post_form(audio_part(data) + END)) == heard("a.wav", "audio/wav", data)

    @given(st.binary())
    def test_any_body_is_answered(self, body: bytes) -> None:
        answer = post_form(body)
        assert answer.status == 400
        assert answer.json()["error"] == "invalid_request"

    @given(st.data())
    def test_a_damaged_form_is_answered(self, data: st.DataObject) -> None:
        whole = form_part(b"de", b'Content-Disposition: form-data; name="language"')
        whole += audio_part(b"AUDIO") + END
        start = data.draw(st.integers(0, len(whole)))
        end = data.draw(st.integers(start, len(whole)))
        answer = post_form(whole[:start] + data.draw(st.binary(max_size=4)) + whole[end:])
        assert answer.status in (200, 400)

    @given(st.text(alphabet=st.characters(max_codepoint=0xFF)))
    @example("multipart/form-data; boundary=\u20ac")
    @example('multipart/form-data; boundary="')
    @example("text/plain, multipart/form-data; boundary=----boundary")
    def test_any_content_type_is_answered(self, content_type: str) -> None:
        for text in (content_type, f"multipart/form-data;{content_type}"):
            answer = Client(runtime()).request(
                "POST", f"{BASE}/transcribe", headers={"content-type": text}, body=END
            )
            assert answer.status == 400

    def test_a_content_type_beyond_latin_1_is_answered(self) -> None:
        answer = Client(runtime()).request(
            "POST",
            f"{BASE}/transcribe",
            headers={"content-type": "multipart/form-data; boundary=\u20ac"},
            body=END,
        )
        assert told(answer) == invalid("Content-Type must be ASCII")

    def test_a_part_cut_short_is_not_transcribed(self) -> None:
        whole = audio_part(b"AUDIO") + END
        for length in range(len(whole) - len(b"--\r\n") + 1):
            assert post_form(whole[:length], raising("called")).status == 400

    @pytest.mark.parametrize("extra", [1, 7, 50])
    def test_headers_of_a_part_are_bounded(self, extra: int) -> None:
        headers = [b"X-%d: y" % number for number in range(extra)]
        disposition = b'Content-Disposition: form-data; name="audio"; filename="a.wav"'
        body = form_part(b"X", disposition, *headers) + END
        # The default type, text/plain, would be an invalid_audio_format.
        expected = "invalid_request" if extra > 7 else "invalid_audio_format"
        assert post_form(body).json()["error"] == expected

    @pytest.mark.parametrize("name", [b"x", b"x" * 4000, b'x"; a="b' * 500])
    def test_the_headers_of_all_parts_together_are_bounded(self, name: bytes) -> None:
        header = b'Content-Disposition: form-data; name="%s"' % name
        field = form_part(b"", header)
        audio = b'Content-Disposition: form-data; name="audio"; filename="a.wav"'
        recording = form_part(b"X", audio, b"Content-Type: audio/wav")
        left = 64 * 1024 - len(audio + b"Content-Type: audio/wav") + 2 * len(b": ")
        fields, _ = divmod(left, len(header) - len(b": "))
        answer = post_form(field * fields + recording + END)
        assert told(answer) == heard("a.wav", "audio/wav", b"X")
        answer = post_form(field * (fields + 1) + recording + END)
        assert told(answer) == invalid(
            "The parts of a form must not have more than 65536 bytes of headers"
        )

    def test_the_last_of_a_repeated_header_counts(self) -> None:
        disposition = b'Content-Disposition: form-data; name="audio"; filename="a.wav"'
        types = b"Content-Type: text/plain", b"content-type: audio/wav"
        body = form_part(b"X", disposition, *types) + END
        assert told(post_form(body)) == heard("a.wav", "audio/wav", b"X")

    def test_a_name_that_is_escaped_is_read(self) -> None:
        for name in (b"audio%0a", b"audio%22"):
            disposition = b'Content-Disposition: form-data; name="%s"; filename="a"' % name
            assert told(post_form(form_part(b"X", disposition) + END)) == invalid(NO_FILE)

    def test_a_file_without_a_name_of_a_known_type_keeps_none(self) -> None:
        body = audio_part(b"X", filename=b"") + END
        assert told(post_form(body)) == heard("", "audio/wav", b"X")

    def test_other_parts_are_not_kept(self) -> None:
        other = form_part(b"y" * 1000, b'Content-Disposition: form-data; name="notes"')
        request = Request("POST", "/", headers=FORM, body=other + audio_part(b"X") + other + END)
        assert read_audio(request, 100) == AudioFile(b"X", "a.wav", "audio/wav")

    def test_a_body_that_was_not_sent_is_answered(self) -> None:
        with pytest.raises(TranscriptionError, match="ends before"):
            read_audio(Request("POST", "/", headers=FORM), 100)
