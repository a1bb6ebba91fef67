-- Put before every script. Each script is one command of the ledger and runs alone.
--
-- Redis does not undo what a script has written when it fails half-way: every script first reads all that it is going
-- to change, so that a key of a wrong type or a damaged number stops it before it has written anything.
--
-- A number in Lua is a double, exact up to 2^53 only (about 9 million USD in nano-USD). Amounts are therefore texts of
-- digits: short ones are added as doubles, longer ones in two halves.

local SHORT, LONGEST, HALF = 15, 19, 1000000000
local BALANCE = '^(-?%d+) (-?%d+) (-?%d+) (-?%d+) (-?%d+) (-?%d+)$'
local FIELDS = { 'spent nano-USD', 'spent tokens', 'spent calls', 'held nano-USD', 'held tokens', 'held calls' }

local function is_negative(text)
  return string.byte(text) == 45
end

local function negative(text)
  if text == '0' then
    return text
  end
  return is_negative(text) and string.sub(text, 2) or '-' .. text
end

-- The number is the first times 10^9 plus the second.
local function halves(text)
  local sign, digits = string.match(text, '^(-?)(%d+)$')
  local high, low = tonumber(string.sub(digits, 1, -10)) or 0, tonumber(string.sub(digits, -9))
  if sign == '-' then
    return -high, -low
  end
  return high, low
end

local function plus(one, other)
  if other == '0' then
    return one
  end
  if #one <= SHORT and #other <= SHORT then
    return string.format('%.0f', one + other)
  end
  local high, low = halves(one)
  local other_high, other_low = halves(other)
  high, low = high + other_high, low + other_low
  local carry = math.floor(low / HALF)
  high, low = high + carry, low - carry * HALF
  local sign = ''
  if high < 0 then
    sign, high, low = '-', -high, -low
    if low < 0 then
      high, low = high - 1, low + HALF
    end
  end
  if high == 0 then
    return (low == 0 and '' or sign) .. string.format('%.0f', low)
  end
  return sign .. string.format('%.0f%09.0f', high, low)
end

-- Whether one + other <= limit. A sum of short ones is exact, and a limit that a double cannot hold is beyond it.
local function fits(one, other, limit)
  if #one <= SHORT and #other <= SHORT then
    return one + other <= limit + 0
  end
  return not is_negative(plus(limit, negative(plus(one, other))))
end

-- The three amounts of a text such as "3 40 1".
local function amounts(text)
  local nano, tokens, calls = string.match(text, '^(%S+) (%S+) (%S+)$')
  return { nano, tokens, calls }
end

local function negatives(three)
  return negative(three[1]) .. ' ' .. negative(three[2]) .. ' ' .. negative(three[3])
end

-- What an account has spent and holds, six amounts; `nil` for what is no balance.
local function balance_of(text)
  local balance = { string.match(text, BALANCE) }
  return balance[6] and balance
end

-- The balances of accounts, and which of them were used before.
local function balances_of(key, names)
  if #names == 0 then
    return {}, {}
  end
  local stored, balances, opened = redis.call('HMGET', key, unpack(names)), {}, {}
  for i = 1, #names do
    opened[i] = stored[i] ~= false
    balances[i] = balance_of(stored[i] or '0 0 0 0 0 0') or error('TOKOPT_DAMAGED ' .. names[i])
  end
  return balances, opened
end

-- Keep balances; their texts, one after the other.
local function write_balances(key, names, balances)
  local pairs_, texts = {}, {}
  for i = 1, #names do
    texts[i] = table.concat(balances[i], ' ')
    pairs_[2 * i - 1], pairs_[2 * i] = names[i], texts[i]
  end
  if #names > 0 then
    redis.call('HSET', key, unpack(pairs_))
  end
  return table.concat(texts, ' ')
end

-- The first field of a balance that is too large to be kept.
local function too_large(balance)
  for i = 1, 6 do
    if #balance[i] > LONGEST then
      return FIELDS[i]
    end
  end
end

-- Where an account is listed. Its name is "per:period:scope:node".
local function index_of(base, name)
  return base .. ':accounts:' .. string.match(name, '^[^:]*:[^:]*')
end

local function list_account(base, name)
  local index = index_of(base, name)
  redis.call('ZADD', index, 'NX', redis.call('ZCARD', index), name)
end

local function hour_of(at)
  return string.format('%.0f', math.floor(tonumber(at) / 3600))
end

-- Where an hour of the callers' clock is in the journal, as it is before a script writes: its first and last id. The
-- ids follow the server's clock; that of the callers may jump.
local function span_of(base, at)
  redis.call('XLEN', base .. ':journal')
  return redis.call('HGET', base .. ':hours', hour_of(at))
end

-- Write a line into the journal; its id, and the hour's span with it.
local function write(base, span, action, at, path, reservation, accounts, spent, held, reason)
  local id = redis.call('XADD', base .. ':journal', '*', 'action', action, 'at', at, 'path', path, 'reservation',
    reservation, 'accounts', accounts, 'spent', spent, 'held', held, 'reason', reason)
  span = (span and string.match(span, '^%S+') or id) .. ' ' .. id
  redis.call('HSET', base .. ':hours', hour_of(at), span)
  return id, span
end

-- A reservation is kept as four lines: its state and amount, the ids of its entries in the journal, its accounts (JSON)
-- and its path, which may have lines of its own. The state is "held", "released", "expired" or "settled".
local function reservation_of(base, id)
  local stored = redis.call('HGET', base .. ':reservations', id)
  if not stored then
    return nil
  end
  local state, amount, entries, accounts, path = string.match(stored, '^(%a+) ([^\n]*)\n([^\n]*)\n([^\n]*)\n(.*)$')
  return { state = state, amount = amount, entries = entries, accounts = accounts, path = path }
end

local function write_reservation(base, id, state, amount, entries, accounts, path)
  redis.call('HSET', base .. ':reservations', id,
    state .. ' ' .. amount .. '\n' .. entries .. '\n' .. accounts .. '\n' .. path)
end
