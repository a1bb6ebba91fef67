-- What each path has spent in each of some hours. KEYS: the hours' spending.
local told = {}
for i, key in ipairs(KEYS) do
  told[i] = redis.call('HGETALL', key)
end
return told
