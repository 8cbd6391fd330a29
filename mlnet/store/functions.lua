#!lua name=mlnet
-- Changes of a key. A key is a stream with one entry, so that readers can block on it.
-- KEYS: the log of finished changes, then the keys. ARGV: client, its sequence number, then the values.
-- A client retries a change whose reply was lost; the log tells that it was made, and what was answered.

local MAX_VALUE = 16 * 1024 * 1024
local MAX_NUMBER = 2 ^ 53

local function read(key)
  local entries = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)
  if entries[1] then return entries[1][2][2] end
  return nil
end

local function write(key, value)
  redis.call('XADD', key, 'MAXLEN', '=', 1, '*', 'v', value)
end

local function once(change)
  return function(keys, args)
    local log, client, seq = keys[1], args[1], args[2]
    local last = redis.call('HGET', log, client)
    if last then
      local colon = string.find(last, ':', 1, true)
      if string.sub(last, 1, colon - 1) == seq then return string.sub(last, colon + 1) end
    end
    local answer = change(keys, args)
    if type(answer) == 'string' then redis.call('HSET', log, client, seq .. ':' .. answer) end
    return answer
  end
end

redis.register_function('mlnet_set', once(function(keys, args)
  for i = 2, #keys do write(keys[i], args[i + 1]) end
  return ''
end))

redis.register_function('mlnet_add', once(function(keys, args)
  local number = tonumber(read(keys[2]) or '0')
  if not number then return redis.error_reply('ERR the value is not a number') end
  number = number + tonumber(args[3])
  if math.abs(number) > MAX_NUMBER then return redis.error_reply('ERR the sum is too large') end
  local text = string.format('%.0f', number)
  write(keys[2], text)
  return text
end))

redis.register_function('mlnet_append', once(function(keys, args)
  local value = (read(keys[2]) or '') .. args[3]
  if #value > MAX_VALUE then return redis.error_reply('ERR the value is too large') end
  write(keys[2], value)
  return ''
end))

-- As torch.distributed.Store: an absent key counts as equal to the empty value; what is returned is the value now.
redis.register_function('mlnet_compare_set', once(function(keys, args)
  local value, expected, desired = read(keys[2]), args[3], args[4]
  if value == expected or (value == nil and expected == '') then
    write(keys[2], desired)
    return desired
  end
  return value or expected
end))

redis.register_function('mlnet_delete', once(function(keys, args)
  return tostring(redis.call('DEL', keys[2]))
end))

-- ARGV: a glob pattern. How many keys there are.
redis.register_function{function_name='mlnet_count', flags={'no-writes'}, callback=function(keys, args)
  local cursor, seen, count = '0', {}, 0
  repeat
    local reply = redis.call('SCAN', cursor, 'MATCH', args[1], 'COUNT', 1000)
    cursor = reply[1]
    for _, name in ipairs(reply[2]) do
      if not seen[name] then seen[name], count = true, count + 1 end
    end
  until cursor == '0'
  return count
end}
