"""The keys of a thread, and the functions in Lua that the scripts share (:mod:`.scripts`).

All keys of a thread begin with the same name, which has braces, so that a cluster keeps them
together (Redis Cluster specification, "Hash tags"). Each script is given that name, and derives the
other keys from it:

=========== =======================================================================================
``T``       hash of the thread: ``id owner agent created updated name archived runs last messages
            state waits version``, ``busy`` while a run of it is open, ``bound``: the last run in a
            volume
``T:runs``  sorted set of the numbers of its runs, open ones and history
``T:open``  sorted set of those that are open
``T:ids``   hash: how many runs of the history have a message of that id
``T:r:N``   hash of a run: ``run agent state proc lease stop sealable opened size ids ended
            messages json waits detached``. ``state`` is 0 while it is open, 1 as history, 2 if it
            left nothing. ``lease`` is when it runs out, in milliseconds of the server's clock.
            ``vol at upto``, if it is bound: in which volume, and where it begins and ends there
``T:l:N``   string: its frames as they were appended
``T:h:N``   string: its compacted frames; of an open run, what it would leave; of a volume, the
            compacted frames of all runs that are bound in it
``T:vols``  sorted set of the numbers of the thread's volumes
``T:v:N``   string: the numbers of the runs that are bound in a volume
=========== =======================================================================================

The oldest runs of a long history are bound into volumes, of many runs each, because a key costs as
much to read as kilobytes. No loose run is older than a bound one, so that volumes followed by loose
runs are the history.

Keys are removed by an expiry that Redis itself keeps: raw frames that need not be resumable any
more, and runs of threads that were deleted while somebody read them.

The keys of a store have a version (:data:`VERSION`), and each thread has its own, which is that of
the process that has opened or ended a run of the thread last. A script refuses a thread of a newer
version before it has read or changed anything else.

Messages for the readers of a run are published on ``T:n:N``: ``a<at>:<bytes>`` for appended frames,
``s<size>`` if these are too long to be sent twice, ``e<size>`` at the end of the run, ``g`` if it
is gone. Messages for an owner are published on the channel of its process: ``T N`` and the signal.
Both kinds may be lost.
"""

from __future__ import annotations

import re

import attrs

from ..compacted_frames import VOLUME_BYTES, VOLUME_RUNS

LONGEST_MESSAGE = 32 * 1024
"""The most bytes of frames that a notification carries."""
FIRST_VOLUME = 4 * 10**15
"""The number of a volume is this number plus the time at which it was bound. The numbers of runs,
which are times in microseconds, stay below it until the year 2096; all of these numbers are exact
as scores (2^53).
"""
VERSION = 2
"""The version of the keys' format. Threads of version 1 carry no version, and have no volumes; they
need not be changed. A version that has to change a thread's keys does so where it sets the thread's
version.
"""
NEWER = "NEWER"
"""The word with which the error of a script begins that meets a newer version; the version
follows."""

TAKE_VERSION = """
local version = tonumber(redis.call('GET', KEYS[1]) or '0')
if version < VERSION then redis.call('SET', KEYS[1], VERSION) end
return version
""".replace("VERSION", str(VERSION))
"""The script that returns the version of a store's keys, and sets it to this version if it is
older. It is a script of its own, because the scripts of threads see only the keys of a thread.
"""

