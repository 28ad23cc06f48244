-- What wrk has measured, as a line of JSON.
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{"count": %d, "microseconds": %d, "bytes": %d, "errors": %d}\n',
    summary.requests, summary.duration, summary.bytes,
    e.connect + e.read + e.write + e.status + e.timeout
  ))
end
