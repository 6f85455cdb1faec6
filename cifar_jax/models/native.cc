// The interface between native.py and the convolutions of native.h: XLA's foreign functions.
//
// A group of images is one task: threads share nothing, and what the groups have summed up is added
// in their order, so that results do not depend on the number of threads.

#include "native.h"

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

extern "C" {
extern const int cifar_jax_lanes;  // by which native.py has to lay activations out
const int cifar_jax_lanes = kLanes;
}

// Calls task(0) ... task(count - 1), some of them on other threads.
template <typename Task>
static void in_parallel(ffi::ThreadPool& pool, int64_t count, Task task) {
  struct State {
    std::atomic<int64_t> next{0};
    int64_t done = 0;
    std::mutex mutex;
    std::condition_variable finished;
  };
  auto state = std::make_shared<State>();  // a thread may start when all is done
  auto work = [state, count, task] {
    int64_t mine = 0;
    for (int64_t i; (i = state->next++) < count; ++mine) task(i);
    std::lock_guard<std::mutex> lock(state->mutex);
    state->done += mine;
    if (state->done == count) state->finished.notify_one();
  };
  for (int64_t i = std::min(count, pool.num_threads()); i > 1; --i)
    pool.Schedule(decltype(work)(work));
  work();
  std::unique_lock<std::mutex> lock(state->mutex);
  state->finished.wait(lock, [&] { return state->done == count; });
}

// out[i] = the sum of parts[g][i] over all groups, where a group's parts are `step` apart
static void add_groups(ffi::ThreadPool& pool, int64_t groups, const float* parts, int64_t step,
                       float* out, int64_t count) {
  constexpr int64_t kTask = 4096;
  in_parallel(pool, (count + kTask - 1) / kTask, [=](int64_t task) {
    const int64_t end = std::min(count, (task + 1) * kTask);
    for (int64_t i = task * kTask; i < end; ++i) out[i] = 0;
    for (int64_t g = 0; g < groups; ++g)
      for (int64_t i = task * kTask; i < end; ++i) out[i] += parts[g * step + i];
  });
}

using Array = ffi::Buffer<ffi::F32>;
using Result = ffi::Result<Array>;

// The vectors of an array, or null where an optional one is left out (it has no elements then).
static Vec* vectors(const Array& a) {
  return a.element_count() ? reinterpret_cast<Vec*>(a.typed_data()) : nullptr;
}

static const float* numbers(const Array& a) { return a.element_count() ? a.typed_data() : nullptr; }

static Vec* from(Vec* start, int64_t offset) { return start ? start + offset : nullptr; }

// The stride of a group of a kind besides 1: dense ones have no other.
template <Kind kind>
constexpr int kOtherStride = kind == kDense ? 1 : 2;

// What is wrong with the layout that the loops take as given, or success. That sizes of kernels fit
// is left to native.py, which makes them.
template <Kind kind>
static ffi::Error check(const Array& y, const Array& z, int64_t stride) {
  if (stride != 1 && stride != kOtherStride<kind>)
    return ffi::Error::InvalidArgument("there is no stride of " + std::to_string(stride));
  for (auto sizes : {y.dimensions(), z.dimensions()}) {
    if (sizes.size() != 5 || sizes[4] != kLanes)
      return ffi::Error::InvalidArgument("images must lie in lanes of " + std::to_string(kLanes));
    if (sizes[3] < 1) return ffi::Error::InvalidArgument("images must have a width");
  }
  return ffi::Error::Success();
}

static Shape shape_of(const Array& y, const Array& z, int64_t stride) {
  auto i = y.dimensions(), o = z.dimensions();
  return {i[0], i[1], i[2], i[3], o[1], o[2], o[3], stride};
}

