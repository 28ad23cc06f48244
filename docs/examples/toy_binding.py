"""A complete binding in under a hundred lines, for the I/O library in toy_io.py."""

import asyncio
import inspect
import time
from functools import partial

import toy_io

from sansio_copilot import BodyTooLarge, Request, RunRefused
from sansio_copilot.actions import (
    Abandon, Call, Finish, ReadBody, RunOver, SendBytes, SendHead, StartRun, StoreCall,
    WaitForFrames,
)  # fmt: skip


class Binding:
    def __init__(self, runtime):
        self.runtime, self.homes, self.closing = runtime, set(), False

    async def serve(self, host, port):
        self.loop = asyncio.get_running_loop()
        await toy_io.serve(host, port, self.answer, self.close)

    def answer(self, http):  # in the thread of a connection
        request = Request.from_target(http.method, http.target, http.headers)
        exchange = self.runtime.exchange(request, time.time())
        action = exchange.start()
        while not isinstance(action, Finish | Abandon):
            try:
                outcome = self.perform(http, action)
            except toy_io.Disconnected:
                action = exchange.client_gone()
            except Exception as error:
                action = exchange.failed(error)
            else:
                action = exchange.done(outcome)
        if isinstance(action, Abandon):
            raise toy_io.Disconnected
        http.end()

    def perform(self, http, action):
        match action:
            case ReadBody(limit=limit):
                body = b""
                for data in http.read_body():
                    if len(body := body + data) > limit:
                        raise BodyTooLarge
                return body
            case SendHead(status=status, headers=headers):
                return http.send_head(status, headers)
            case SendBytes(data=data):
                return http.send_body(data)
        # A MemoryStore is not for several threads, so all calls are made in that of the loop.
        work = self.perform_in_loop(action)
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    async def perform_in_loop(self, action):
        match action:
            case Call():
                return await call(action)
            case StartRun(run=run):
                if self.closing:
                    raise RunRefused("The server is shutting down")
                home = Home(run)
                self.homes.add(home)
                home.task.add_done_callback(lambda _: self.homes.discard(home))
            case WaitForFrames(store=store, cursor=cursor, timeout=timeout):
                news = asyncio.Event()
                unwatch = store.watch(cursor, partial(self.loop.call_soon_threadsafe, news.set))
                try:
                    return await asyncio.wait_for(news.wait(), timeout)
                except TimeoutError:
                    return False
                finally:
                    unwatch()

    async def close(self):
        self.closing = True
        for home in self.homes:
            home.tell(home.run.interrupt, time.time(), "The server is shutting down")
        await asyncio.gather(*(home.task for home in self.homes))


async def call(action):
    if isinstance(action, StoreCall) and action.blocking:
        return await toy_io.in_thread(action.function, *action.args)
    outcome = action.function(*action.args)
    return await outcome if inspect.isawaitable(outcome) else outcome


class Home:
    """Where a run lives: a task, and another that pulls the agent."""

    def __init__(self, run):
        self.run, self.inbox, self.taken, self.over = run, asyncio.Queue(), asyncio.Event(), False
        self.task = asyncio.create_task(self.main())

    def tell(self, call, *args):
        self.inbox.put_nowait(partial(call, *args))

    async def main(self):
        run, loop = self.run, asyncio.get_running_loop()
        action = await self.stored(run.start(time.time()))
        notify = partial(loop.call_soon_threadsafe, self.tell, run.check)
        unwatch = run.store.watch_run(run.key, notify)
        agent = asyncio.create_task(self.pull())
        while not isinstance(action, RunOver):
            seconds = action.patience or (run.lease and run.lease / 3)
            try:
                told = await asyncio.wait_for(self.inbox.get(), seconds)
            except TimeoutError:
                told = partial(run.settle, time.time()) if action.patience else run.check
            action = await self.stored(told())
            self.taken.set()
        unwatch()
        self.over = True
        if action.agent == "cancel":
            agent.cancel()
        await asyncio.wait([agent])

    async def stored(self, action):
        ...
