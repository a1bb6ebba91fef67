-- Keep what an answer was worth. KEYS: values. ARGV: at, the report.
redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
return redis.status_reply('OK')
