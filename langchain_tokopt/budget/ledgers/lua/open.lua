-- The version of the budget's keys, written when there are none yet.
-- KEYS: version. ARGV: the version that would be written.
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return redis.call('GET', KEYS[1])
