// The selective scan for one instruction set and one type; no include guard: kernel.cpp includes it once for each pair.
//
// Wants REAL, UINT, VECTOR_BYTES defined and a namespace and target options around it. Lanes of a vector are
// neighbouring channels, so neither the recurrence nor the output sum ever crosses lanes; the states of one block
// of channels stay in the first-level cache for the whole sequence. No templates: target options given by pragma
// reach plain functions only.

typedef REAL V __attribute__((vector_size(VECTOR_BYTES)));
typedef UINT U __attribute__((vector_size(VECTOR_BYTES)));
typedef REAL VUnaligned __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));

constexpr int64_t W = VECTOR_BYTES / sizeof(REAL);
constexpr int64_t BLOCKS_PER_GROUP = GROUP_CHANNELS / W;
constexpr bool SINGLE = sizeof(REAL) == 4;
constexpr int MANTISSA_BITS = SINGLE ? 23 : 52;
constexpr REAL BIAS = SINGLE ? 127 : 1023;
// Adding 1.5 * 2^23 leaves a float's integer part in its low bits; the exponent's bias rides along.
constexpr REAL SHIFTER = (SINGLE ? REAL(12582912.0) : REAL(6755399441055744.0)) + BIAS;
constexpr REAL LOG2E = REAL(1.44269504088896340736);

// 2^z lane by lane. Float: relative error <= 2e-7 for -126 <= z <= 127, 0 below -126.5, inf above 127.5, NaN stays.
static inline V exp2_lanes(V z) {
  const V lowest = V{} - BIAS, highest = V{} + (BIAS + 1);
  z = z < lowest ? lowest : z;  // so that a NaN passes
  z = z > highest ? highest : z;
  const V shifted = z + SHIFTER;
  const V f = z - (shifted - SHIFTER);  // in [-1/2, 1/2], exact
  V p;
  if (SINGLE) {  // minimax with p(0) = 1 held, since decays lie close to one; 2e-9 before rounding
    p = V{} + REAL(0x1.41fbccp-13);
    p = p * f + REAL(0x1.5f3e5ap-10);
    p = p * f + REAL(0x1.3b2d4cp-7);
    p = p * f + REAL(0x1.c6aee8p-5);
    p = p * f + REAL(0x1.ebfbdcp-3);
    p = p * f + REAL(0x1.62e430p-1);
    p = p * f + REAL(1);
  } else {  // Taylor's ln(2)^k / k! from k = 13 down; 4e-18 before rounding
    constexpr double TERMS[] = {
        0x1.816193166d0f9p-40, 0x1.c3bd650fc2986p-36, 0x1.e8cac7351bb25p-32, 0x1.e4cf5158b8ecap-28,
        0x1.b5253d395e7c4p-24, 0x1.62c0223a5c824p-20, 0x1.ffcbfc588b0c7p-17, 0x1.430912f86c787p-13,
        0x1.5d87fe78a6731p-10, 0x1.3b2ab6fba4e77p-7, 0x1.c6b08d704a0c0p-5, 0x1.ebfbdff82c58fp-3,
        0x1.62e42fefa39efp-1,
    };
    p = V{};
    for (const double term : TERMS) p = p * f + REAL(term);
    p = p * f + REAL(1);
  }
  return p * (V)((U)shifted << MANTISSA_BITS);
}

static inline V load(const REAL* from, int64_t lanes) {
  if (lanes == W) return *(const VUnaligned*)from;
  V v = {};
  for (int64_t k = 0; k < lanes; ++k) v[k] = from[k];
  return v;
}

static inline void store(REAL* to, V v, int64_t lanes) {
  if (lanes == W) {
    *(VUnaligned*)to = v;
  } else {
    for (int64_t k = 0; k < lanes; ++k) to[k] = v[k];
  }
}

// (E, N) rows of a block, transposed to one vector for each n.
static inline void load_rows(V* to, const REAL* from, int64_t states, int64_t lanes) {
  for (int64_t n = 0; n < states; ++n) {
    V v = {};
    for (int64_t k = 0; k < lanes; ++k) v[k] = from[k * states + n];
    to[n] = v;
  }
}

static inline void store_rows(REAL* to, const V* from, int64_t states, int64_t lanes) {
  for (int64_t n = 0; n < states; ++n)
    for (int64_t k = 0; k < lanes; ++k) to[k * states + n] = from[n][k];
}

static inline V* checkpoint(const Scan& s, int64_t batch, int64_t chunk, int64_t block) {
  const int64_t chunks = (s.length + CHUNK - 1) / CHUNK, blocks = (s.channels + W - 1) / W;
  return (V*)s.checkpoints + ((batch * chunks + chunk) * blocks + block) * s.states;
}

static int64_t forward_tasks(const Scan& s) { return s.batch * ((s.channels + W - 1) / W); }
static int64_t forward_scratch(const Scan& s) { return 2 * s.states * VECTOR_BYTES; }

