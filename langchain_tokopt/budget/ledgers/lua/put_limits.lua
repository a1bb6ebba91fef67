-- Keep limits, and write each into the journal.
-- KEYS: journal, hours, limits. ARGV: base, now, then for each: its place, the limit, node, action, reason.
local span, _ = span_of(ARGV[1], ARGV[2]), nil
for i = 3, #ARGV, 5 do
  redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
  _, span = write(ARGV[1], span, ARGV[i + 3], ARGV[2], ARGV[i + 2], '', '[]', '0 0 0', '0 0 0', ARGV[i + 4])
end
return redis.status_reply('OK')
