-- One step of one account, at once and on the server's clock. Without an account: what the server says of itself.
-- KEYS: the mark of the accounts that lie together; the account.
-- ARGV: milliseconds in which a new epoch settles; and with an account: the epoch, the holder and the number of its message, the budget,
-- the window in milliseconds, the bytes that it wants; then for each step of which it tells: its end, its bytes.
local function int(number) return string.format('%.0f', number) end

local time = redis.call('TIME')
local clock = time[1] * 1000 + math.floor(time[2] / 1000)
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
if not run then return redis.error_reply('ERR INFO does not tell its run_id') end
local mark = redis.call('HMGET', KEYS[1], 'id', 'since', 'now')
local id, since = mark[1], tonumber(mark[2] or 0)
-- It never runs back, whatever is done to the server's.
local now = math.max(clock, tonumber(mark[3] or 0))
if not id or string.sub(id, 1, #run) ~= run then
  -- Another server, or one that was started again, or one that has lost its data.
  id, since = run .. '-' .. int(now), clock
  redis.call('HSET', KEYS[1], 'id', id, 'since', int(since))
elseif clock < since then
  since = clock
  redis.call('HSET', KEYS[1], 'since', int(since))
end
local settles = math.max(0, since + tonumber(ARGV[1]) - clock)
local key = KEYS[2]
if not key or ARGV[2] ~= id then return {id, now, settles} end

local holder, number = ARGV[3], tonumber(ARGV[4])
local budget, window, want = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
if number <= tonumber(redis.call('HGET', key, 'n:' .. holder) or 0) then return {id, now, settles, 'late'} end
redis.call('HSET', key, 'n:' .. holder, ARGV[4])
for at = 8, #ARGV, 2 do
  local field, bytes = ARGV[at] .. ':' .. holder, tonumber(ARGV[at + 1])
  if bytes > 0 then redis.call('HSET', key, field, int(bytes)) else redis.call('HDEL', key, field) end
end

-- What counts: what was leased until an end that is within the window. What only a longer window counts, of before or of another replica, is
-- kept as long as the account is, and made coarser.
local keep = math.max(window, tonumber(redis.call('HGET', key, 'w') or 0))
local step, grid = math.ceil(window / 60), math.ceil(keep / 60)
local all = redis.call('HGETALL', key)
local counted, last, holders = 0, 0, {[holder] = true}
for at = 1, #all, 2 do
  local ends, who = string.match(all[at], '^(%d+):(.+)$')
  if ends then
    ends = tonumber(ends)
    local bytes = tonumber(all[at + 1])
    if ends + keep <= now then
      redis.call('HDEL', key, all[at])
    else
      holders[who] = true
      if ends + window > now then
        counted = counted + bytes
      else
        local coarse = math.ceil(ends / grid) * grid
        if coarse ~= ends then
          redis.call('HDEL', key, all[at])
          redis.call('HINCRBY', key, int(coarse) .. ':' .. who, int(bytes))
          ends = coarse
        end
      end
      last = math.max(last, ends)
    end
  end
end
for at = 1, #all, 2 do
  local who = string.match(all[at], '^n:(.+)$')
  if who and not holders[who] then redis.call('HDEL', key, all[at]) end
end

local rest, granted, ends = math.max(0, budget - counted), 0, (math.floor(now / step) + 1) * step
if settles == 0 then granted = math.min(want, rest) end
if granted > 0 then
  redis.call('HINCRBY', key, int(ends) .. ':' .. holder, int(granted))
  last = math.max(last, ends)
end
redis.call('HSET', KEYS[1], 'now', int(now))
if last == 0 then
  redis.call('DEL', key)
else
  redis.call('HSET', key, 'w', int(keep))
  redis.call('PEXPIREAT', key, int(last + keep))
end
return {id, now, settles, granted, ends, rest - granted}
