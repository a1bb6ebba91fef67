-- Make counters what the journal says.
-- KEYS: journal, the accounts. ARGV: base, the last entry that the sums count in (as XRANGE takes what follows it), how
-- many may follow it, then for each account its name and its sums.
-- Returns nothing when too many entries follow; else name, before, after of each counter that was wrong.
local base, follow = ARGV[1], tonumber(ARGV[3])
local later = redis.call('XRANGE', KEYS[1], ARGV[2], '+', 'COUNT', follow + 1)
if #later > follow then
  return false
end

local sums, names = {}, {}
for i = 4, #ARGV, 2 do
  names[#names + 1] = ARGV[i]
  sums[ARGV[i]] = amounts(ARGV[i + 1])
end
for _, line in ipairs(later) do
  local entry, spent, held = line[2], nil, nil
  for _, name in ipairs(cjson.decode(entry[10])) do
    local sum = sums[name]
    if sum then
      spent, held = spent or amounts(entry[12]), held or amounts(entry[14])
      for unit = 1, 3 do
        sum[unit] = plus(sum[unit], spent[unit])
        sum[3 + unit] = plus(sum[3 + unit], held[unit])
      end
    end
  end
end

-- A number that is none counts as 0 here: this is what puts it right.
local wrong = {}
for _, name in ipairs(names) do
  local stored = redis.call('HMGET', base .. ':account:' .. name, unpack(FIELDS))
  local before, differs = {}, false
  check_index(base, name)
  for i = 1, 6 do
    before[i] = stored[i] and is_amount(stored[i]) and stored[i] or '0'
    differs = differs or (stored[i] or '0') ~= sums[name][i]
  end
  if differs then
    wrong[#wrong + 1] = { name, table.concat(before, ' '), table.concat(sums[name], ' ') }
  end
end
for _, one in ipairs(wrong) do
  write_balance(base .. ':account:' .. one[1], sums[one[1]])
  list_account(base, one[1])
end
return wrong
