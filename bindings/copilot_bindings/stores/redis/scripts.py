"""What has to be atomic, in Lua: a script runs alone in the server, and on the server's clock.

All keys of a thread begin with the same name, which has braces, so that a cluster keeps them
together (Redis Cluster specification, "Hash tags"). Each script is given that name, and makes the
other keys of it:

=========== =======================================================================================
``T``       hash of the thread: ``id owner agent created updated name archived runs last messages
            state waits``, and ``busy`` while a run of it is open
``T:runs``  sorted set of the numbers of its runs, open ones and history
``T:open``  sorted set of those that are open
``T:ids``   hash: how many runs of the history have a message of that id
``T:r:N``   hash of a run: ``run agent state proc lease stop sealable opened size ids ended
            messages json waits detached``. ``state`` is 0 while it is open, 1 as history, 2 if it
            left nothing. ``lease`` is when it runs out, in milliseconds of the server's clock
``T:l:N``   string: its frames as they were appended
``T:h:N``   string: its compacted frames; of an open run, what it would leave
=========== =======================================================================================

What goes, goes by an expiry that Redis keeps itself: raw frames that need not be resumable any
more, and runs of threads that were deleted under their readers.

Messages are published on ``T:n:N`` to those who follow a run: ``a<at>:<bytes>`` for what was
appended, ``s<size>`` if that is too long to be sent twice, ``e<size>`` at its end, ``g`` if it is
gone; and on the channel of an owner's process, ``T N`` and the signal. Both may be lost.
"""

from __future__ import annotations

from typing import Final

import attrs

LONGEST_MESSAGE = 32 * 1024
"""Bytes of frames that a notification carries."""

_LIBRARY = """
local T = KEYS[1]
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
    redis.call('HSET', T, 'runs', runs + 1)
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
    while most > 0 and runs + 1 > most do
      for _, m in ipairs(redis.call('ZRANGE', T .. ':runs', 0, opens)) do
        if not open[m] then
          drop(m, resume)
          break
        end
      end
      runs = runs - 1
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
-- Hands a run out that has lost its owner, and fences that owner out.
local function claim(n, handed)
  redis.call('HSET', rk(n), 'proc', '', 'lease', now() + handed)
  local r = redis.call('HMGET', rk(n), 'run', 'agent', 'stop')
  return {'orphan', n, r[1], r[2], redis.call('GET', lk(n)) or '',
          redis.call('HGET', T, 'messages') or '[]', r[3]}
end
local function is_lost(n)
  local r = redis.call('HMGET', rk(n), 'proc', 'lease')
  return r[1] == '' or tonumber(r[2]) < now()
end
local function is_anothers(owner)
  local t = redis.call('HMGET', T, 'id', 'owner')
  return not t[1] or t[2] ~= owner
end
""".replace("LONGEST_MESSAGE", str(LONGEST_MESSAGE))


@attrs.frozen
class Script:
    """A script by its name, for errors, and its text."""

    name: str
    text: str


def _script(name: str, body: str) -> Script:
    return Script(name, _LIBRARY + body)


# Each script has the thread as its key; the first argument is what the channels of processes begin
# with. An owner is given as "-" for nobody, and otherwise as "o" and the id.

OPEN_RUN: Final = _script(
    "open_run",
    """
local id, owner, run, agent, proc, opened = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local lease, handed = tonumber(ARGV[8]), tonumber(ARGV[9])
local resume, resumable, most = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])
local supersedes = ARGV[13] == '1'
local function known()
  local ids = {}
  for _, id in ipairs(unpacked(ARGV[14])) do
    if redis.call('HEXISTS', T .. ':ids', id) == 1 then ids[#ids + 1] = id end
  end
  return ids
end
if redis.call('HEXISTS', T, 'id') == 0 then
  redis.call('HSET', T, 'id', id, 'owner', owner, 'runs', '0', 'archived', '0')
elseif redis.call('HGET', T, 'owner') ~= owner then
  return {'other'}
end
local open = redis.call('ZRANGE', T .. ':open', 0, -1)
for i, n in ipairs(open) do
  local r = redis.call('HMGET', rk(n), 'run', 'proc', 'sealable', 'opened', 'agent')
  if i == #open and r[3] == '1' then
    seal(n, resume, resumable, most)
  elseif is_lost(n) then
    return claim(n, handed)
  elseif i == #open then
    if r[1] == run and r[2] == proc and r[4] == opened and r[5] == agent
        and redis.call('STRLEN', lk(n)) == 0 then
      return {'again', n, known(), thread()}
    elseif not supersedes then
      return {'busy', r[1]}
    elseif redis.call('HGET', rk(n), 'stop') == '0' then
      redis.call('HSET', rk(n), 'stop', '1')
      tell(n, r[2], 'stop')
    end
  end
end
local t = redis.call('TIME')
local last = tonumber(redis.call('HGET', T, 'last') or '0')
local n = string.format('%.0f', math.max(t[1] * 1000000 + t[2], last + 1))
redis.call('HSET', T, 'id', id, 'owner', owner, 'last', n, 'busy', '1')
redis.call('HSETNX', T, 'runs', '0')
redis.call('HSETNX', T, 'archived', '0')
redis.call('HSET', rk(n), 'run', run, 'agent', agent, 'state', '0', 'proc', proc,
           'lease', now() + lease, 'stop', '0', 'sealable', '0', 'opened', opened)
redis.call('ZADD', T .. ':runs', n, n)
redis.call('ZADD', T .. ':open', n, n)
return {'opened', n, known(), thread()}
""",
)

