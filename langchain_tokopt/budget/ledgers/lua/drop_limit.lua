-- Whether there was such a limit; it is gone.
-- KEYS: journal, hours, limits. ARGV: base, now, how its place begins, whatever the scope, node, reason.
check_journal(ARGV[1])
local places = {}
for _, place in ipairs(redis.call('HKEYS', KEYS[3])) do
  if string.sub(place, 1, #ARGV[3]) == ARGV[3] then
    places[#places + 1] = place
  end
end
for _, place in ipairs(places) do
  redis.call('HDEL', KEYS[3], place)
end
if #places == 0 then
  return 0
end
write(ARGV[1], { action = 'dropped', at = ARGV[2], path = ARGV[4], reason = ARGV[5] })
return 1
