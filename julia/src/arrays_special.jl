# Special functions: openlibm's where this Julia has it, series where it has not.

const LIBM = isdefined(Base, :libm_name) ? Base.libm_name : (isdefined(Base.Math, :libm) ? Base.Math.libm : "")

const HAS_LIBM = LIBM != "" && try
    ccall((:erf, LIBM), Float64, (Float64,), 0.0) == 0.0
catch
    false
end

"The error function."
erf(x::Float64) = HAS_LIBM ? ccall((:erf, LIBM), Float64, (Float64,), x) : erf_series(x)
erf(x::Float32) = Float32(erf(Float64(x)))

"1 - erf(x), also where that is tiny."
erfc(x::Float64) = HAS_LIBM ? ccall((:erfc, LIBM), Float64, (Float64,), x) : erfc_series(x)
erfc(x::Float32) = Float32(erfc(Float64(x)))

"The logarithm of the absolute value of the gamma function."
function lgamma(x::Float64)
    HAS_LIBM || return lgamma_series(x)
    sign = Ref{Int32}()
    return ccall((:lgamma_r, LIBM), Float64, (Float64, Ptr{Int32}), x, sign)
end
lgamma(x::Float32) = Float32(lgamma(Float64(x)))

"erf by its series of positive terms near 0, from erfc beyond."
function erf_series(x::Float64)
    abs(x) > 1 && return copysign(1 - erfc_series(abs(x)), x)
    isnan(x) && return x
    term = total = x
    n = 0
    while abs(term) > eps(abs(total)) / 4
        n += 1
        term *= 2x * x / (2n + 1)
        total += term
    end
    return 2 / Base.sqrt(pi) * exp(-x * x) * total
end

"erfc by its continued fraction for large x, from erf near 0."
function erfc_series(x::Float64)
    x < 1 && return x < -1 ? 2 - erfc_series(-x) : 1 - erf_series(x)
    isnan(x) && return x
    x > 27 && return 0.0
    fraction = x
    for n in 200:-1:1  # enough for 16 digits from 1 on
        fraction = x + n / 2 / fraction
    end
    return exp(-x * x) / Base.sqrt(pi) / fraction
end

"lgamma by Stirling's series, after moving x beyond 10; by reflection below 1/2."
function lgamma_series(x::Float64)
    isnan(x) && return x
    isinf(x) && return Inf
    x <= 0 && x == trunc(x) && return Inf
    x < 0.5 && return Base.log(pi / abs(sinpi(x))) - lgamma_series(1 - x)
    factor = 1.0
    while x < 10
        factor *= x
        x += 1
    end
    square = 1 / (x * x)
    tail = evaluated(square, (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)) / x
    return (x - 0.5) * Base.log(x) - x + 0.9189385332046728 + tail - Base.log(factor)
end

"A polynomial of `x` by its coefficients from the constant one up."
evaluated(x, coefficients::Tuple) = foldr((c, rest) -> c + x * rest, coefficients; init = zero(x))

"The derivative of the logarithm of the gamma function; nan at its poles."
function digamma(x::Float64)
    isnan(x) && return x
    x == Inf && return x
    x <= 0 && (x == trunc(x)) && return NaN
    x < 0 && return digamma(1 - x) - pi / tan(pi * rem(x, 1.0))
    below = 0.0
    while x < 10
        below += 1 / x
        x += 1
    end
    square = 1 / (x * x)
    tail = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12)
    return Base.log(x) - 0.5 / x - square * evaluated(square, tail) - below
end
digamma(x::Float32) = Float32(digamma(Float64(x)))

"The inverse of erf: Winitzki's estimate, then Halley's steps on erfc, which keep the digits near the ends."
function erf_inv(x::Float64)
    a = abs(x)
    (isnan(x) || a > 1) && return NaN
    a == 1 && return copysign(Inf, x)
    a < 1e-8 && return x * 0.886226925452758  # sqrt(pi) / 2
    small = 1 - a
    half = Base.log(small * (1 + a)) / 2
    bend = 4.3307467508 + half  # 2 / (pi * 0.147)
    y = Base.sqrt(Base.sqrt(bend * bend - 2half / 0.147) - bend)
    for _ in 1:3
        gap = a < 0.5 ? erf(y) - a : small - erfc(y)
        step = gap / (1.1283791670955126 * exp(-y * y))  # 2 / sqrt(pi)
        y -= step / (1 + y * step)
    end
    return copysign(y, x)
end
erf_inv(x::Float32) = Float32(erf_inv(Float64(x)))
