-- Some of the accounts that were ever used. KEYS: balances. ARGV: the cursor, "0" to begin with.
-- Returns the next cursor, "0" at the end, and the accounts; one may be returned twice.
local found, names = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', 1000), {}
for i = 1, #found[2], 2 do
  names[#names + 1] = found[2][i]
end
return { found[1], names }
