-- shared: value_says
instr(value, :member) > 0 AND (instr(value, :said) > 0 OR instr(value, :spelled) > 0)

-- shared: packet_says
instr(payload, :member) > 0 AND (instr(payload, :said) > 0 OR instr(payload, :spelled) > 0)

-- shared: packet_length
length(payload)

-- shared: named_ids
SELECT json_extract(value, '$[0]') FROM json_each(:names)

-- shared: numbers_wanted
SELECT value FROM json_each(:numbers)

-- shared: named_measurement
measurement WHERE id IN ({named_ids})

-- shared: named_log
log WHERE id IN ({named_ids})

-- shared: named_heartbeat
heartbeat WHERE id IN ({named_ids})
