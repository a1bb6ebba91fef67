-- Book what a call took, and free what it held.
-- KEYS: journal, hours, leases, reservations, balances, the hour's spending, the accounts' indexes.
-- ARGV: base, reservation, path, now, actual, accounts (JSON), reason.
-- Returns "settled", "late", "again", or "large <field>" and on a new line the account; what was over, the accounts
-- (JSON), and their balances.
local base, reservation, path, now, accounts = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[6]
local actual, known = amounts(ARGV[5]), reservation_of(base, reservation)
if known and known.state == 'settled' then
  return { 'again', '0 0 0', '[]', '' }
end
if known then
  path, accounts = known.path, known.accounts
end

local held = known and known.state == 'held'
local reserved = amounts(held and known.amount or '0 0 0')
local over, within, freed = {}, {}, {}
for unit = 1, 3 do
  freed[unit] = negative(reserved[unit])
  over[unit] = plus(actual[unit], freed[unit])
  if is_negative(over[unit]) then
    over[unit] = '0'
  end
  within[unit] = plus(actual[unit], negative(over[unit]))
end

local names = cjson.decode(accounts)
local balances, opened = balances_of(KEYS[5], names)
for i = 1, #names do
  local balance = balances[i]
  for unit = 1, 3 do
    balance[unit] = plus(balance[unit], actual[unit])
    balance[3 + unit] = plus(balance[3 + unit], freed[unit])
  end
  local field = too_large(balance)
  if field then
    return { 'large ' .. field .. '\n' .. names[i], '0 0 0', '[]', '' }
  end
  if not opened[i] then
    redis.call('ZCARD', index_of(base, names[i]))
  end
end
local spent = amounts(redis.call('HGET', KEYS[6], path) or '0 0 0')
local span = span_of(base, now)

redis.call('ZREM', KEYS[3], reservation)
local told = write_balances(KEYS[5], names, balances)
for i = 1, #names do
  if not opened[i] then
    list_account(base, names[i])
  end
end
local ids, id = known and { known.entries } or {}, nil
local over_text = table.concat(over, ' ')
if held then
  id, span = write(base, span, 'settled', now, path, reservation, accounts, table.concat(within, ' '),
    table.concat(freed, ' '), ARGV[7])
  ids[#ids + 1] = id
end
if not held or over_text ~= '0 0 0' then
  id, span = write(base, span, 'overage', now, path, reservation, accounts, over_text, '0 0 0', ARGV[7])
  ids[#ids + 1] = id
end
if ARGV[5] ~= '0 0 0' then
  redis.call('HSET', KEYS[6], path,
    plus(spent[1], actual[1]) .. ' ' .. plus(spent[2], actual[2]) .. ' ' .. plus(spent[3], actual[3]))
end
-- Nothing more can happen to it: only that it is settled, and where that is written, is kept.
write_reservation(base, reservation, 'settled', '', table.concat(ids, ' '), '', '')
return { held and 'settled' or 'late', over_text, accounts, told }
