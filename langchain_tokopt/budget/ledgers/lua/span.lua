-- Where in the journal the hours are that lie in a span of the callers' time.
-- KEYS: hours. ARGV: the first and the last hour, "" for any.
-- Returns hour, first id, last id of each, in no order.
local first, last = tonumber(ARGV[1]), tonumber(ARGV[2])
local stored, told = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #stored, 2 do
  local hour = tonumber(stored[i])
  if (not first or hour >= first) and (not last or hour <= last) then
    local from, to = string.match(stored[i + 1], '^(%S+) (%S+)$')
    told[#told + 1] = stored[i]
    told[#told + 1] = from
    told[#told + 1] = to
  end
end
return told
