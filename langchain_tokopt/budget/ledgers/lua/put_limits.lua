-- Keep limits, and write each into the journal.
-- KEYS: journal, hours, limits. ARGV: base, now, then for each: its place, the limit, node, action, reason.
check_journal(ARGV[1])
redis.call('HLEN', KEYS[3])
for i = 3, #ARGV, 5 do
  redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
  write(ARGV[1], { action = ARGV[i + 3], at = ARGV[2], path = ARGV[i + 2], reason = ARGV[i + 4] })
end
return redis.status_reply('OK')
