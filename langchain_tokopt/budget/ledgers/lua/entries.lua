-- Entries of the journal, newest first: one page of them is looked at.
-- KEYS: journal. ARGV: the newest id to look at (as XREVRANGE takes it), the oldest, how many to look at, how many to
-- return, since, until, "1" when `node` counts, node, how an account of the node ends in JSON, "1" for spending only.
-- Returns the last id that was looked at ("" when there are no more), and the entries.
local page, wanted = tonumber(ARGV[3]), tonumber(ARGV[4])
local since, till = tonumber(ARGV[5]), tonumber(ARGV[6])
local of_node, node, ending, spending = ARGV[7] == '1', ARGV[8], ARGV[9], ARGV[10] == '1'

local function node_of(name)
  return string.match(name, '^[^:]*:[^:]*:[^:]*:(.*)$')
end

local function concerns_node(entry)
  local action, path, accounts = entry[2], entry[6], entry[10]
  if (action == 'set' or action == 'moved' or action == 'dropped') and path == node then
    return true
  end
  -- Decoding takes time: only what may be right is decoded.
  if not string.find(accounts, ending, 1, true) then
    return false
  end
  for _, name in ipairs(cjson.decode(accounts)) do
    if node_of(name) == node then
      return true
    end
  end
  return false
end

local found, last = {}, ''
local lines = redis.call('XREVRANGE', KEYS[1], ARGV[1], ARGV[2], 'COUNT', page)
for i, line in ipairs(lines) do
  local entry = line[2]
  local action, at = entry[2], tonumber(entry[4])
  if (not since or at >= since) and (not till or at < till) and (not of_node or concerns_node(entry))
    and (not spending or action == 'settled' or action == 'overage') then
    found[#found + 1] = line
  end
  if #found == wanted then
    return { line[1], found }
  end
end
if #lines == page then
  last = lines[#lines][1]
end
return { last, found }
