-- The journal's entries about one reservation, newest first. KEYS: journal, reservations. ARGV: base, reservation.
local known, found = reservation_of(ARGV[1], ARGV[2]), {}
if known then
  for id in string.gmatch(known.entries, '%S+') do
    for _, line in ipairs(redis.call('XRANGE', KEYS[1], id, id)) do
      table.insert(found, 1, line)
    end
  end
end
return found
