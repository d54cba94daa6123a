-- Refuses recipients who have left, and clients that go on guessing.

local plugin = {}

local HOUR = 3600

-- A cache: an instance may vanish between any two stages and be configured anew. What has to
-- outlive a call belongs in kv.
local refused = {}     -- addresses, in lower case
local patience = 3     -- so many refusals in an hour, then the client is disconnected

-- Says who it is; or nil, and what is wrong with the configuration.
function plugin.configure()
  local list = host.config("refused")
  if not list or list:sub(1, 1) ~= "[" then
    return nil, "`refused` has to be a list of addresses"
  end
  for place = 0, math.maxinteger do
    local address = host.config("refused." .. place)
    if not address then break end
    refused[address:lower()] = true
  end
  local limit = host.config("patience")
  if limit then
    patience = limit:match("^%d+$") and math.tointeger(limit)
    if not patience then return nil, "`patience` has to be a number from 0 on" end
  end
  return { name = "{{name}}", version = "0.1.0", description = "Refuses recipients who have left" }
end

local function key(session)
  return "refused/" .. session.client
end

-- One more refusal for this client; how many that makes within the hour.
local function count(session)
  local refusals = host.increment(key(session), 1, HOUR)
  if refusals then
    host.log("info", "refused", "refusals", tostring(refusals))
  else -- without the store nobody is disconnected
    host.log("warn", "refusals are not counted", "store", "no answer")
  end
  return refusals or 0
end

-- A decision; nothing stands for `next`, without reason and rule.
function plugin.rcpt(session, recipient)
  local address = recipient.address:lower()
  if not refused[address] then return end
  local refusals = count(session)
  if refusals > patience then
    return {
      verdict = "disconnect", code = 421, enhanced = { 7, 0 }, text = "Too many recipients who are not here",
      reason = "refusal " .. refusals .. " within the hour", rule = "patience",
    }
  end
  return {
    verdict = "reject", code = 550, enhanced = { 1, 1 }, text = address .. " is not here any more",
    reason = address .. " is listed", rule = "refused",
  }
end

function plugin.data(session)
  local refusals, fault = host.get(key(session))
  if fault then error(fault) end -- the call fails: `on-error` decides
  if not refusals then return end
  assert(host.prepend_header("X-Refused-Recipients", refusals))
  assert(host.add_tag("guesser"))
  return { reason = refusals .. " refused before", rule = "guesser" }
end

return plugin
