-- Hold an amount on all accounts, or on none.
-- KEYS: journal, hours, leases, reservations, balances, the accounts' indexes.
-- ARGV: base, reservation, path, now, expires_at, amount, accounts (JSON), the limits of each account: nano, tokens and
-- calls, "-" for none.
-- Returns "granted", or "refused <numbers of the caps>", or "large <field>" and on a new line the account; and the
-- balances, for a refusal those under the caps that were named.
local base, reservation, path, now, expires_at = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local amount, names = amounts(ARGV[6]), cjson.decode(ARGV[7])
local balances, opened = balances_of(KEYS[5], names)
if reservation_of(base, reservation) then
  local texts = {}
  for i = 1, #names do
    texts[i] = table.concat(balances[i], ' ')
  end
  return { 'granted', table.concat(texts, ' ') }
end

local limits = {}
for limit in string.gmatch(ARGV[8], '%S+') do
  limits[#limits + 1] = limit
end
local short, short_texts, large = {}, {}, nil
for i = 1, #names do
  local balance, fitting, before = balances[i], true, nil
  for unit = 1, 3 do
    if amount[unit] ~= '0' then
      local held, limit = plus(balance[3 + unit], amount[unit]), limits[3 * (i - 1) + unit]
      if limit ~= '-' and not fits(balance[unit], held, limit) then
        fitting = false
      end
      before = before or table.concat(balance, ' ')
      balance[3 + unit] = held
    end
  end
  if not fitting then
    short[#short + 1], short_texts[#short_texts + 1] = i, before
  end
  local field = too_large(balance)
  large = large or field and 'large ' .. field .. '\n' .. names[i]
end
if #short > 0 then
  return { 'refused ' .. table.concat(short, ' '), table.concat(short_texts, ' ') }
elseif large then
  return { large, '' }
end

local span = span_of(base, now)
for i = 1, #names do
  if not opened[i] then
    redis.call('ZCARD', index_of(base, names[i]))
  end
end
redis.call('ZADD', KEYS[3], expires_at, reservation)
local told = write_balances(KEYS[5], names, balances)
for i = 1, #names do
  if not opened[i] then
    list_account(base, names[i])
  end
end
local id = write(base, span, 'reserved', now, path, reservation, ARGV[7], '0 0 0', ARGV[6], '')
write_reservation(base, reservation, 'held', ARGV[6], id, ARGV[7], path)
return { 'granted', told }
