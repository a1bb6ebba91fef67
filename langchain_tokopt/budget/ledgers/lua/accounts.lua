-- The accounts of one period and their balances, those opened last first.
-- KEYS: the period's index, balances. ARGV: the first and the last to be returned, from 0.
local names, texts = redis.call('ZREVRANGE', KEYS[1], ARGV[1], ARGV[2]), {}
for i, balance in ipairs((balances_of(KEYS[2], names))) do
  texts[i] = table.concat(balance, ' ')
end
return { names, table.concat(texts, ' ') }
