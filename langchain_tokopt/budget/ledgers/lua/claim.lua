-- Whether a task is the caller's. KEYS: claim. ARGV: now, until, who asks, when Redis may forget it (milliseconds).
-- Whoever asks again, because an answer was lost, is told the same.
local held_until, holder = string.match(redis.call('GET', KEYS[1]) or '', '^(%S+) (%S+)$')
if held_until and tonumber(held_until) > tonumber(ARGV[1]) then
  return holder == ARGV[3] and 1 or 0
end
redis.call('SET', KEYS[1], ARGV[2] .. ' ' .. ARGV[3], 'PX', ARGV[4])
return 1
