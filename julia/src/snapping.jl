# Error ratios rounded so coarsely that every library takes the same steps: matched stepping.

const SNAP_BINS = 16          # of the mantissa over [0, 1): eight to an octave
const SNAP_SMALL = 2.0^-10    # smaller ratios are all taken for SNAP_TO
const SNAP_TO = 2.0^-17       # at which the next step grows 9.5 fold

"""
    snap(ratio)

Return an error ratio moved to the middle of its bin, never exactly 1. NaN and infinity pass.
"""
function snap(ratio::Float64)
    ratio < SNAP_SMALL && return SNAP_TO
    ratio < Inf || return ratio
    mantissa, exponent = frexp(ratio)
    return ldexp((floor(mantissa * SNAP_BINS) + 0.5) / SNAP_BINS, exponent)
end
