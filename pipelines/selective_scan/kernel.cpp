// The selective scan of Mamba on a CPU, forward and backward, behind a plain C interface.
//
// Loaded by cpp.py through ctypes; knows neither Python nor torch, so that building it needs a C++17 compiler (GCC or
// clang) and nothing else. The kernel itself is in kernel_simd.h, compiled here for each instruction set; which one
// runs is decided at run time. All arrays are dense and row-major; shapes as in reference.py.

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

namespace {

constexpr int64_t CHUNK = 32;            // steps between kept states; backward holds this many at once
constexpr int64_t GROUP_CHANNELS = 64;   // channels whose gradients of b and c are summed in one go
constexpr int64_t PREFETCH_STEPS = 8;
constexpr int64_t ALIGNMENT = 64;
constexpr int64_t STATES_PER_THREAD = 1 << 17;  // starting a thread costs what about so many state updates cost

enum Status { DONE = 0, NO_MEMORY = 1, UNSUPPORTED = 2 };

}  // namespace

extern "C" {
// Mirrored field by field in cpp.py; a change of it or of a function wants a new EDGED_SCAN_ABI.
struct Scan {
  int64_t batch, length, channels, states;
  int64_t element_bytes;    // 4 or 8
  int64_t instruction_set;  // index into the table below
  int64_t threads;
  const void *x, *dt, *a, *b, *c, *d, *h0;
  void *y, *last;
  void* checkpoints;  // kept states, 64-byte aligned; null where no gradient will be asked for
  const void *grad_y, *grad_last;
  void *grad_x, *grad_dt;
  void *grad_a, *grad_d;  // one for each sequence: (B, E, N), (B, E)
  void *grad_b, *grad_c;  // one for each group of channels: (groups, B, L, N)
  void* grad_h0;
};
}

namespace {

struct Kernel {
  int64_t lanes;
  int64_t (*forward_tasks)(const Scan&);
  int64_t (*forward_scratch)(const Scan&);
  void (*forward_task)(const Scan&, int64_t, void*);
  int64_t (*backward_tasks)(const Scan&);
  int64_t (*backward_scratch)(const Scan&);
  void (*backward_task)(const Scan&, int64_t, void*);
  void (*exp2_all)(const void*, void*, int64_t);
};

#define VECTOR_BYTES 16
#define REAL float
#define UINT uint32_t
namespace generic_f32 {
#include "kernel_simd.h"
}
#undef REAL
#undef UINT
#define REAL double
#define UINT uint64_t
namespace generic_f64 {
#include "kernel_simd.h"
}
#undef REAL
#undef UINT
#undef VECTOR_BYTES

#if defined(__x86_64__)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define VECTOR_BYTES 32
#define REAL float
#define UINT uint32_t
namespace avx2_f32 {
#include "kernel_simd.h"
}
#undef REAL
#undef UINT
#define REAL double
#define UINT uint64_t
namespace avx2_f64 {
#include "kernel_simd.h"
}
#undef REAL
#undef UINT
#undef VECTOR_BYTES
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512vl,avx2,fma"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512vl,avx2,fma")
#endif
#define VECTOR_BYTES 64
#define REAL float
#define UINT uint32_t
namespace avx512_f32 {
#include "kernel_simd.h"
}
#undef REAL
#undef UINT
#define REAL double
#define UINT uint64_t
namespace avx512_f64 {
#include "kernel_simd.h"
}
#undef REAL
#undef UINT
#undef VECTOR_BYTES
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}

#endif

bool always() { return true; }

struct InstructionSet {
  const char* name;
  bool (*supported)();
  const Kernel *f32, *f64;
};

// Best first.
const InstructionSet SETS[] = {
#if defined(__x86_64__)
    {"avx512", has_avx512, &avx512_f32::kernel, &avx512_f64::kernel},
    {"avx2", has_avx2, &avx2_f32::kernel, &avx2_f64::kernel},
#endif
    {"generic", always, &generic_f32::kernel, &generic_f64::kernel},
};
constexpr int64_t SET_COUNT = sizeof(SETS) / sizeof(SETS[0]);

