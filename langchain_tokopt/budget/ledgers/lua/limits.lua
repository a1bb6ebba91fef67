-- All limits. KEYS: limits.
return redis.call('HVALS', KEYS[1])
