-- What each path has spent in each of some hours. KEYS: the hours' spending.
local told = {}
for i, key in ipairs(KEYS) do
  told[i] = {}
  local stored = redis.call('HGETALL', key)
  for j = 1, #stored do
    told[i][j] = stored[j]
  end
end
return told
