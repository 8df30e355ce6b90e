-- Every name is this machine: the visitor's hostname goes into Host and SNI, never to a resolver.
function wrk.resolve(host, service)
   wrk.addrs = wrk.lookup("127.0.0.1", service)
end

-- "varying": each request has another path and another session than the one before. They are made in
-- advance, so that the visitor spends no more on them than on equal ones.
local VARIANTS = 4096
function init(args)
   if args[1] ~= "varying" then return end
   local requests, at = {}, 0
   for number = 1, VARIANTS do
      wrk.headers["X-Session"] = string.format("%016x", number * 2654435761)
      requests[number] = wrk.format("GET", wrk.path .. "/" .. number)
   end
   function request()
      at = at % VARIANTS + 1
      return requests[at]
   end
end

-- One line of JSON: exact integers instead of wrk's rounded table. Latencies in microseconds.
function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '{"requests": %d, "microseconds": %d, "p50": %d, "p90": %d, "p99": %d, "max": %d, "failed": %d, "refused": %d}\n',
      summary.requests, summary.duration, latency:percentile(50), latency:percentile(90), latency:percentile(99),
      latency.max, errors.connect + errors.read + errors.write + errors.timeout, errors.status))
end
