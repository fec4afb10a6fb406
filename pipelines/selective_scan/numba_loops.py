"""The compiled loops of `numba_kernel.py`. Apart from it because importing this loads numba.

Inner loops run over neighbouring channels, elementwise, so that LLVM turns them into vector instructions.
"""

import functools
import math
from typing import Any

import numba
import numpy as np
from numba.extending import overload

__all__ = ["CHUNK", "VERSION", "backward", "exp2", "forward"]

VERSION = numba.__version__

CHUNK = 32
"""Steps between kept states; backward holds this many at once."""

LOG2E = math.log2(math.e)
LOWEST, HIGHEST, SHIFTER = np.float32(-127.0), np.float32(128.0), np.float32(12582912.0 + 127.0)
# Minimax of 2^f on [-1/2, 1/2] with p(0) = 1, as in kernel_simd.h.
P1, P2 = np.float32(float.fromhex("0x1.62e430p-1")), np.float32(float.fromhex("0x1.ebfbdcp-3"))
P3, P4 = np.float32(float.fromhex("0x1.c6aee8p-5")), np.float32(float.fromhex("0x1.3b2d4cp-7"))
P5, P6 = np.float32(float.fromhex("0x1.5f3e5ap-10")), np.float32(float.fromhex("0x1.41fbccp-13"))
ONE = np.float32(1.0)
MANTISSA_BITS = np.int32(23)


def _exp2(z: Any) -> Any:
    """Stands for `_exp2_of` in compiled code."""
    raise NotImplementedError("compiled code only")


@overload(_exp2, jit_options={"fastmath": {"contract"}})
def _exp2_of(z):  # type: ignore[no-untyped-def]
    """2^z; float32 as in kernel_simd.h, relative error ≤ 2e-7, and float64 by the C library."""
    if z.bitwidth == 64:
        return lambda z: math.exp(z * 0.6931471805599453)

    def single(z):  # type: ignore[no-untyped-def]
        z = LOWEST if z < LOWEST else z
        z = HIGHEST if z > HIGHEST else z
        shifted = z + SHIFTER
        f = z - (shifted - SHIFTER)
        p = ONE + f * (P1 + f * (P2 + f * (P3 + f * (P4 + f * (P5 + f * P6)))))
        bits = np.int32(np.float32(shifted).view(np.int32) << MANTISSA_BITS)  # << alone gives int64
        return p * np.int32(bits).view(np.float32)

    return single


@numba.njit(nogil=True)
def exp2(z, out):  # type: ignore[no-untyped-def]
    """2^z of a flat array, for tests of its error."""
    for i in range(len(z)):
        out[i] = _exp2(z[i])


def _compiled(loop):  # type: ignore[no-untyped-def]
    """Compile at first call, without the interpreter lock; kept on disk where a place can be written to."""
    build = functools.partial(numba.njit, nogil=True, fastmath={"contract"}, error_model="numpy")
    try:
        return build(cache=True)(loop)
    except RuntimeError:  # numba's word for: neither this directory nor the user's cache can be written
        return build()(loop)


@numba.njit(nogil=True, fastmath={"reassoc", "contract"})
def _dot(u, v):  # type: ignore[no-untyped-def]
    total = u[0] * v[0]
    for k in range(1, len(u)):
        total += u[k] * v[k]
    return total