const Kernel* find(int64_t set, int64_t element_bytes) {
  if (set < 0 || set >= SET_COUNT || !SETS[set].supported()) return nullptr;
  return element_bytes == 4 ? SETS[set].f32 : element_bytes == 8 ? SETS[set].f64 : nullptr;
}

struct Free {
  void operator()(void* p) const { std::free(p); }
};

// Tasks are taken off one counter by the caller and as many threads as pay. Threads live for the call only: no pool
// that a fork would lose or that would spin beside a worker's other work.
int run(const Scan& s, int64_t tasks, int64_t scratch_bytes, void (*task)(const Scan&, int64_t, void*)) {
  if (tasks == 0) return DONE;
  const double work = double(s.batch) * s.length * s.channels * s.states;
  int64_t workers = int64_t(work / STATES_PER_THREAD) + 1;
  if (workers > s.threads) workers = s.threads;
  if (workers > tasks) workers = tasks;
  if (workers < 1) workers = 1;
  const int64_t stride = (scratch_bytes / ALIGNMENT + 2) * ALIGNMENT;  // no cache line is shared
  std::unique_ptr<void, Free> scratch(std::aligned_alloc(ALIGNMENT, stride * workers));
  if (!scratch) return NO_MEMORY;
  std::atomic<int64_t> next{0};
  auto work_off = [&](int64_t worker) {
    void* const mine = static_cast<char*>(scratch.get()) + worker * stride;
    for (int64_t i = next++; i < tasks; i = next++) task(s, i, mine);
  };
  std::vector<std::thread> threads;
  try {
    threads.reserve(workers - 1);
    for (int64_t worker = 1; worker < workers; ++worker) threads.emplace_back(work_off, worker);
  } catch (const std::system_error&) {
    // No thread to be had: those that run and the caller take its tasks.
  } catch (const std::bad_alloc&) {
  }
  work_off(0);
  for (auto& thread : threads) thread.join();
  return DONE;
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT int64_t edged_scan_abi() { return 1; }

// Name of an instruction set, best first; null past the last. `supported` tells whether this processor has it.
EXPORT const char* edged_scan_instruction_set(int64_t index, int64_t* supported) {
  if (index < 0 || index >= SET_COUNT) return nullptr;
  *supported = SETS[index].supported();
  return SETS[index].name;
}

// Bytes of `checkpoints`; -1 for an instruction set or element size that is not there.
EXPORT int64_t edged_scan_checkpoint_bytes(const Scan* s) {
  const Kernel* kernel = find(s->instruction_set, s->element_bytes);
  if (!kernel) return -1;
  const int64_t chunks = (s->length + CHUNK - 1) / CHUNK, blocks = (s->channels + kernel->lanes - 1) / kernel->lanes;
  return s->batch * chunks * blocks * kernel->lanes * s->states * s->element_bytes;
}

EXPORT int64_t edged_scan_groups(int64_t channels) { return (channels + GROUP_CHANNELS - 1) / GROUP_CHANNELS; }

EXPORT int edged_scan_forward(const Scan* s) {
  const Kernel* kernel = find(s->instruction_set, s->element_bytes);
  if (!kernel) return UNSUPPORTED;
  return run(*s, kernel->forward_tasks(*s), kernel->forward_scratch(*s), kernel->forward_task);
}

EXPORT int edged_scan_backward(const Scan* s) {
  const Kernel* kernel = find(s->instruction_set, s->element_bytes);
  if (!kernel) return UNSUPPORTED;
  return run(*s, kernel->backward_tasks(*s), kernel->backward_scratch(*s), kernel->backward_task);
}

// 2^z of `count` values, for tests of its error.
EXPORT int edged_scan_exp2(const void* from, void* to, int64_t count, int64_t element_bytes, int64_t set) {
  const Kernel* kernel = find(set, element_bytes);
  if (!kernel) return UNSUPPORTED;
  kernel->exp2_all(from, to, count);
  return DONE;
}
