-- Put before every script. Each script is one command of the ledger and runs alone.
--
-- Redis does not undo what a script has written when it fails half-way: every script first reads all that it is going
-- to change, so that a key of a wrong type or a damaged number stops it before it has written anything.
--
-- A number in Lua is a double, exact up to 2^53 only (about 9 million USD in nano-USD). Amounts are therefore texts of
-- digits: short ones are added as doubles, longer ones in two halves.

local FIELDS = { 'spent_nano', 'spent_tokens', 'spent_calls', 'held_nano', 'held_tokens', 'held_calls' }
local MOST_DIGITS = 19
local HALF = 1000000000

local function negative(text)
  if text == '0' then
    return text
  end
  return string.sub(text, 1, 1) == '-' and string.sub(text, 2) or '-' .. text
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
  if #one <= 15 and #other <= 15 then
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

local function is_negative(text)
  return string.sub(text, 1, 1) == '-'
end

local function at_most(one, limit)
  return not is_negative(plus(limit, negative(one)))
end

-- The amounts of a text such as "3 40 1".
local function amounts(text)
  local found = {}
  for amount in string.gmatch(text, '%S+') do
    found[#found + 1] = amount
  end
  return found
end

local function negatives(three)
  return table.concat({ negative(three[1]), negative(three[2]), negative(three[3]) }, ' ')
end

local function is_amount(text)
  return #text <= MOST_DIGITS + 1 and string.find(text, '^-?%d+$') ~= nil
end

-- What an account has spent and holds, six amounts; and whether it was used before.
local function balance_of(key)
  local stored = redis.call('HMGET', key, unpack(FIELDS))
  local balance, opened = {}, false
  for i = 1, 6 do
    balance[i] = stored[i] or '0'
    opened = opened or stored[i] ~= false
    if not is_amount(balance[i]) then
      error('TOKOPT_DAMAGED ' .. key)
    end
  end
  return balance, opened
end

local function write_balance(key, balance)
  local values = {}
  for i = 1, 6 do
    values[2 * i - 1] = FIELDS[i]
    values[2 * i] = balance[i]
  end
  redis.call('HSET', key, unpack(values))
end

-- The first field of a balance that is too large to be kept.
local function too_large(balance)
  for i = 1, #balance do
    if #balance[i] > MOST_DIGITS then
      return FIELDS[i]
    end
  end
end

-- An account's name is "per:period:scope:node"; its period is listed, and it is listed under its period.
local function period_of(name)
  return string.match(name, '^[^:]*:[^:]*')
end

local function node_of(name)
  return string.match(name, '^[^:]*:[^:]*:[^:]*:(.*)$')
end

local function index_of(base, name)
  return base .. ':accounts:' .. period_of(name)
end

local function list_account(base, name)
  local index = index_of(base, name)
  redis.call('ZADD', index, 'NX', redis.call('ZCARD', index), name)
  redis.call('SADD', base .. ':periods', period_of(name))
end

-- What `list_account` changes, read: this fails for a key of another type.
local function check_index(base, name)
  redis.call('ZCARD', index_of(base, name))
  redis.call('SCARD', base .. ':periods')
end

-- What `write` changes, read, and the leases.
local function check_journal(base)
  redis.call('XLEN', base .. ':journal')
  redis.call('HLEN', base .. ':hours')
  redis.call('ZCARD', base .. ':leases')
end

local function hour_of(at)
  return string.format('%.0f', math.floor(tonumber(at) / 3600))
end

-- One line of the journal; its id. The clock of the callers may jump, that of the stream's ids does not: `hours` has
-- the first and the last id of all that happened in an hour of the callers' clock.
local function write(base, entry)
  local id = redis.call('XADD', base .. ':journal', '*', 'action', entry.action, 'at', entry.at, 'path', entry.path,
    'reservation', entry.reservation or '', 'accounts', entry.accounts or '[]', 'spent', entry.spent or '0 0 0',
    'held', entry.held or '0 0 0', 'reason', entry.reason or '')
  local hour = hour_of(entry.at)
  local span = redis.call('HGET', base .. ':hours', hour)
  local first = span and string.match(span, '^%S+') or id
  redis.call('HSET', base .. ':hours', hour, first .. ' ' .. id)
  return id
end

-- A reservation: its state ("held", "released", "expired" or "settled") and, but for one that is settled and needs
-- nothing else any more, what it was made with. `entries` are the ids of its lines in the journal.
local function reservation_at(key)
  local stored = redis.call('HMGET', key, 'state', 'path', 'accounts', 'amount', 'entries')
  if not stored[1] then
    return nil
  end
  return { state = stored[1], path = stored[2], accounts = stored[3], amount = stored[4], entries = stored[5] or '' }
end
