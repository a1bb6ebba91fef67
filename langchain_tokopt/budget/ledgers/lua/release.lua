-- Free what reservations hold: the one that is named, or those whose leases ran out.
-- KEYS: journal, hours, leases, reservations, balances.
-- ARGV: base, "released" or "expired", now, reason, then the reservation; or how many at most.
-- Returns for each that was held: its id, its path, its amount.
local base, action, now, reason = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local ids = { ARGV[5] }
if action == 'expired' then
  ids = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, ARGV[5])
end

local freed, names, balances, at = {}, {}, {}, {}
for _, id in ipairs(ids) do
  local known = reservation_of(base, id)
  if known and known.state == 'held' then
    freed[#freed + 1] = { id, known }
    local amount, listed = amounts(known.amount), cjson.decode(known.accounts)
    local stored = balances_of(KEYS[5], listed)
    for i, name in ipairs(listed) do
      if not at[name] then
        names[#names + 1], balances[#balances + 1] = name, stored[i]
        at[name] = #names
      end
      local balance = balances[at[name]]
      for unit = 1, 3 do
        balance[3 + unit] = plus(balance[3 + unit], negative(amount[unit]))
      end
    end
  end
end
local span = span_of(base, now)

if #ids > 0 then
  redis.call('ZREM', KEYS[3], unpack(ids))
end
local told, line = {}, nil
for first = 1, #names, 1000 do
  local some, of_some = {}, {}
  for i = first, math.min(#names, first + 999) do
    some[#some + 1], of_some[#of_some + 1] = names[i], balances[i]
  end
  write_balances(KEYS[5], some, of_some)
end
for i, one in ipairs(freed) do
  local id, known = one[1], one[2]
  line, span = write(base, span, action, now, known.path, id, known.accounts, '0 0 0', negatives(amounts(known.amount)),
    reason)
  write_reservation(base, id, action, known.amount, known.entries .. ' ' .. line, known.accounts, known.path)
  told[i] = { id, known.path, known.amount }
end
return told
