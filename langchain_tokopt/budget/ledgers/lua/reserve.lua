-- Hold an amount on all accounts, or on none.
-- KEYS: journal, hours, leases, reservation, periods, the accounts, their indexes.
-- ARGV: base, reservation, path, now, expires_at, amount, accounts (JSON), then the limits of each account: nano, tokens
-- and calls, "" for none.
-- Returns "granted" or "refused <numbers of the caps>" or "large <field> <account>", and the balances.
local base, reservation, path, now, expires_at = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local amount, accounts = amounts(ARGV[6]), cjson.decode(ARGV[7])
local key = base .. ':reservation:' .. reservation
local known = reservation_at(key)
local keys, before, after, opened, short, large = {}, {}, {}, {}, {}, nil
check_journal(base)
for i, name in ipairs(accounts) do
  keys[i] = base .. ':account:' .. name
  before[i], opened[i] = balance_of(keys[i])
  if not opened[i] then
    check_index(base, name)
  end
  local balance, fits = { unpack(before[i]) }, true
  for unit = 1, 3 do
    local limit = ARGV[7 + 3 * (i - 1) + unit]
    balance[3 + unit] = plus(balance[3 + unit], amount[unit])
    if limit ~= '' and amount[unit] ~= '0' and not at_most(plus(balance[unit], balance[3 + unit]), limit) then
      fits = false
    end
  end
  if not fits then
    short[#short + 1] = i
  end
  after[i] = balance
  local field = too_large(balance)
  if field then
    large = 'large ' .. field .. ' ' .. name
  end
end

local said, balances = 'granted', before
if known then
  said = 'granted'
elseif #short > 0 then
  said = 'refused ' .. table.concat(short, ' ')
elseif large then
  said = large
else
  balances = after
  for i, name in ipairs(accounts) do
    write_balance(keys[i], after[i])
    if not opened[i] then
      list_account(base, name)
    end
  end
  local id = write(base, { action = 'reserved', at = now, path = path, reservation = reservation, accounts = ARGV[7],
    held = ARGV[6] })
  redis.call('HSET', key, 'state', 'held', 'path', path, 'accounts', ARGV[7], 'amount', ARGV[6], 'entries', id)
  redis.call('ZADD', base .. ':leases', expires_at, reservation)
end

local texts = {}
for i = 1, #accounts do
  texts[i] = table.concat(balances[i], ' ')
end
return { said, table.concat(texts, ' ') }
