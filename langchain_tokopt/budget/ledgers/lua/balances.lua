-- What accounts have spent and hold. KEYS: the accounts.
local texts = {}
for i, key in ipairs(KEYS) do
  texts[i] = table.concat((balance_of(key)), ' ')
end
return table.concat(texts, ' ')
