-- Reports from one time on, up to another, oldest first: a page of them.
-- KEYS: values. ARGV: since, until (as ZCOUNT takes it), how many to leave out, how many.
-- By rank: a range by score would walk over all that is left out.
local from = redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. ARGV[1]) + tonumber(ARGV[3])
local to = math.min(redis.call('ZCOUNT', KEYS[1], '-inf', ARGV[2]), from + tonumber(ARGV[4])) - 1
if to < from then
  return {}
end
return redis.call('ZRANGE', KEYS[1], from, to)
