"""The steps that have to be atomic, as Lua scripts: each runs alone in the server, by its clock.

Each script is given the thread's key, and derives the other keys from it (:mod:`.lua_functions`).
The first argument is the prefix of the names of the processes' channels. An owner is given as "-"
for nobody, and otherwise as "o" and the id.
"""

from __future__ import annotations

from typing import Final

from .lua_functions import script

OPEN_RUN: Final = script(
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
      return {'again', n, known(), thread(), waited_before(n)}
    elseif not supersedes then
      return {'busy', r[1]}
    elseif redis.call('HGET', rk(n), 'stop') == '0' then
      redis.call('HSET', rk(n), 'stop', '1')
      tell(n, r[2], 'stop')
    end
  end
end
local n = next_number()
redis.call('HSET', T, 'id', id, 'owner', owner, 'busy', '1', 'version', this_version)
redis.call('HSETNX', T, 'runs', '0')
redis.call('HSETNX', T, 'archived', '0')
redis.call('HSET', rk(n), 'run', run, 'agent', agent, 'state', '0', 'proc', proc,
           'lease', now() + lease, 'stop', '0', 'sealable', '0', 'opened', opened)
redis.call('ZADD', T .. ':runs', n, n)
redis.call('ZADD', T .. ':open', n, n)
return {'opened', n, known(), thread(), waited_before(n)}
""",
)

APPEND: Final = script(
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

CLOSE_RUN: Final = script(
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

RENEW: Final = script(
    "renew",
    """
local n, proc, lease = ARGV[2], ARGV[3], ARGV[4]
local r = redis.call('HMGET', rk(n), 'state', 'proc', 'stop')
if r[1] ~= '0' or r[2] ~= proc then return '2' end
redis.call('HSET', rk(n), 'lease', now() + lease)
return r[3]
""",
)

REQUEST_STOP: Final = script(
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

CLAIM: Final = script(
    "claim",
    """
local n, handed = ARGV[2], tonumber(ARGV[3])
local r = redis.call('HMGET', rk(n), 'state', 'lease')
if r[1] ~= '0' then return {'closed', thread()} end
if tonumber(r[2]) >= now() then return {'alive', r[2]} end
return claim(n, handed)
""",
)

# The script returns the volumes and loose runs of a thread in one text, because each part of an
# answer costs the client time. Behind the text is the first page, if the thread has neither open
# runs nor volumes; a script would copy volumes thrice.
OPEN_CURSOR: Final = script(
    "open_cursor",
    """
if is_anothers(ARGV[2]) then return {''} end
local open, runs, room = {}, redis.call('ZRANGE', T .. ':vols', 0, -1), tonumber(ARGV[4])
for _, n in ipairs(redis.call('ZRANGE', T .. ':open', 0, -1)) do open[n] = true end
local bound = redis.call('HGET', T, 'bound') or '0'
for _, n in ipairs(redis.call('ZRANGEBYSCORE', T .. ':runs', '(' .. bound, '+inf')) do
  if not open[n] then runs[#runs + 1] = n
  elseif ARGV[3] == '1' then runs[#runs + 1] = '-' .. n end
end
local parts = table.concat(runs, ' ')
if room == 0 or #runs == 0 or bound ~= '0' or next(open) then return {parts} end
local read, offset, data = unpack(read_pages(runs, 0, room, 1))
return {parts, read, offset, data}
""",
)

READ_RUN: Final = script(
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

# The script returns the fields of a thread that a list shows, in one text, because each part of a
# command and of an answer costs the client time. The text begins with the lengths of the fields; an
# absent field has an empty length.
RECORD: Final = script(
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

TEXT: Final = script(
    "read_text",
    """
return not is_anothers(ARGV[2]) and redis.call('HGET', T, ARGV[3])
""",
)

GIVE: Final = script(
    "claim_thread",
    """
local nobody, owner = ARGV[2], ARGV[3]
if is_anothers(nobody) and is_anothers(owner) then return {} end
redis.call('HSET', T, 'owner', owner)
return thread()
""",
)

SIZE: Final = script(
    "bytes_of",
    """
local total = 0
for _, n in ipairs(redis.call('ZRANGE', T .. ':runs', 0, -1)) do
  total = total + tonumber(redis.call('HGET', rk(n), 'size') or '0')
end
return total
""",
)

# The script returns pages of runs, from an offset in the first of them.
READ_HISTORY: Final = script(
    "read_history",
    """
local runs = {}
for n in string.gmatch(ARGV[4], '%d+') do runs[#runs + 1] = n end
return read_pages(runs, tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[5])) or {'gone'}
""",
)

# The script returns the volume in which a run was bound, and the runs of that volume.
BOUND: Final = script(
    "bound",
    """
local v = redis.call('HGET', rk(ARGV[2]), 'vol')
return v and {v, redis.call('GET', T .. ':v:' .. v) or ''} or {}
""",
)

UPDATE: Final = script(
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

DELETE: Final = script(
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
for _, v in ipairs(redis.call('ZRANGE', T .. ':vols', 0, -1)) do drop_volume(v) end
redis.call('HDEL', T, 'bound')
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