// One block of W channels of one sequence.
static void forward_task(const Scan& s, int64_t task, void* scratch) {
  const int64_t L = s.length, E = s.channels, N = s.states, blocks = (E + W - 1) / W;
  const int64_t batch = task / blocks, block = task % blocks, first = block * W;
  const int64_t lanes = E - first < W ? E - first : W;
  V* const h = (V*)scratch;
  V* const a = h + N;
  load_rows(h, (const REAL*)s.h0 + (batch * E + first) * N, N, lanes);
  load_rows(a, (const REAL*)s.a + first * N, N, lanes);
  for (int64_t n = 0; n < N; ++n) a[n] *= LOG2E;
  const V skip = load((const REAL*)s.d + first, lanes);
  const REAL* const xs = (const REAL*)s.x + batch * L * E + first;
  const REAL* const dts = (const REAL*)s.dt + batch * L * E + first;
  const REAL* const bs = (const REAL*)s.b + batch * L * N;
  const REAL* const cs = (const REAL*)s.c + batch * L * N;
  REAL* const ys = (REAL*)s.y + batch * L * E + first;
  for (int64_t t = 0; t < L; ++t) {
    if (s.checkpoints && t % CHUNK == 0) {
      V* const kept = checkpoint(s, batch, t / CHUNK, block);
      for (int64_t n = 0; n < N; ++n) kept[n] = h[n];
    }
    // Rows lie E apart, further than the hardware looks ahead.
    const int64_t ahead = (t + PREFETCH_STEPS < L ? t + PREFETCH_STEPS : L - 1) * E;
    __builtin_prefetch(xs + ahead);
    __builtin_prefetch(dts + ahead);
    __builtin_prefetch(ys + ahead, 1);
    const V x = load(xs + t * E, lanes), dt = load(dts + t * E, lanes);
    const V drive = dt * x;
    const REAL* const b = bs + t * N;
    const REAL* const c = cs + t * N;
    V y = skip * x;
    for (int64_t n = 0; n < N; ++n) {
      h[n] = exp2_lanes(dt * a[n]) * h[n] + drive * b[n];
      y += h[n] * c[n];
    }
    store(ys + t * E, y, lanes);
  }
  store_rows((REAL*)s.last + (batch * E + first) * N, h, N, lanes);
}

static int64_t backward_tasks(const Scan& s) {
  return s.batch * ((s.channels + GROUP_CHANNELS - 1) / GROUP_CHANNELS);
}

static int64_t backward_scratch(const Scan& s) {
  // states before and after each step, decays, sums for b and c; for each block the carried and A's gradients; A
  return (4 * CHUNK + 1 + 2 * BLOCKS_PER_GROUP + 2) * s.states * VECTOR_BYTES + BLOCKS_PER_GROUP * VECTOR_BYTES;
}

struct Backward {
  V *before, *decay, *sum_b, *sum_c, *carried, *grad_a, *a, *a_log2e, *grad_d;
};

// The states of a chunk again, from the one that was kept before it.
static inline void recompute(const Scan& s, const Backward& w, int64_t batch, int64_t block, int64_t begin,
                             int64_t end, int64_t lanes) {
  const int64_t E = s.channels, N = s.states, row = batch * s.length;
  const V* const kept = checkpoint(s, batch, begin / CHUNK, block);
  for (int64_t n = 0; n < N; ++n) w.before[n] = kept[n];
  for (int64_t t = begin; t < end; ++t) {
    const V x = load((const REAL*)s.x + (row + t) * E + block * W, lanes);
    const V dt = load((const REAL*)s.dt + (row + t) * E + block * W, lanes);
    const V drive = dt * x;
    const REAL* const b = (const REAL*)s.b + (row + t) * N;
    const V* const h = w.before + (t - begin) * N;
    V* const after = w.before + (t - begin + 1) * N;
    V* const decay = w.decay + (t - begin) * N;
    for (int64_t n = 0; n < N; ++n) {
      decay[n] = exp2_lanes(dt * w.a_log2e[n]);
      after[n] = decay[n] * h[n] + drive * b[n];
    }
  }
}

// A chunk of a block from its end to its beginning: q is the gradient of decay * h, of which the rest follows.
static inline void reverse(const Scan& s, const Backward& w, int64_t batch, int64_t block, int64_t slot,
                           int64_t begin, int64_t end, int64_t lanes) {
  const int64_t E = s.channels, N = s.states, row = batch * s.length;
  const V skip = load((const REAL*)s.d + block * W, lanes);
  V* const carried = w.carried + slot * N;
  V* const grad_a = w.grad_a + slot * N;
  for (int64_t t = end - 1; t >= begin; --t) {
    const int64_t at = (row + t) * E + block * W;
    const V x = load((const REAL*)s.x + at, lanes), dt = load((const REAL*)s.dt + at, lanes);
    const V gy = load((const REAL*)s.grad_y + at, lanes), drive = dt * x;
    const REAL* const b = (const REAL*)s.b + (row + t) * N;
    const REAL* const c = (const REAL*)s.c + (row + t) * N;
    const V* const h = w.before + (t - begin) * N;
    const V* const after = h + N;
    const V* const decay = w.decay + (t - begin) * N;
    V* const sum_b = w.sum_b + (t - begin) * N;
    V* const sum_c = w.sum_c + (t - begin) * N;
    V grad_drive = {}, grad_dt = {};
    for (int64_t n = 0; n < N; ++n) {
      const V g = carried[n] + gy * c[n];
      sum_c[n] += gy * after[n];
      sum_b[n] += g * drive;
      grad_drive += g * b[n];
      const V q = g * decay[n];
      const V r = q * h[n];
      grad_dt += r * w.a[n];
      grad_a[n] += r * dt;
      carried[n] = q;
    }
    w.grad_d[slot] += gy * x;
    store((REAL*)s.grad_x + at, grad_drive * dt + gy * skip, lanes);
    store((REAL*)s.grad_dt + at, grad_drive * x + grad_dt, lanes);
  }
}

