"""A complete binding in a hundred lines and some, for the I/O library in toy_io.py."""

import asyncio
import contextlib
import logging
import time
from functools import partial

import toy_io

from sansio_copilot import BodyTooLarge, Request, RunRefused, actions


async def serve(runtime, host, port):
    homes = Homes()
    try:
        await life(runtime.on_start)
        await toy_io.serve(host, port, partial(answer, runtime, homes), homes.close)
    finally:
        await life(runtime.on_close)


async def life(function):
    if function is not None:
        await call(actions.Call(function))


async def answer(runtime, homes, http):
    # A task has a copy of the context: what a hook sets there, its own exchange sees and no other.
    await asyncio.create_task(drive(runtime, homes, http))


async def drive(runtime, homes, http):
    exchange = runtime.exchange(Request.from_target(*http.request), time.time())
    action = exchange.start()
    while not isinstance(action, actions.Finish | actions.Abandon):
        try:
            outcome = await perform(action, homes, http)
        except toy_io.Disconnected:
            action = exchange.client_gone()
        except Exception as error:
            action = exchange.failed(error)
        else:
            action = exchange.done(outcome)
    await http.end(complete=isinstance(action, actions.Finish))


async def perform(action, homes, http):
    match action:
        case actions.ReadBody(limit=limit):
            body = await http.read_body(limit + 1)
            if len(body) > limit:
                raise BodyTooLarge
            return body
        case actions.Call():
            return await call(action)
        case actions.StartRun(run=run):
            return homes.start(run)
        case actions.SendHead(status=status, headers=headers):
            return await http.send_head(status, headers)
        case actions.SendBytes(data=data):
            return await http.send_body(data)
        case actions.WaitForFrames(store=store, cursor=cursor, timeout=timeout):
            news = toy_io.Mailbox()
            unwatch = store.watch(cursor, partial(news.put, True))
            there = await news.get(timeout)
            unwatch()
            return there is not None


async def call(action):
    if isinstance(action, actions.StoreCall) and action.blocking:
        return await toy_io.in_thread(action.function, *action.args)
    return await toy_io.settled(action.function(*action.args))


async def performed(steps):
    with contextlib.suppress(StopIteration):
        action = next(steps)
        while True:
            try:
                outcome = await call(action)
            except Exception as error:
                action = steps.throw(error)
            else:
                action = steps.send(outcome)


class Homes(set):
    closing = False

    def start(self, run):
        if self.closing:
            raise RunRefused("The server is shutting down")
        self.add(home := Home(run))
        home.task.add_done_callback(lambda _: self.discard(home))

    async def close(self):
        self.closing = True
        for home in self:
            home.inbox.put(lambda run=home.run: run.interrupt(time.time(), "Shutting down"))
        await asyncio.gather(*(home.task for home in self))


class Home:
    """The home of a run: a task that talks to the run, and one that pulls its agent."""

    def __init__(self, run):
        self.run, self.inbox, self.taken = run, toy_io.Mailbox(), asyncio.Semaphore(0)
        self.over, self.timer, self.task = False, None, asyncio.create_task(self.live())

    async def live(self):
        run, inbox = self.run, self.inbox
        action = await self.store(run.start(time.time()))
        signalled = lambda signal: inbox.put(lambda: run.signalled(signal, time.time()))  # noqa: E731
        unwatch = run.store.watch_run(run.key, signalled)
        if run.audience:
            run.audience.on_empty = partial(inbox.put, self.left_alone)
            self.left_alone()
        agent = asyncio.create_task(self.pull())
        while not self.over:
            due = run.settle if action.patience else run.flush if action.flush else None
            tell = await inbox.get(action.patience or action.flush or (run.lease and run.lease / 3))
            if tell is None:
                tell = partial(due, time.time()) if due else run.check
            action = await self.store(tell()) or action
            self.over = isinstance(action, actions.RunOver)
            self.taken.release()
        unwatch()
        if action.agent == "cancel":
            agent.cancel()
        if action.call:
            try:
                await call(action.call)
            except Exception:
                logging.exception("%s failed", action.call.name)
        await asyncio.wait([agent])
        await performed(run.farewell())

    def left_alone(self):
        if self.timer:
            self.timer.cancel()
        loop, abandon = asyncio.get_running_loop(), lambda: self.run.abandon(time.time())
        self.timer = loop.call_later(self.run.abandon_seconds, self.inbox.put, abandon)

    async def store(self, action):
        while isinstance(action, actions.StoreCall | actions.Pause):
            if isinstance(action, actions.Pause):
                await asyncio.sleep(action.seconds)
                action = self.run.resume(time.time())
                continue
            try:
                outcome = await call(action)
            except Exception as error:
                action = self.run.store_failed(error, time.time())
            else:
                action = self.run.stored(outcome, time.time())
        return action

    async def pull(self):
        failure = None
        try:
            async for event in toy_io.pulled(await toy_io.settled(self.run.events())):
                if not self.over:
                    self.inbox.put(partial(self.run.event, event, time.time()))
                    await self.taken.acquire()
        except BaseException as error:  # a SystemExit or cancellation too is the agent's own
            failure = error
        self.inbox.put(partial(self.run.agent_ended, time.time(), failure))
