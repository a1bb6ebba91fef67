-- Book what a call took, and free what it held.
-- KEYS: journal, hours, leases, reservation, the hour's spending, periods, the accounts, their indexes.
-- ARGV: base, reservation, path, now, actual, accounts (JSON), reason.
-- Returns "settled", "late", "again" or "large <field> <account>", what was over, the accounts (JSON), the balances.
local base, reservation, now, actual = ARGV[1], ARGV[2], ARGV[4], amounts(ARGV[5])
local key, spending = base .. ':reservation:' .. reservation, base .. ':spent:' .. hour_of(now)
local known = reservation_at(key)
if known and known.state == 'settled' then
  return { 'again', '0 0 0', '[]', '' }
end

local path, listed = ARGV[3], ARGV[6]
if known then
  path, listed = known.path, known.accounts
end
local held = known and known.state == 'held'
local reserved = held and amounts(known.amount) or { '0', '0', '0' }
local over, within = {}, {}
for unit = 1, 3 do
  local beyond = plus(actual[unit], negative(reserved[unit]))
  over[unit] = is_negative(beyond) and '0' or beyond
  within[unit] = plus(actual[unit], negative(over[unit]))
end

check_journal(base)
local accounts, keys, balances, opened = cjson.decode(listed), {}, {}, {}
for i, name in ipairs(accounts) do
  keys[i] = base .. ':account:' .. name
  balances[i], opened[i] = balance_of(keys[i])
  if not opened[i] then
    check_index(base, name)
  end
  for unit = 1, 3 do
    balances[i][unit] = plus(balances[i][unit], actual[unit])
    balances[i][3 + unit] = plus(balances[i][3 + unit], negative(reserved[unit]))
  end
  local field = too_large(balances[i])
  if field then
    return { 'large ' .. field .. ' ' .. name, '0 0 0', '[]', '' }
  end
end
local spent = amounts(redis.call('HGET', spending, path) or '0 0 0')
for unit = 1, 3 do
  spent[unit] = plus(spent[unit], actual[unit])
end

local texts = {}
for i, name in ipairs(accounts) do
  write_balance(keys[i], balances[i])
  if not opened[i] then
    list_account(base, name)
  end
  texts[i] = table.concat(balances[i], ' ')
end
local booked_over = over[1] ~= '0' or over[2] ~= '0' or over[3] ~= '0'
local entry = { at = now, path = path, reservation = reservation, accounts = listed, reason = ARGV[7] }
local ids = known and known.entries .. ' ' or ''
if held then
  entry.action, entry.spent, entry.held = 'settled', table.concat(within, ' '), negatives(reserved)
  ids = ids .. write(base, entry)
end
if not held or booked_over then
  entry.action, entry.spent, entry.held = 'overage', table.concat(over, ' '), nil
  ids = ids .. ' ' .. write(base, entry)
end
if actual[1] ~= '0' or actual[2] ~= '0' or actual[3] ~= '0' then
  redis.call('HSET', spending, path, table.concat(spent, ' '))
end
redis.call('DEL', key)
redis.call('HSET', key, 'state', 'settled', 'entries', ids)
redis.call('ZREM', base .. ':leases', reservation)
return { held and 'settled' or 'late', table.concat(over, ' '), listed, table.concat(texts, ' ') }
