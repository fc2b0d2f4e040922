# A worker for `crossbackend run --backend julia`: requests come on stdin, replies go to stdout (see src/serve.jl).
# What the functions of a problem print goes to stderr.

const STARTED = time()
const REPLIES = stdout
redirect_stdout(stderr)

include(joinpath(isdir(joinpath(@__DIR__, "src")) ? joinpath(@__DIR__, "src") : @__DIR__, "CrossBackend.jl"))

CrossBackend.serve(stdin, REPLIES, STARTED)
