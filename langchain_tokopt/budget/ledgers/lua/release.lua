-- Free what reservations hold: the one that is named, or those whose leases ran out.
-- KEYS: journal, hours, leases, and the reservation when one is named. The accounts are those that were written down
-- with the reservation, in the same slot.
-- ARGV: base, "released" or "expired", now, reason, then the reservation; or how many at most.
-- Returns for each that was held: its id, its path, its amount.
local base, action, now, reason = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local leases = base .. ':leases'
local ids = { ARGV[5] }
if action == 'expired' then
  ids = redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, ARGV[5])
end

check_journal(base)
local freed, balances = {}, {}
for i, id in ipairs(ids) do
  local known = reservation_at(base .. ':reservation:' .. id)
  if known and known.state == 'held' then
    local amount = amounts(known.amount)
    for _, name in ipairs(cjson.decode(known.accounts)) do
      local key = base .. ':account:' .. name
      balances[key] = balances[key] or balance_of(key)
      for unit = 1, 3 do
        balances[key][3 + unit] = plus(balances[key][3 + unit], negative(amount[unit]))
      end
    end
    freed[#freed + 1] = { id = id, known = known, amount = amount }
  end
end

local told = {}
for key, balance in pairs(balances) do
  write_balance(key, balance)
end
for _, one in ipairs(freed) do
  local line = write(base, { action = action, at = now, path = one.known.path, reservation = one.id,
    accounts = one.known.accounts, held = negatives(one.amount), reason = reason })
  redis.call('HSET', base .. ':reservation:' .. one.id, 'state', action, 'entries', one.known.entries .. ' ' .. line)
  told[#told + 1] = { one.id, one.known.path, one.known.amount }
end
for _, id in ipairs(ids) do
  redis.call('ZREM', leases, id)
end
return told
