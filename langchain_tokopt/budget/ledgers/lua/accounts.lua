-- The accounts of one period and their balances, those opened last first.
-- KEYS: the period's index. ARGV: base, the first and the last to be returned, from 0.
local told = {}
for i, name in ipairs(redis.call('ZREVRANGE', KEYS[1], ARGV[2], ARGV[3])) do
  told[2 * i - 1] = name
  told[2 * i] = table.concat((balance_of(ARGV[1] .. ':account:' .. name)), ' ')
end
return told
