-- One call after the other on each connection; in the end a line of JSON with what came of them.
function init(arguments)
  wrk.method, wrk.body = "POST", arguments[1]
  wrk.headers["Content-Type"] = "application/json"
  for at = 2, #arguments - 1, 2 do
    wrk.headers[arguments[at]] = arguments[at + 1]
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"calls":%d,"elapsedMs":%.3f,"p50":%.3f,"p99":%.3f,"failures":%d}\n',
    summary.requests,
    summary.duration / 1000,
    latency:percentile(50) / 1000,
    latency:percentile(99) / 1000,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout
  ))
end