@_compiled
def forward(i, begin, end, x, dt, a, b, c, d, h0, y, last, kept):  # type: ignore[no-untyped-def]
    """Channels begin to end of sequence i; shapes of `reference.scan_ref`, kept (B, chunks or 0, N, E)."""
    width, states = end - begin, a.shape[1]
    h, rate = np.empty((states, width), x.dtype), np.empty((states, width), x.dtype)
    for n in range(states):
        for k in range(width):
            h[n, k] = h0[i, begin + k, n]
            rate[n, k] = a[begin + k, n] * LOG2E
    drive, out = np.empty(width, x.dtype), np.empty(width, x.dtype)
    for t in range(x.shape[1]):
        if kept.shape[1] > 0 and t % CHUNK == 0:
            kept[i, t // CHUNK, :, begin:end] = h
        step = dt[i, t, begin:end]
        for k in range(width):
            drive[k] = step[k] * x[i, t, begin + k]
            out[k] = d[begin + k] * x[i, t, begin + k]
        for n in range(states):
            bn, cn, hn, rn = b[i, t, n], c[i, t, n], h[n], rate[n]
            for k in range(width):
                after = _exp2(step[k] * rn[k]) * hn[k] + drive[k] * bn
                hn[k] = after
                out[k] += after * cn
        y[i, t, begin:end] = out
    for n in range(states):
        for k in range(width):
            last[i, begin + k, n] = h[n, k]


@_compiled
def _recompute(i, begin, end, t0, t1, x, dt, b, rate, before, decay):  # type: ignore[no-untyped-def]
    """States `before` (CHUNK + 1, N, width) and decays of steps t0 to t1, from before[0] on."""
    width = end - begin
    for t in range(t0, t1):
        step, signal = dt[i, t, begin:end], x[i, t, begin:end]
        for n in range(rate.shape[0]):
            bn, rn = b[i, t, n], rate[n]
            h, after, fade = before[t - t0, n], before[t - t0 + 1, n], decay[t - t0, n]
            for k in range(width):
                fade[k] = _exp2(step[k] * rn[k])
                after[k] = fade[k] * h[k] + step[k] * signal[k] * bn


@_compiled
def backward(  # type: ignore[no-untyped-def]
    i,
    begin,
    end,
    x,
    dt,
    a,
    b,
    c,
    d,
    h0,
    kept,
    grad_y,
    grad_last,
    grad_x,
    grad_dt,
    grad_a,
    grad_d,
    grad_h,
    grad_b,
    grad_c,
):
    """Channels begin to end of sequence i; grad_b and grad_c (B, L, N) are this group's own sums."""
    width, states, length = end - begin, a.shape[1], x.shape[1]
    rate, rows = np.empty((states, width), x.dtype), np.empty((states, width), x.dtype)
    carried, of_a = np.empty((states, width), x.dtype), np.zeros((states, width), x.dtype)
    for n in range(states):
        for k in range(width):
            rows[n, k] = a[begin + k, n]
            rate[n, k] = a[begin + k, n] * LOG2E
            carried[n, k] = grad_last[i, begin + k, n]
    before, decay = np.empty((CHUNK + 1, states, width), x.dtype), np.empty((CHUNK, states, width), x.dtype)
    g, of_d = np.empty(width, x.dtype), np.zeros(width, x.dtype)
    drive, of_drive, of_dt = np.empty(width, x.dtype), np.empty(width, x.dtype), np.empty(width, x.dtype)
    for chunk in range((length + CHUNK - 1) // CHUNK - 1, -1, -1):
        t0, t1 = chunk * CHUNK, min((chunk + 1) * CHUNK, length)
        before[0] = kept[i, chunk, :, begin:end]
        _recompute(i, begin, end, t0, t1, x, dt, b, rate, before, decay)
        for t in range(t1 - 1, t0 - 1, -1):
            step, signal, gy = dt[i, t, begin:end], x[i, t, begin:end], grad_y[i, t, begin:end]
            for k in range(width):
                drive[k] = step[k] * signal[k]
                of_drive[k] = 0.0
                of_dt[k] = 0.0
                of_d[k] += gy[k] * signal[k]
            for n in range(states):
                bn, cn = b[i, t, n], c[i, t, n]
                h, fade, row, back, sums = before[t - t0, n], decay[t - t0, n], rows[n], carried[n], of_a[n]
                for k in range(width):
                    now = back[k] + gy[k] * cn
                    g[k] = now
                    of_drive[k] += now * bn
                    q = now * fade[k]
                    r = q * h[k]
                    of_dt[k] += r * row[k]
                    sums[k] += r * step[k]
                    back[k] = q
                grad_c[i, t, n] = _dot(gy, before[t - t0 + 1, n])
                grad_b[i, t, n] = _dot(g, drive)
            for k in range(width):
                grad_x[i, t, begin + k] = of_drive[k] * step[k] + gy[k] * d[begin + k]
                grad_dt[i, t, begin + k] = of_drive[k] * signal[k] + of_dt[k]
    for k in range(width):
        grad_d[i, begin + k] = of_d[k]
        for n in range(states):
            grad_a[i, begin + k, n] = of_a[n, k]
            grad_h[i, begin + k, n] = carried[n, k]
