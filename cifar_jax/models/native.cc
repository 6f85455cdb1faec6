// The interface between native.py and the convolutions of native.h: XLA's foreign functions.
//
// A group of images is one task: threads share nothing, and sums over groups are left to the
// caller, so that results do not depend on the number of threads.

#include "native.h"

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

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

using Array = ffi::Buffer<ffi::F32>;
using Result = ffi::Result<Array>;

static const Vec* vectors(const Array& a) { return reinterpret_cast<const Vec*>(a.typed_data()); }

static Shape shape_of(const Array& x, const Array& z, int64_t stride) {
  auto i = x.dimensions(), o = z.dimensions();
  return {i[0], i[1], i[2], i[3], o[1], o[2], o[3], stride};
}

template <Kind kind>
static ffi::Error forward(ffi::ThreadPool pool, int64_t stride, int64_t images, Array x,
                          Array scale, Array shift, Array taps, Array kernel, Result z,
                          Result sums) {
  const Shape s = shape_of(x, *z, stride);
  const Kernels k{scale.typed_data(), shift.typed_data(), taps.typed_data(), kernel.typed_data()};
  const Vec* in = vectors(x);
  Vec* out = const_cast<Vec*>(vectors(*z));
  float* sum = sums->typed_data();
  const auto group = stride == 1 ? forward_group<kind, 1> : forward_group<kind, 2>;
  in_parallel(pool, s.groups, [=](int64_t i) {
    group(s, images - i * kLanes, in + i * s.inputs * s.pixels(), k,
          out + i * s.outputs * s.out_pixels(), sum + i * 2 * s.outputs);
  });
  return ffi::Error::Success();
}

template <Kind kind>
static ffi::Error backward(ffi::ThreadPool pool, int64_t stride, int64_t images, Array x,
                           Array scale, Array shift, Array taps, Array kernel, Array z, Array dz,
                           Array dsums, Result dx, Result daffine, Result dtaps, Result dkernel) {
  const Shape s = shape_of(x, z, stride);
  const Kernels k{scale.typed_data(), shift.typed_data(), taps.typed_data(), kernel.typed_data()};
  const Vec *in = vectors(x), *out = vectors(z), *dout = vectors(dz);
  const float* dsum = dsums.typed_data();
  const Gradients d{const_cast<Vec*>(vectors(*dx)), daffine->typed_data(), dtaps->typed_data(),
                    dkernel->typed_data()};
  const auto group = stride == 1 ? backward_group<kind, 1> : backward_group<kind, 2>;
  in_parallel(pool, s.groups, [=](int64_t i) {
    const int64_t C = s.inputs, x_at = i * C * s.pixels(), z_at = i * s.outputs * s.out_pixels();
    group(s, images - i * kLanes, in + x_at, k, out + z_at, dout + z_at, dsum,
          {d.x + x_at, d.affine + i * 2 * C, d.taps + i * 9 * C,
           d.product + i * s.columns(kind) * s.outputs});
  });
  return ffi::Error::Success();
}

static auto forward_interface() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>().Attr<int64_t>("stride").Attr<int64_t>("images")
      .Arg<Array>().Arg<Array>().Arg<Array>().Arg<Array>().Arg<Array>()
      .Ret<Array>().Ret<Array>();
}

static auto backward_interface() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>().Attr<int64_t>("stride").Attr<int64_t>("images")
      .Arg<Array>().Arg<Array>().Arg<Array>().Arg<Array>().Arg<Array>()
      .Arg<Array>().Arg<Array>().Arg<Array>()
      .Ret<Array>().Ret<Array>().Ret<Array>().Ret<Array>();
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(DenseForward, forward<kDense>, forward_interface());
XLA_FFI_DEFINE_HANDLER_SYMBOL(DenseBackward, backward<kDense>, backward_interface());
XLA_FFI_DEFINE_HANDLER_SYMBOL(SeparableForward, forward<kSeparable>, forward_interface());
XLA_FFI_DEFINE_HANDLER_SYMBOL(SeparableBackward, backward<kSeparable>, backward_interface());
XLA_FFI_DEFINE_HANDLER_SYMBOL(PointwiseForward, forward<kPointwise>, forward_interface());
XLA_FFI_DEFINE_HANDLER_SYMBOL(PointwiseBackward, backward<kPointwise>, backward_interface());
