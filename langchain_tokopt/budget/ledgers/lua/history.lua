-- The journal from one entry on, oldest first: what each line added to which accounts.
-- KEYS: journal, recounting. ARGV: the oldest id to look at (as XRANGE takes it), how many, and for how long the
-- journal is not to be shortened (milliseconds).
redis.call('SET', KEYS[2], '1', 'PX', ARGV[3])
local told = {}
for i, line in ipairs(redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])) do
  local entry = line[2]
  told[i] = { line[1], entry[10], entry[12], entry[14] }
end
return told
