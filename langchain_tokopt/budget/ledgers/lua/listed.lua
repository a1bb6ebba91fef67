-- The names of all accounts that were opened, period by period.
-- KEYS: periods. ARGV: base, a period and the first and last to be returned; without a period: the periods.
if #ARGV == 1 then
  return redis.call('SMEMBERS', KEYS[1])
end
return redis.call('ZRANGE', ARGV[1] .. ':accounts:' .. ARGV[2], ARGV[3], ARGV[4])
