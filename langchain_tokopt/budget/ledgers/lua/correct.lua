-- Make counters what the journal says.
-- KEYS: journal, balances, carried, the accounts' indexes.
-- ARGV: base, the last entry that the sums count in (as XRANGE takes what follows it), how many may follow it, up to
-- which line the journal was carried forward when the sums were begun, then for each account its name and its sums.
-- Returns "behind" when too many entries follow, "shortened" when the sums have to be made anew; else name, before,
-- after of each counter that was wrong.
local base, follow = ARGV[1], tonumber(ARGV[3])
if (redis.call('HGET', KEYS[3], 'until') or '') ~= ARGV[4] then
  return 'shortened'
end
local later = redis.call('XRANGE', KEYS[1], ARGV[2], '+', 'COUNT', follow + 1)
if #later > follow then
  return 'behind'
end

local sums, names = {}, {}
for i = 5, #ARGV, 2 do
  names[#names + 1] = ARGV[i]
  sums[ARGV[i]] = balance_of(ARGV[i + 1])
end
for _, line in ipairs(later) do
  local entry = line[2]
  local spent, held = amounts(entry[12]), amounts(entry[14])
  for _, name in ipairs(cjson.decode(entry[10])) do
    local sum = sums[name]
    for unit = 1, sum and 3 or 0 do
      sum[unit] = plus(sum[unit], spent[unit])
      sum[3 + unit] = plus(sum[3 + unit], held[unit])
    end
  end
end

-- What is no balance counts as nothing here: this is what puts it right.
local stored, wrong = redis.call('HMGET', KEYS[2], unpack(names)), {}
for i, name in ipairs(names) do
  local after = table.concat(sums[name], ' ')
  redis.call('ZCARD', index_of(base, name))
  if (stored[i] or '0 0 0 0 0 0') ~= after then
    local before = stored[i] and balance_of(stored[i]) or balance_of('0 0 0 0 0 0')
    wrong[#wrong + 1] = { name, table.concat(before, ' '), after }
  end
end
for _, one in ipairs(wrong) do
  redis.call('HSET', KEYS[2], one[1], one[3])
  list_account(base, one[1])
end
return wrong