// One group of GROUP_CHANNELS channels of one sequence. Sums over channels are taken within a group in a fixed
// order and left as one row a group, so that gradients do not depend on the number of threads.
static void backward_task(const Scan& s, int64_t task, void* scratch) {
  const int64_t L = s.length, E = s.channels, N = s.states;
  const int64_t groups = (E + GROUP_CHANNELS - 1) / GROUP_CHANNELS, batch = task / groups, group = task % groups;
  const int64_t blocks = (E + W - 1) / W, first = group * BLOCKS_PER_GROUP;
  const int64_t count = blocks - first < BLOCKS_PER_GROUP ? blocks - first : BLOCKS_PER_GROUP;
  V* next = (V*)scratch;
  auto take = [&next](int64_t vectors) { V* here = next; next += vectors; return here; };
  Backward w;
  w.before = take((CHUNK + 1) * N), w.decay = take(CHUNK * N), w.sum_b = take(CHUNK * N), w.sum_c = take(CHUNK * N);
  w.carried = take(BLOCKS_PER_GROUP * N), w.grad_a = take(BLOCKS_PER_GROUP * N);
  w.a = take(N), w.a_log2e = take(N), w.grad_d = take(BLOCKS_PER_GROUP);
  for (int64_t slot = 0; slot < count; ++slot) {
    const int64_t channel = (first + slot) * W, lanes = E - channel < W ? E - channel : W;
    load_rows(w.carried + slot * N, (const REAL*)s.grad_last + (batch * E + channel) * N, N, lanes);
    for (int64_t n = 0; n < N; ++n) w.grad_a[slot * N + n] = V{};
    w.grad_d[slot] = V{};
  }
  REAL* const grad_b = (REAL*)s.grad_b + (group * s.batch + batch) * L * N;
  REAL* const grad_c = (REAL*)s.grad_c + (group * s.batch + batch) * L * N;
  for (int64_t begin = (L - 1) / CHUNK * CHUNK; L > 0 && begin >= 0; begin -= CHUNK) {
    const int64_t end = begin + CHUNK < L ? begin + CHUNK : L, sums = (end - begin) * N;
    for (int64_t i = 0; i < sums; ++i) w.sum_b[i] = w.sum_c[i] = V{};
    for (int64_t slot = 0; slot < count; ++slot) {
      const int64_t block = first + slot, lanes = E - block * W < W ? E - block * W : W;
      load_rows(w.a, (const REAL*)s.a + block * W * N, N, lanes);
      for (int64_t n = 0; n < N; ++n) w.a_log2e[n] = w.a[n] * LOG2E;
      recompute(s, w, batch, block, begin, end, lanes);
      reverse(s, w, batch, block, slot, begin, end, lanes);
    }
    for (int64_t i = 0; i < sums; ++i) {
      REAL in_b = 0, in_c = 0;
      for (int64_t k = 0; k < W; ++k) in_b += w.sum_b[i][k], in_c += w.sum_c[i][k];
      grad_b[begin * N + i] = in_b;
      grad_c[begin * N + i] = in_c;
    }
  }
  for (int64_t slot = 0; slot < count; ++slot) {
    const int64_t channel = (first + slot) * W, lanes = E - channel < W ? E - channel : W;
    const int64_t at = (batch * E + channel) * N;
    store_rows((REAL*)s.grad_a + at, w.grad_a + slot * N, N, lanes);
    store_rows((REAL*)s.grad_h0 + at, w.carried + slot * N, N, lanes);
    store((REAL*)s.grad_d + batch * E + channel, w.grad_d[slot], lanes);
  }
}

static void exp2_all(const void* from, void* to, int64_t count) {
  for (int64_t i = 0; i < count; i += W) {
    const int64_t lanes = count - i < W ? count - i : W;
    store((REAL*)to + i, exp2_lanes(load((const REAL*)from + i, lanes)), lanes);
  }
}

constexpr Kernel kernel = {
    W, forward_tasks, forward_scratch, forward_task, backward_tasks, backward_scratch, backward_task, exp2_all,
};
