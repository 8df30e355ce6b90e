-- Every name is this machine: the visitor's hostname goes into Host and SNI, never to a resolver.
function wrk.resolve(host, service)
   wrk.addrs = wrk.lookup("127.0.0.1", service)
end

-- One line of JSON: exact integers instead of wrk's rounded table. Latencies in microseconds.
function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '{"requests": %d, "microseconds": %d, "p50": %d, "p90": %d, "p99": %d, "max": %d, "failed": %d, "refused": %d}\n',
      summary.requests, summary.duration, latency:percentile(50), latency:percentile(90), latency:percentile(99),
      latency.max, errors.connect + errors.read + errors.write + errors.timeout, errors.status))
end
