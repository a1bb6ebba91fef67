-- Some of what was carried forward. KEYS: carried, recounting.
-- ARGV: the cursor, "0" to begin with, and for how long the journal is not to be shortened (milliseconds).
-- Returns the next cursor, "0" at the end, up to which line it goes, and accounts and their sums, one after the other.
redis.call('SET', KEYS[2], '1', 'PX', ARGV[2])
local found = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', 1000)
return { found[1], redis.call('HGET', KEYS[1], 'until') or '', found[2] }
