"""The same gradients taken without crossbackend, as a good user of each library takes them.

Of crossbackend a peer uses the problem alone: its functions, arrays, times. Each has `prepare(problem, rtol, atol)`,
those that run on a GPU too with a `device`, which returns a function that computes the loss and its gradient by y(t0)
and the parameters once and returns them as NumPy arrays, `(loss, y0, [leaf, ...])` with the leaves in the order of
`crossbackend.tree`.
"""