_LIBRARY = """
local T = KEYS[1]
local version, this_version = redis.call('HGET', T, 'version'), VERSION
if version and tonumber(version) > this_version then return {err = 'NEWER ' .. version} end
local function now()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
local function rk(n) return T .. ':r:' .. n end
local function lk(n) return T .. ':l:' .. n end
local function hk(n) return T .. ':h:' .. n end
local function tell(n, proc, signal)
  if proc and proc ~= '' then
    redis.call('PUBLISH', ARGV[1] .. proc, n .. ' ' .. signal .. ' ' .. T)
  end
end
local function news(n, message) redis.call('PUBLISH', T .. ':n:' .. n, message) end
local function unpacked(ids)
  local found, at = {}, 1
  while at <= #ids do
    local colon = string.find(ids, ':', at, true)
    local length = tonumber(string.sub(ids, at, colon - 1))
    found[#found + 1] = string.sub(ids, colon + 1, colon + length)
    at = colon + length + 1
  end
  return found
end
local function drop_ids(n)
  local ids = redis.call('HGET', rk(n), 'ids')
  if ids and ids ~= '' then
    for _, id in ipairs(unpacked(ids)) do
      if redis.call('HINCRBY', T .. ':ids', id, -1) <= 0 then
        redis.call('HDEL', T .. ':ids', id)
      end
    end
  end
end
local function withdraw(n)
  redis.call('DEL', hk(n))
  redis.call('HDEL', rk(n), 'ids', 'ended', 'messages', 'json', 'waits')
  redis.call('HSET', rk(n), 'sealable', '0')
end
-- A result comes as seven arguments from index i on: a flag, frames, messages, state, ids, ended_at
-- and what is waited for.
local function add_result(n, i)
  redis.call('SET', hk(n), ARGV[i + 1])
  redis.call('HSET', rk(n), 'sealable', '1', 'ids', ARGV[i + 4], 'ended', ARGV[i + 5])
  redis.call('HDEL', rk(n), 'messages', 'json', 'waits')
  if ARGV[i + 2] ~= '' then redis.call('HSET', rk(n), 'messages', ARGV[i + 2]) end
  if ARGV[i + 3] ~= '' then redis.call('HSET', rk(n), 'json', ARGV[i + 3]) end
  if ARGV[i + 6] ~= '' then redis.call('HSET', rk(n), 'waits', ARGV[i + 6]) end
end
local function add(n, at, frames)
  local size = redis.call('STRLEN', lk(n))
  if at > size then return -1, size end
  if at < size then
    if size - at > #frames then return 0, size end
    frames = string.sub(frames, size - at + 1)
  end
  if #frames > 0 then
    redis.call('APPEND', lk(n), frames)
    if #frames <= LONGEST_MESSAGE then
      news(n, 'a' .. size .. ':' .. frames)
    else
      news(n, 's' .. (size + #frames))
    end
  end
  return #frames, size + #frames
end
local function next_number()
  local t = redis.call('TIME')
  local last = tonumber(redis.call('HGET', T, 'last') or '0')
  local n = string.format('%.0f', math.max(t[1] * 1000000 + t[2], last + 1))
  redis.call('HSET', T, 'last', n)
  return n
end
local function forget_thread()
  if redis.call('ZCARD', T .. ':runs') == 0 and redis.call('ZCARD', T .. ':open') == 0 then
    redis.call('DEL', T, T .. ':ids')
  end
end
local function drop(n, seconds)
  drop_ids(n)
  redis.call('DEL', hk(n))
  redis.call('ZREM', T .. ':runs', n)
  redis.call('EXPIRE', lk(n), seconds)
  redis.call('HSET', rk(n), 'state', '2')
  redis.call('EXPIRE', rk(n), seconds)
end
local function members(v)
  local found = {}
  for m in string.gmatch(redis.call('GET', T .. ':v:' .. v) or '', '%d+') do
    found[#found + 1] = m
  end
  return found
end
local function drop_volume(v)
  redis.call('DEL', hk(v), T .. ':v:' .. v)
  redis.call('ZREM', T .. ':vols', v)
end
-- The first loose runs of the history, as many as a volume takes; none if one of them is open.
local function bindable()
  local after = '(' .. (redis.call('HGET', T, 'bound') or '0')
  if redis.call('ZCOUNT', T .. ':runs', after, '+inf') < VOLUME_RUNS then return {} end
  local runs, size = {}, 0
  for _, m in ipairs(redis.call('ZRANGEBYSCORE', T .. ':runs', after, '+inf',
                                'LIMIT', 0, VOLUME_RUNS)) do
    if redis.call('ZSCORE', T .. ':open', m) then return {} end
    size = size + redis.call('STRLEN', hk(m))
    if #runs > 0 and size > VOLUME_BYTES then break end
    runs[#runs + 1] = m
  end
  return runs
end
-- Binds them, if there are so many that it is worth it.
local function bind()
  local runs = bindable()
  if #runs == 0 then return end
  local v = string.format('%.0f', FIRST_VOLUME + tonumber(next_number()))
  local at, texts = 0, {}
  for i, m in ipairs(runs) do
    local upto = at + redis.call('STRLEN', hk(m))
    redis.call('HSET', rk(m), 'vol', v, 'at', at, 'upto', upto)
    at = upto
    -- A run that is a volume alone may be long, and is not copied.
    if #runs > 1 then texts[i] = redis.call('GET', hk(m)) or '' end
  end
  if #runs == 1 then
    redis.call('RENAME', hk(runs[1]), hk(v))
  else
    redis.call('SET', hk(v), table.concat(texts))
    for _, m in ipairs(runs) do redis.call('DEL', hk(m)) end
  end
  redis.call('SET', T .. ':v:' .. v, table.concat(runs, ' '))
  redis.call('ZADD', T .. ':vols', v, v)
  redis.call('HSET', T, 'bound', runs[#runs])
end
-- Drops the oldest runs of the history, at most so many: a volume goes whole. Returns how many.
local function drop_oldest(open, opens, excess, seconds)
  local v = redis.call('ZRANGE', T .. ':vols', 0, 0)[1]
  if v then
    local bound = members(v)
    if #bound > excess then return 0 end
    for _, m in ipairs(bound) do drop(m, seconds) end
    drop_volume(v)
    return #bound
  end
  for _, m in ipairs(redis.call('ZRANGE', T .. ':runs', 0, opens)) do
    if not open[m] then
      drop(m, seconds)
      return 1
    end
  end
  return 0
end
-- Ends a run; whether it leaves history is whether it has a result and its thread is there.
local function finish(n, has_result, resume, resumable, most)
  local r = redis.call('HMGET', rk(n), 'agent', 'messages', 'json', 'ids', 'ended', 'detached',
                       'waits')
  redis.call('HSET', rk(n), 'proc', '', 'sealable', '0', 'stop', '0')
  redis.call('ZREM', T .. ':open', n)
  if redis.call('ZCARD', T .. ':open') == 0 then redis.call('HDEL', T, 'busy') end
  if has_result and not r[6] then
    redis.call('HSET', rk(n), 'state', '1')
    local t = redis.call('HMGET', T, 'runs', 'updated', 'mrun', 'srun')
    local runs = tonumber(t[1] or '0')
    if runs == 0 then redis.call('HSET', T, 'created', r[5]) end
    if runs == 0 or tonumber(r[5]) > tonumber(t[2]) then redis.call('HSET', T, 'updated', r[5]) end
    redis.call('HSET', T, 'runs', runs + 1, 'version', this_version)
    local open, opens = {}, 0
    for _, m in ipairs(redis.call('ZRANGE', T .. ':open', 0, -1)) do
      open[m] = true
      opens = opens + 1
    end
    -- Of the history only as much is looked at as may have to be changed.
    local kept = {}
    for _, m in ipairs(redis.call('ZREVRANGE', T .. ':runs', 0, opens + math.max(resumable, 0))) do
      if not open[m] then kept[#kept + 1] = m end
    end
    local last = kept[1]
    if last == n then
      redis.call('HSET', T, 'agent', r[1])
      if r[7] then redis.call('HSET', T, 'waits', r[7]) else redis.call('HDEL', T, 'waits') end
      if r[2] then redis.call('HSET', T, 'messages', r[2]) end
      if r[3] then redis.call('HSET', T, 'state', r[3]) end
    end
    redis.call('HDEL', rk(n), 'messages', 'json', 'waits')
    if r[4] and r[4] ~= '' then
      for _, id in ipairs(unpacked(r[4])) do redis.call('HINCRBY', T .. ':ids', id, 1) end
    end
    if resumable >= 0 and kept[resumable + 1] then
      redis.call('EXPIRE', lk(kept[resumable + 1]), resume)
    end
    if most == 0 then bind() end
    while most > 0 and runs + 1 > most do
      local dropped = drop_oldest(open, opens, runs + 1 - most, resume)
      if dropped == 0 then break end
      runs = runs - dropped
      redis.call('HSET', T, 'runs', runs + 1)
    end
  else
    redis.call('ZREM', T .. ':runs', n)
    redis.call('DEL', hk(n))
    redis.call('HSET', rk(n), 'state', '2')
    redis.call('EXPIRE', rk(n), resume)
    redis.call('EXPIRE', lk(n), resume)
    if not r[6] then forget_thread() end
  end
  local size = redis.call('STRLEN', lk(n))
  redis.call('HSET', rk(n), 'size', size)
  news(n, 'e' .. size)
end
local function thread() return redis.call('HMGET', T, 'id', 'owner', 'updated', 'runs') end
local function seal(n, resume, resumable, most)
  local proc = redis.call('HGET', rk(n), 'proc')
  finish(n, true, resume, resumable, most)
  tell(n, proc, 'sealed')
end
-- What the thread has waited for before the run; nothing if an earlier run is still open.
local function waited_before(n)
  if redis.call('ZRANGE', T .. ':open', 0, 0)[1] ~= n then return '' end
  return redis.call('HGET', T, 'waits') or ''
end
-- Hands a run out that has lost its owner, and fences that owner out.
local function claim(n, handed)
  redis.call('HSET', rk(n), 'proc', '', 'lease', now() + handed)
  local r = redis.call('HMGET', rk(n), 'run', 'agent', 'stop', 'opened', 'detached')
  -- A thread that was deleted under its run is nobody's, though there may be another of its id.
  local owner = not r[5] and redis.call('HGET', T, 'owner') or '-'
  return {'orphan', n, r[1], r[2], redis.call('GET', lk(n)) or '',
          redis.call('HGET', T, 'messages') or '[]', r[3], owner, r[4] or '0', waited_before(n)}
end
local function is_lost(n)
  local r = redis.call('HMGET', rk(n), 'proc', 'lease')
  return r[1] == '' or tonumber(r[2]) < now()
end
-- Runs whose compacted frames follow each other, from an offset in the first of them, in pages.
-- For each page it returns how many runs are read whole by its end, the offset in the next one,
-- and what was read; nothing if the first is gone.
local function read_pages(runs, offset, size, most)
  local room, read, chunks, pages = size, 0, {}, {}
  local function turn_page()
    pages[#pages + 1] = read
    pages[#pages + 1] = offset
    pages[#pages + 1] = table.concat(chunks)
    room, chunks = size, {}
    most = most - 1
  end
  -- A run may have been bound after the reader had asked where it is.
  local function bound(n)
    local r = redis.call('HMGET', rk(n), 'vol', 'at', 'upto')
    if r[1] and redis.call('EXISTS', hk(r[1])) == 1 then
      return hk(r[1]), tonumber(r[2]), tonumber(r[3])
    end
  end
  for _, n in ipairs(runs) do
    local key, at, upto = hk(n), 0, redis.call('STRLEN', hk(n))
    if upto == 0 and redis.call('EXISTS', key) == 0 then key, at, upto = bound(n) end
    if not key then
      if read == 0 and #chunks == 0 and #pages == 0 then return end
      break
    end
    while at + offset < upto and most > 0 do
      local begin = at + offset
      local data = redis.call('GETRANGE', key, begin, math.min(begin + room, upto) - 1)
      chunks[#chunks + 1] = data
      room, offset = room - #data, offset + #data
      if room == 0 then turn_page() end
    end
    if most == 0 then break end
    read, offset = read + 1, 0
  end
  if most > 0 and (#chunks > 0 or #pages == 0) then turn_page() end
  return pages
end
local function is_anothers(owner)
  local t = redis.call('HMGET', T, 'id', 'owner')
  return not t[1] or t[2] ~= owner
end
"""
for _name, _value in (
    ("VERSION", VERSION),
    ("NEWER", NEWER),
    ("LONGEST_MESSAGE", LONGEST_MESSAGE),
    ("FIRST_VOLUME", FIRST_VOLUME),
    ("VOLUME_RUNS", VOLUME_RUNS),
    ("VOLUME_BYTES", VOLUME_BYTES),
):
    _LIBRARY = _LIBRARY.replace(_name, str(_value))


@attrs.frozen
class LuaScript:
    """A script by its name, for errors, and its text."""

    name: str
    text: str


_HEAD, *_parts = re.split(r"^(?=local function )", _LIBRARY, flags=re.MULTILINE)
_FUNCTIONS = {re.split(r"\W+", part, maxsplit=3)[2]: part for part in _parts}


def script(name: str, body: str) -> LuaScript:
    """Return a script with only the functions that it calls.

    The server makes each function of a script anew whenever the script runs.
    """
    called: set[str] = set()
    texts = [body]
    while texts:
        found = _FUNCTIONS.keys() & set(re.findall(r"\w+", texts.pop())) - called
        called |= found
        texts += [_FUNCTIONS[one] for one in found]
    functions = [text for one, text in _FUNCTIONS.items() if one in called]
    return LuaScript(name, "".join([_HEAD, *functions, body]))