template <Kind kind>
static ffi::Error forward(ffi::ThreadPool pool, int64_t stride, int64_t images, Array y,
                          Array scale, Array shift, Array skip, Array taps, Array kernel, Result z,
                          Result sums, Result x, Result parts) {
  if (auto error = check<kind>(y, *z, stride); error.failure()) return error;
  const Shape s = shape_of(y, *z, stride);
  const Kernels k{taps.typed_data(), kernel.typed_data()};
  const float *scales = numbers(scale), *shifts = numbers(shift);
  Vec *in = vectors(y), *in_skip = vectors(skip), *kept = vectors(*x), *out = vectors(*z);
  float* part = parts->typed_data();
  const auto group = stride == 1 ? forward_group<kind, 1> : forward_group<kind, kOtherStride<kind>>;
  in_parallel(pool, s.groups, [=](int64_t i) {
    const int64_t at = i * s.inputs * s.pixels();
    group(s, images - i * kLanes, {in + at, scales, shifts, from(in_skip, at), from(kept, at)}, k,
          out + i * s.outputs * s.out_pixels(), part + i * 2 * s.outputs);
  });
  add_groups(pool, s.groups, part, 2 * s.outputs, sums->typed_data(), 2 * s.outputs);
  return ffi::Error::Success();
}

template <Kind kind>
static ffi::Error backward(ffi::ThreadPool pool, int64_t stride, int64_t images, Array y,
                           Array scale, Array shift, Array taps, Array kernel, Array z, Array x,
                           Array dz, Array dsums, Array dx, Result dy, Result dskip, Result daffine,
                           Result dtaps, Result dkernel, Result parts) {
  if (auto error = check<kind>(y, z, stride); error.failure()) return error;
  const Shape s = shape_of(y, z, stride);
  const Kernels k{taps.typed_data(), kernel.typed_data()};
  const float *scales = numbers(scale), *shifts = numbers(shift);
  Vec *in = vectors(y), *kept = vectors(x), *din = vectors(*dy), *din_skip = vectors(*dskip);
  const Vec *out = vectors(z), *dout = vectors(dz);
  Vec* dkept = vectors(dx);
  const float* dsum = dsums.typed_data();
  const int64_t affine = daffine->element_count(), taps_size = dtaps->element_count();
  const int64_t size = dkernel->element_count(), step = affine + taps_size + size;
  float* part = parts->typed_data();
  const auto group =
      stride == 1 ? backward_group<kind, 1> : backward_group<kind, kOtherStride<kind>>;
  in_parallel(pool, s.groups, [=](int64_t i) {
    const int64_t at = i * s.inputs * s.pixels(), z_at = i * s.outputs * s.out_pixels();
    group(s, images - i * kLanes, {in + at, scales, shifts, nullptr, from(kept, at)}, k,
          out + z_at, dout + z_at, dsum, from(dkept, at),
          {from(din, at), from(din_skip, at), part + i * step, part + i * step + affine,
           part + i * step + affine + taps_size});
  });
  add_groups(pool, s.groups, part, step, daffine->typed_data(), affine);
  add_groups(pool, s.groups, part + affine, step, dtaps->typed_data(), taps_size);
  add_groups(pool, s.groups, part + affine + taps_size, step, dkernel->typed_data(), size);
  return ffi::Error::Success();
}

static auto forward_interface() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>().Attr<int64_t>("stride").Attr<int64_t>("images")
      .Arg<Array>().Arg<Array>().Arg<Array>().Arg<Array>().Arg<Array>().Arg<Array>()
      .Ret<Array>().Ret<Array>().Ret<Array>().Ret<Array>();
}

static auto backward_interface() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>().Attr<int64_t>("stride").Attr<int64_t>("images")
      .Arg<Array>().Arg<Array>().Arg<Array>().Arg<Array>().Arg<Array>()
      .Arg<Array>().Arg<Array>().Arg<Array>().Arg<Array>().Arg<Array>()
      .Ret<Array>().Ret<Array>().Ret<Array>().Ret<Array>().Ret<Array>().Ret<Array>();
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(DenseForward, forward<kDense>, forward_interface());
XLA_FFI_DEFINE_HANDLER_SYMBOL(DenseBackward, backward<kDense>, backward_interface());
XLA_FFI_DEFINE_HANDLER_SYMBOL(SeparableForward, forward<kSeparable>, forward_interface());
XLA_FFI_DEFINE_HANDLER_SYMBOL(SeparableBackward, backward<kSeparable>, backward_interface());
XLA_FFI_DEFINE_HANDLER_SYMBOL(PointwiseForward, forward<kPointwise>, forward_interface());
XLA_FFI_DEFINE_HANDLER_SYMBOL(PointwiseBackward, backward<kPointwise>, backward_interface());
