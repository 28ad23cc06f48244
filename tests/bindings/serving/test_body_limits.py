"""Request bodies take memory while they arrive, all together, and give it back."""

from __future__ import annotations

import json
import threading
import tracemalloc
from collections.abc import Iterator

import pytest
from support.driver import BASE, Driver, make_runtime
from support.hostile_requests import responses

from copilot_bindings.http1.wants import Receive
from copilot_bindings.serving.body_limits import Bodies, Body
from sansio_copilot import BodyRefused, BodyTooLarge, Limits
from sansio_copilot.actions import WaitForFrames
from sansio_copilot.testing import run_input

MB = 1024**2
SIZE = 8 * MB
PIECE = 64 * 1024
LIMITS = Limits(body_bytes=SIZE, bodies_bytes=2 * SIZE)
RUN = f"POST {BASE}/agent/default/run HTTP/1.1\r\nhost: x\r\n".encode()
FRAMINGS = ["length", "length, by h11", "chunked"]


def upload(framing: str, size: int = SIZE) -> Iterator[bytes]:
    """The head of a run, and then its body of so many bytes in pieces."""
    if framing == "chunked":
        yield RUN + b"transfer-encoding: chunked\r\n\r\n"
    else:
        fields = b"expect: 100-continue\r\n" if framing.endswith("h11") else b""
        yield RUN + fields + b"content-length: %d\r\n\r\n" % size
    for at in range(0, size, PIECE):
        piece = b" " * min(PIECE, size - at)
        if at + PIECE >= size:
            end = json.dumps(run_input("t")).encode()
            piece = piece[len(end) :] + end
        yield b"%x\r\n%b\r\n" % (len(piece), piece) if framing == "chunked" else piece
    if framing == "chunked":
        yield b"0\r\n\r\n"


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


class TestMemory:
    @pytest.mark.parametrize("framing", FRAMINGS)
    def test_a_body_is_held_once_and_by_no_stream(self, framing: str, traced: None) -> None:
        driver = Driver(make_runtime(limits=LIMITS))
        before, _ = tracemalloc.get_traced_memory()
        for piece in upload(framing):
            driver.feed(piece)
        held, most = tracemalloc.get_traced_memory()
        assert isinstance(driver.want, WaitForFrames)
        assert SIZE < most - before < 1.25 * SIZE
        assert held - before < MB
        assert driver.bodies.room == LIMITS.bodies_bytes

    @pytest.mark.parametrize("framing", FRAMINGS)
    def test_half_a_body_is_held_once_and_goes_with_its_client(
        self, framing: str, traced: None
    ) -> None:
        driver = Driver(make_runtime(limits=LIMITS))
        before, _ = tracemalloc.get_traced_memory()
        pieces = list(upload(framing, SIZE))[: SIZE // PIECE // 2]
        sent = sum(map(len, pieces))
        for _ in range(len(pieces)):
            driver.feed(pieces.pop(0))
        held, _ = tracemalloc.get_traced_memory()
        # The pieces were there before.
        assert isinstance(driver.want, Receive)
        assert held - before < 1.25 * sent
        assert LIMITS.bodies_bytes - sent < driver.bodies.room < LIMITS.bodies_bytes - 0.95 * sent
        driver.feed(b"")
        assert driver.closed
        held, _ = tracemalloc.get_traced_memory()
        assert held - before < MB
        assert driver.bodies.room == LIMITS.bodies_bytes


class TestRoom:
    """Bodies that are held at once, by several connections."""

    @pytest.fixture
    def bodies(self) -> Bodies:
        return Bodies(LIMITS)

    def driver(self, bodies: Bodies) -> Driver:
        driver = Driver(make_runtime(limits=LIMITS))
        driver.bodies = driver.service.bodies = bodies
        return driver

    @pytest.mark.parametrize("framing", FRAMINGS)
    def test_a_body_that_there_is_no_room_for_is_refused(
        self, bodies: Bodies, framing: str
    ) -> None:
        uploads = [list(upload(framing)) for _ in range(2)]
        holding = [self.driver(bodies).feed(*pieces[:-2]) for pieces in uploads]
        refused = self.driver(bodies).feed(*upload(framing, 5 * PIECE))
        [answer] = responses(bytes(refused.sent))
        assert (answer.status, answer.closes) == (503, True)
        assert b"\r\nretry-after: 1\r\n" in refused.sent
        assert b"\r\naccess-control-allow-origin: *\r\n" in refused.sent
        for driver, pieces in zip(holding, uploads, strict=True):
            assert driver.feed(*pieces[-2:]).run().statuses == [200]
        assert self.driver(bodies).feed(*upload(framing)).run().statuses == [200]
        assert bodies.room == LIMITS.bodies_bytes

    def test_a_body_that_is_announced_is_refused_before_it_is_sent(self, bodies: Bodies) -> None:
        holding = [self.driver(bodies).feed(*list(upload("length"))[:-1])]
        for framing in ("length", "length, by h11"):
            announcing = self.driver(bodies).feed(next(upload(framing)))
            assert b" 503 " not in announcing.sent
        holding.append(self.driver(bodies).feed(*list(upload("length"))[:-1]))
        for framing in ("length", "length, by h11"):
            refused = self.driver(bodies).feed(next(upload(framing)))
            assert refused.statuses == [503]
            assert b" 100 Continue" not in refused.sent
        for driver in holding:
            driver.feed(b"")
        assert bodies.room == LIMITS.bodies_bytes

    def test_one_body_may_be_as_long_as_the_limit_of_one(self) -> None:
        limits = Limits(body_bytes=SIZE, bodies_bytes=10)
        driver = Driver(make_runtime(limits=limits)).feed(*upload("length"))
        assert driver.run().statuses == [200]
        assert driver.bodies.room == SIZE

    def test_the_room_is_whole_whoever_takes_and_gives_back(self) -> None:
        bodies = Bodies(Limits(body_bytes=10, bodies_bytes=100))

        def use() -> None:
            for _ in range(2000):
                body = Body(bodies, 10)
                body.add(b"12345")
                body.add(b"67890")
                assert body.whole() == b"1234567890"
                body.release()
                body.release()

        threads = [threading.Thread(target=use) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert bodies.room == 100

    def test_a_body_keeps_to_its_limit(self, bodies: Bodies) -> None:
        body = Body(bodies, 10)
        body.expect(10)
        with pytest.raises(BodyTooLarge):
            body.expect(11)
        body.add(b"12345678")
        body.expect(2)
        with pytest.raises(BodyTooLarge):
            body.expect(3)
        with pytest.raises(BodyTooLarge):
            body.add(b"123")
        with pytest.raises(BodyTooLarge):
            body.reserve(3)
        body.reserve(2)
        assert bodies.room == LIMITS.bodies_bytes - 10
        body.release()
        with pytest.raises(BodyRefused):
            Body(bodies, 10**9).expect(LIMITS.bodies_bytes + 1)
        assert bodies.room == LIMITS.bodies_bytes
