-- Carry forward the oldest lines of the journal: their sums are kept instead of them, and nothing of the reservations
-- that ended with them. KEYS: journal, reservations, carried, recounting.
-- ARGV: base, the time before which lines may go, how many at most. Returns how many went.
local before = tonumber(ARGV[2])
local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
if not oldest or tonumber(oldest[2][4]) >= before or redis.call('EXISTS', KEYS[4]) == 1 then
  return 0
end

local names, at, changes, ended, last, count = {}, {}, {}, {}, nil, 0
for _, line in ipairs(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[3])) do
  local entry = line[2]
  if tonumber(entry[4]) >= before then
    break
  end
  local spent, held = amounts(entry[12]), amounts(entry[14])
  for _, name in ipairs(cjson.decode(entry[10])) do
    if not at[name] then
      names[#names + 1], changes[#changes + 1] = name, balance_of('0 0 0 0 0 0')
      at[name] = #names
    end
    local change = changes[at[name]]
    for unit = 1, 3 do
      change[unit] = plus(change[unit], spent[unit])
      change[3 + unit] = plus(change[3 + unit], held[unit])
    end
  end
  local known = entry[8] ~= '' and reservation_of(ARGV[1], entry[8])
  if known and known.state ~= 'held' and string.match(known.entries, '%S+$') == line[1] then
    ended[#ended + 1] = entry[8]
  end
  last, count = line[1], count + 1
end

local carried = balances_of(KEYS[3], names)
for i = 1, #names do
  for unit = 1, 6 do
    carried[i][unit] = plus(carried[i][unit], changes[i][unit])
  end
end
redis.call('HSET', KEYS[3], 'until', last)
write_balances(KEYS[3], names, carried)
if #ended > 0 then
  redis.call('HDEL', KEYS[2], unpack(ended))
end
local milliseconds, number = string.match(last, '^(%d+)-(%d+)$')
redis.call('XTRIM', KEYS[1], 'MINID', milliseconds .. '-' .. string.format('%.0f', number + 1))
return count
