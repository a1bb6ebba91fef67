-- Whether there was such a limit; it is gone.
-- KEYS: journal, hours, limits. ARGV: base, now, how its place begins, whatever the scope, node, reason.
local span, gone = span_of(ARGV[1], ARGV[2]), 0
for _, place in ipairs(redis.call('HKEYS', KEYS[3])) do
  if string.sub(place, 1, #ARGV[3]) == ARGV[3] then
    gone = gone + redis.call('HDEL', KEYS[3], place)
  end
end
if gone == 0 then
  return 0
end
write(ARGV[1], span, 'dropped', ARGV[2], ARGV[4], '', '[]', '0 0 0', '0 0 0', ARGV[5])
return 1