APPEND: Final = _script(
    "append",
    """
local n, proc, at, lease, frames = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
local r = redis.call('HMGET', rk(n), 'state', 'proc', 'stop', 'sealable')
if r[1] ~= '0' or r[2] ~= proc then return {'2', 0} end
local added, size = add(n, at, frames)
if added < 0 then return {'gap', size} end
redis.call('HSET', rk(n), 'lease', now() + lease)
if ARGV[7] == '1' then
  add_result(n, 7)
elseif added > 0 and r[4] == '1' then
  withdraw(n)
end
return {r[3], size}
""",
)

CLOSE_RUN: Final = _script(
    "close_run",
    """
local n, at, frames = ARGV[2], tonumber(ARGV[3]), ARGV[4]
local resume, resumable, most = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
if redis.call('HGET', rk(n), 'state') ~= '0' then return {'over', 0, thread()} end
local added, size = add(n, at, frames)
if added < 0 then return {'gap', size} end
if ARGV[8] == '1' then
  add_result(n, 8)
elseif ARGV[8] == '2' and redis.call('HGET', rk(n), 'sealable') ~= '1' then
  return {'resend', size}
end
finish(n, ARGV[8] ~= '0', resume, resumable, most)
return {'closed', size, thread()}
""",
)

RENEW: Final = _script(
    "renew",
    """
local n, proc, lease = ARGV[2], ARGV[3], ARGV[4]
local r = redis.call('HMGET', rk(n), 'state', 'proc', 'stop')
if r[1] ~= '0' or r[2] ~= proc then return '2' end
redis.call('HSET', rk(n), 'lease', now() + lease)
return r[3]
""",
)

REQUEST_STOP: Final = _script(
    "request_stop",
    """
local owner, run, handed = ARGV[2], ARGV[3], tonumber(ARGV[5])
if is_anothers(owner) then return {'none'} end
local n = redis.call('ZRANGE', T .. ':open', -1, -1)[1]
if not n then return {'none'} end
local r = redis.call('HMGET', rk(n), 'run', 'stop', 'proc')
if r[2] ~= '0' or (ARGV[4] == '1' and r[1] ~= run) then return {'none'} end
redis.call('HSET', rk(n), 'stop', '1')
if is_lost(n) then return claim(n, handed) end
tell(n, r[3], 'stop')
return {'told'}
""",
)

CLAIM: Final = _script(
    "claim",
    """
local n, handed = ARGV[2], tonumber(ARGV[3])
local r = redis.call('HMGET', rk(n), 'state', 'lease')
if r[1] ~= '0' then return {'closed', thread()} end
if tonumber(r[2]) >= now() then return {'alive', r[2]} end
return claim(n, handed)
""",
)

# The runs of a thread in one text, because a client takes its time for each part of an answer.
OPEN_CURSOR: Final = _script(
    "open_cursor",
    """
if is_anothers(ARGV[2]) then return '' end
local open, runs = {}, {}
for _, n in ipairs(redis.call('ZRANGE', T .. ':open', 0, -1)) do open[n] = true end
for _, n in ipairs(redis.call('ZRANGE', T .. ':runs', 0, -1)) do
  if not open[n] then runs[#runs + 1] = n
  elseif ARGV[3] == '1' then runs[#runs + 1] = '-' .. n end
end
return table.concat(runs, ' ')
""",
)

