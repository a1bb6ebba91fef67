-- Let the journal be shortened again. KEYS: recounting.
return redis.call('DEL', KEYS[1])
