-- What accounts have spent and hold. KEYS: balances. ARGV: the accounts.
local texts = {}
for i, balance in ipairs((balances_of(KEYS[1], ARGV))) do
  texts[i] = table.concat(balance, ' ')
end
return table.concat(texts, ' ')
