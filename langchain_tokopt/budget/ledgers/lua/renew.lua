-- Let leases run until another time.
-- KEYS: leases. ARGV: expires_at, the reservations.
-- Returns how many of them are held.
local held = 0
for i = 2, #ARGV do
  if redis.call('ZSCORE', KEYS[1], ARGV[i]) then
    redis.call('ZADD', KEYS[1], 'XX', ARGV[1], ARGV[i])
    held = held + 1
  end
end
return held