READ_RUN: Final = _script(
    "read_run",
    """
local n, offset, most = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local r = redis.call('HMGET', rk(n), 'state', 'lease', 'size')
if not r[1] then return {'gone'} end
local size = redis.call('STRLEN', lk(n))
local data = redis.call('GETRANGE', lk(n), offset, offset + most - 1)
local state = r[1]
if state == '0' and tonumber(r[2]) < now() then state = 'lost' end
if r[3] and size < tonumber(r[3]) then return {'gone'} end
return {state, size, data}
""",
)

# The fields of a thread that a list shows, in one text, because a client takes its time for each
# part of a command and of an answer. It begins with their lengths, of which one that is not there
# has none.
RECORD: Final = _script(
    "record",
    """
local found = redis.call('HMGET', T, 'id', 'agent', 'created', 'updated', 'name', 'archived',
                         'waits', 'busy', 'owner', 'runs')
local lengths, texts = {}, {}
for i = 1, 10 do
  lengths[i] = found[i] and #found[i] or ''
  texts[i] = found[i] or ''
end
return table.concat(lengths, ',') .. ' ' .. table.concat(texts)
""",
)

GIVE: Final = _script(
    "claim_thread",
    """
local nobody, owner = ARGV[2], ARGV[3]
if is_anothers(nobody) and is_anothers(owner) then return {} end
redis.call('HSET', T, 'owner', owner)
return thread()
""",
)

SIZE: Final = _script(
    "bytes_of",
    """
local total = 0
for _, n in ipairs(redis.call('ZRANGE', T .. ':runs', 0, -1)) do
  total = total + tonumber(redis.call('HGET', rk(n), 'size') or '0')
end
return total
""",
)

# Runs whose compacted frames follow each other, from an offset in the first of them, in pages. For
# each page it returns how many runs are read whole by its end, the offset in the next one, and what
# was read.
READ_HISTORY: Final = _script(
    "read_history",
    """
local offset, size, most = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[5])
local room, read, chunks, pages = size, 0, {}, {}
local function turn_page()
  pages[#pages + 1] = read
  pages[#pages + 1] = offset
  pages[#pages + 1] = table.concat(chunks)
  room, chunks = size, {}
  most = most - 1
end
for n in string.gmatch(ARGV[4], '%d+') do
  local key = hk(n)
  local whole = redis.call('STRLEN', key)
  if whole == 0 and redis.call('EXISTS', key) == 0 then
    if read == 0 and #chunks == 0 and #pages == 0 then return {'gone'} end
    break
  end
  while offset < whole and most > 0 do
    local data = redis.call('GETRANGE', key, offset, offset + room - 1)
    chunks[#chunks + 1] = data
    room, offset = room - #data, offset + #data
    if room == 0 then turn_page() end
  end
  if most == 0 then break end
  read, offset = read + 1, 0
end
if most > 0 and (#chunks > 0 or #pages == 0) then turn_page() end
return pages
""",
)

UPDATE: Final = _script(
    "update_thread",
    """
local owner = ARGV[2]
if is_anothers(owner) or tonumber(redis.call('HGET', T, 'runs')) == 0 then return {} end
if ARGV[3] == 'set' then redis.call('HSET', T, 'name', ARGV[4])
elseif ARGV[3] == 'unset' then redis.call('HDEL', T, 'name') end
if ARGV[5] ~= '' then redis.call('HSET', T, 'archived', ARGV[5]) end
return redis.call('HMGET', T, 'id', 'agent', 'created', 'updated', 'name', 'archived', 'waits',
                  'busy')
""",
)

DELETE: Final = _script(
    "delete_thread",
    """
local owner, keep_open, resume = ARGV[2], ARGV[3] == '1', tonumber(ARGV[4])
if is_anothers(owner) then return 'missing' end
local open = {}
for _, n in ipairs(redis.call('ZRANGE', T .. ':open', 0, -1)) do
  open[n] = true
  if not keep_open then
    redis.call('HSET', rk(n), 'detached', '1', 'stop', '1')
    tell(n, redis.call('HGET', rk(n), 'proc'), 'stop')
  end
end
if keep_open and ARGV[5] == '1' and next(open) then return 'spared' end
for _, n in ipairs(redis.call('ZRANGE', T .. ':runs', 0, -1)) do
  if not open[n] then drop(n, resume) end
end
redis.call('DEL', T .. ':ids')
if keep_open and next(open) then
  redis.call('HDEL', T, 'messages', 'state', 'name', 'agent', 'created', 'updated', 'waits')
  redis.call('HSET', T, 'runs', '0', 'archived', '0')
else
  redis.call('DEL', T, T .. ':runs', T .. ':open')
end
return 'deleted'
""",
)
