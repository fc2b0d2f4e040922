# Elementwise mathematics: NumPy's nan and inf where Base throws. Where a loop may run over an array, both answers are
# computed and one is chosen, which the compiler can do for several elements at once.

"The square root; nan below zero."
sqrt(x) = ifelse(x < 0, oftype(x, NaN), copysign(Base.sqrt(abs(x)), x))

"The natural logarithm; nan below zero."
log(x) = x < 0 ? oftype(x, NaN) : Base.log(x)

"log(1 + x); nan below -1."
log1p(x) = x < -1 ? oftype(x, NaN) : Base.log1p(x)

"The sine; nan of an infinity."
sin(x) = isinf(x) ? oftype(x, NaN) : Base.sin(x)

"The cosine; nan of an infinity."
cos(x) = isinf(x) ? oftype(x, NaN) : Base.cos(x)

"The tangent; nan of an infinity."
tan(x) = isinf(x) ? oftype(x, NaN) : Base.tan(x)

"The inverse sine; nan outside [-1, 1]."
asin(x) = abs(x) > 1 ? oftype(x, NaN) : Base.asin(x)

"The inverse cosine; nan outside [-1, 1]."
acos(x) = abs(x) > 1 ? oftype(x, NaN) : Base.acos(x)

"The inverse hyperbolic cosine; nan below 1."
acosh(x) = x < 1 ? oftype(x, NaN) : Base.acosh(x)

"The inverse hyperbolic tangent; nan outside [-1, 1]."
atanh(x) = abs(x) > 1 ? oftype(x, NaN) : Base.atanh(x)

"""
    power(x, y)

`x^y` as C has it: nan for a negative number to a power that is no whole number, without an error.
"""
function power(x::AbstractFloat, y::AbstractFloat)
    (x >= 0 || isnan(x) || isnan(y) || isinf(y) || y == trunc(y)) && return x^y
    isfinite(x) && return oftype(x, NaN)
    return y > 0 ? oftype(x, Inf) : zero(x)
end
power(x::AbstractFloat, y::Integer) = power(x, oftype(x, y))
power(x::Integer, y::Integer) = y < 0 ? Int64(0) : x^y

"1 / (1 + exp(-x)) without overflow."
function logistic(x)
    e = exp(-abs(x))
    return ifelse(x >= 0, one(x), e) / (1 + e)
end

"log(exp(x) + exp(y)) without overflow."
function logaddexp(x, y)
    x == y && return x + oftype(x, 0.6931471805599453)  # equal infinities have no difference
    return max(x, y) + Base.log1p(exp(-abs(x - y)))
end

"Round to the nearest whole number, halves away from zero."
function round_away(x)
    whole = trunc(x)
    return ifelse(abs(x - whole) >= oftype(x, 0.5), whole + sign(x), whole)
end

"The next number after `x` towards `y`."
function nextafter(x::T, y::T) where {T <: AbstractFloat}
    (isnan(x) || isnan(y)) && return x + y
    return x < y ? nextfloat(x) : (x > y ? prevfloat(x) : y)
end

"Truncate a float to an integer between two limits; nan becomes 0."
function to_int(x::AbstractFloat, low::Int64, high::Int64)
    isnan(x) && return Int64(0)
    x <= low && return low
    return x >= high ? high : unsafe_trunc(Int64, x)
end

"Divide integers towards zero; -1 (all bits) where the divisor is zero."
function divide_int(a::Integer, b::Integer)
    b == 0 && return Int64(-1)
    return b == -1 ? -Int64(a) : div(Int64(a), Int64(b))  # div throws for the smallest integer over -1
end

"The remainder with the dividend's sign; the dividend itself where the divisor is zero."
remainder_int(a::Integer, b::Integer) = b == 0 ? Int64(a) : (b == -1 ? Int64(0) : rem(Int64(a), Int64(b)))

"The bits of an integer moved left; 0 where they are moved out, or by less than nothing."
shift_left(x::Integer, by::Integer) = 0 <= by < 64 ? Int64(x) << by : Int64(0)

"The bits of an integer moved right, the sign kept; the sign alone where they are moved out, or by less than nothing."
shift_right(x::Integer, by::Integer) = Int64(x) >> (0 <= by < 64 ? by : 63)

"An integer that sorts floats in the total order -nan < -inf < ... < -0 < 0 < ... < inf < nan."
function order(x::Float64)
    bits = reinterpret(Int64, x)
    return ifelse(bits < 0, xor(bits, typemax(Int64)), bits)
end

"a < b in the total order of floats."
lt_to(a, b) = order(Float64(a)) < order(Float64(b))

"a <= b in the total order of floats."
le_to(a, b) = order(Float64(a)) <= order(Float64(b))

"The second of two: what a scatter that overwrites does with the element that is there."
second(_, y) = y
