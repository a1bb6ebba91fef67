-- The journal from one entry on, oldest first: what each line added to which accounts.
-- KEYS: journal. ARGV: the oldest id to look at (as XRANGE takes it), how many.
local told = {}
for i, line in ipairs(redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])) do
  local entry = line[2]
  told[i] = { line[1], entry[10], entry[12], entry[14] }
end
return told
