// The convolutions of the network for a CPU, one group of images at a time; native.cc calls them.
//
// Activations are float32 [G, C, H, W, kLanes]: G groups of as many images as one vector of the
// processor has numbers, side by side in that vector, so that every loop below is over whole
// vectors and a pixel's neighbours are whole vectors too.
//
// Within a group a convolution is a matrix product, kernel [K, F] x columns [K, pixels], of which
// only a block of rows exists at a time, small enough for the cache:
//   dense      columns are the nine windows of each input channel, K = 9 C
//   separable  columns are the depthwise convolution of x = relu(scale y + shift + skip), K = C
//   pointwise  columns are every stride-th pixel of each channel, K = C
// Each also sums its output and the output's square over each channel, which is what batch
// normalisation asks for.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

// The numbers in one vector of the processor, and the sums (kTall x kWide) that its registers hold
// at once: 20 of 32, or 10 of 16. Wider vectors than the processor's own are ten times as slow.
#if defined(__AVX512F__)
constexpr int kLanes = 16, kTall = 5, kWide = 4;
#elif defined(__AVX__)
constexpr int kLanes = 8, kTall = 5, kWide = 2;
#elif defined(__aarch64__)
constexpr int kLanes = 4, kTall = 5, kWide = 4;
#else
constexpr int kLanes = 4, kTall = 5, kWide = 2;
#endif
constexpr int64_t kBlock = 64;  // pixels of a block of columns
typedef float Vec __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));
typedef int32_t Mask __attribute__((vector_size(4 * kLanes)));

enum Kind { kDense, kSeparable, kPointwise };

struct Shape {
  int64_t groups, inputs, height, width, outputs, out_height, out_width, stride;
  int64_t pixels() const { return height * width; }
  int64_t out_pixels() const { return out_height * out_width; }
  int64_t block_rows() const {
    return std::min(out_height, std::max<int64_t>(1, kBlock / out_width));
  }
  int64_t columns(Kind kind) const { return kind == kDense ? 9 * inputs : inputs; }
};

struct Input {         // of one group
  const Vec* y;        // [C, H, W]
  const float* scale;  // [C]; null: x is y itself
  const float* shift;  // [C]
  const Vec* skip;     // [C, H, W], or null
  Vec* x;              // [C, H, W]: where the forward pass keeps x for the backward pass, or null
};

struct Kernels {
  const float* taps;     // [9, C], if separable
  const float* product;  // [K, F]
};

static void clear(Vec* x, int64_t count) {  // std::fill_n would assume whole lines of the cache
  for (int64_t i = 0; i < count; ++i) x[i] = Vec{};
}

static float total(Vec v) {  // by halves, as a processor adds up a vector
  float lane[kLanes];
  std::memcpy(lane, &v, sizeof lane);
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lane[i] += lane[half + i];
  return lane[0];
}

// The lanes that hold images: the last group may be filled up with none.
static Mask first_lanes(int64_t images) {
  Mask mask;
  for (int i = 0; i < kLanes; ++i) mask[i] = i < images ? -1 : 0;
  return mask;
}

static Vec relu(Vec x) { return x < 0 ? Vec{} : x; }  // keeps NaN

// ---- matrix products of vectors, in tiles that fit the registers

// out[m][n] = sum_k a(k, m) * b[k][n], where a(k, m) = a[k * ak + m * am]
template <int M, int N>
static void product_tile(const float* a, int64_t ak, int64_t am, const Vec* b, int64_t b_step,
                         int64_t K, Vec* out, int64_t out_step) {
  Vec sum[M][N] = {};
  for (int64_t k = 0; k < K; ++k)
    for (int m = 0; m < M; ++m)
      for (int n = 0; n < N; ++n) sum[m][n] += a[k * ak + m * am] * b[k * b_step + n];
  for (int m = 0; m < M; ++m)
    for (int n = 0; n < N; ++n) out[m * out_step + n] = sum[m][n];
}

static void product(const float* a, int64_t ak, int64_t am, const Vec* b, int64_t b_step, int64_t K,
                    Vec* out, int64_t out_step, int64_t M, int64_t N) {
  int64_t n = 0;
  for (; n + kWide <= N; n += kWide) {
    int64_t m = 0;
    for (; m + kTall <= M; m += kTall)
      product_tile<kTall, kWide>(a + m * am, ak, am, b + n, b_step, K, out + m * out_step + n,
                                 out_step);
    for (; m < M; ++m)
      product_tile<1, kWide>(a + m * am, ak, am, b + n, b_step, K, out + m * out_step + n,
                             out_step);
  }
  for (; n < N; ++n)
    for (int64_t m = 0; m < M; ++m)
      product_tile<1, 1>(a + m * am, ak, am, b + n, b_step, K, out + m * out_step + n, out_step);
}

// sum[k][m] += sum_n a[k][n] * b[m][n], in each lane by itself
template <int K, int M>
static void outer_tile(const Vec* a, const Vec* b, int64_t N, Vec* sum, int64_t sum_step) {
  Vec tile[K][M];
  for (int k = 0; k < K; ++k)
    for (int m = 0; m < M; ++m) tile[k][m] = sum[k * sum_step + m];
  for (int64_t n = 0; n < N; ++n)
    for (int k = 0; k < K; ++k)
      for (int m = 0; m < M; ++m) tile[k][m] += a[k * N + n] * b[m * N + n];
  for (int k = 0; k < K; ++k)
    for (int m = 0; m < M; ++m) sum[k * sum_step + m] = tile[k][m];
}

static void outer(const Vec* a, int64_t K, const Vec* b, int64_t M, int64_t N, Vec* sum) {
  int64_t k = 0;
  for (; k + kWide <= K; k += kWide) {
    int64_t m = 0;
    for (; m + kTall <= M; m += kTall)
      outer_tile<kWide, kTall>(a + k * N, b + m * N, N, sum + k * M + m, M);
    for (; m < M; ++m) outer_tile<kWide, 1>(a + k * N, b + m * N, N, sum + k * M + m, M);
  }
  for (; k < K; ++k)
    for (int64_t m = 0; m < M; ++m) outer_tile<1, 1>(a + k * N, b + m * N, N, sum + k * M + m, M);
}

// ---- columns: what the product sees of the input

// Rows [first, first + rows) of a channel of x, with zeros on each side and beyond the image.
static void padded_rows(const Input& input, const Shape& s, int64_t c, int64_t first, int64_t rows,
                        Vec* out) {
  const float scale = input.scale ? input.scale[c] : 1, shift = input.scale ? input.shift[c] : 0;
  for (int64_t r = first; r < first + rows; ++r, out += s.width + 2) {
    if (r < 0 || r >= s.height) {
      clear(out, s.width + 2);
      continue;
    }
    const int64_t at = c * s.pixels() + r * s.width;
    const Vec *y = input.y + at, *skip = input.skip ? input.skip + at : nullptr;
    Vec* x = input.x ? input.x + at : nullptr;
    out[0] = out[s.width + 1] = Vec{};
    if (!input.scale)
      for (int64_t w = 0; w < s.width; ++w) out[w + 1] = y[w];
    else if (skip)
      for (int64_t w = 0; w < s.width; ++w) out[w + 1] = relu(y[w] * scale + shift + skip[w]);
    else
      for (int64_t w = 0; w < s.width; ++w) out[w + 1] = relu(y[w] * scale + shift);
    if (x)
      for (int64_t w = 0; w < s.width; ++w) x[w] = out[w + 1];
  }
}

// Columns [K, rows * out_width] of a block of output rows; `pad` is scratch for one channel.
template <Kind kind, int stride>
static void make_columns(const Input& input, const Shape& s, const Kernels& k, int64_t first,
                         int64_t rows, Vec* pad, Vec* out) {
  const int64_t n = rows * s.out_width, step = s.width + 2;
  for (int64_t c = 0; c < s.inputs; ++c) {
    if (kind == kPointwise) {
      const Vec* y = input.y + c * s.pixels();
      for (int64_t h = first; h < first + rows; ++h)
        for (int64_t w = 0; w < s.out_width; ++w) *out++ = y[(h * s.width + w) * stride];
      continue;
    }
    float t[9];
    for (int i = 0; i < 9 && kind == kSeparable; ++i) t[i] = k.taps[i * s.inputs + c];
    padded_rows(input, s, c, first * stride - 1, (rows - 1) * stride + 3, pad);
    for (int64_t h = 0; h < rows; ++h)
      for (int64_t w = 0; w < s.out_width; ++w) {
        const Vec* p = pad + h * stride * step + w * stride;
        const int64_t pixel = h * s.out_width + w;
        if (kind == kSeparable)
          out[pixel] = p[0] * t[0] + p[1] * t[1] + p[2] * t[2] + p[step] * t[3] +
                       p[step + 1] * t[4] + p[step + 2] * t[5] + p[2 * step] * t[6] +
                       p[2 * step + 1] * t[7] + p[2 * step + 2] * t[8];
        else
          for (int i = 0; i < 9; ++i) out[i * s.inputs * n + pixel] = p[i / 3 * step + i % 3];
      }
    out += n;
  }
}

// ---- one group of images

// Memory that each thread keeps from call to call.
static Vec* scratch(int which, int64_t count) {
  static thread_local std::vector<Vec> store[5];
  if (int64_t(store[which].size()) < count) store[which].resize(count);
  return store[which].data();
}

// z [F, H', W'] = convolution of x [C, H, W]; sums [2, F] of z and of its square over the images
template <Kind kind, int stride>
static void forward_group(const Shape& s, int64_t images, const Input& input, const Kernels& k,
                          Vec* z, float* sums) {
  const Mask mask = first_lanes(images);
  const int64_t K = s.columns(kind), most = s.block_rows();
  Vec* pad = scratch(0, (most * stride + 2) * (s.width + 2));
  Vec* columns = scratch(1, K * most * s.out_width);
  Vec* sum = scratch(2, 2 * s.outputs);
  clear(sum, 2 * s.outputs);
  for (int64_t h = 0; h < s.out_height; h += most) {
    const int64_t rows = std::min(most, s.out_height - h), n = rows * s.out_width;
    make_columns<kind, stride>(input, s, k, h, rows, pad, columns);
    Vec* out = z + h * s.out_width;
    product(k.product, s.outputs, 1, columns, n, K, out, s.out_pixels(), s.outputs, n);
    for (int64_t f = 0; f < s.outputs; ++f) {
      Vec first = sum[f], second = sum[s.outputs + f];
      for (int64_t i = 0; i < n; ++i) {
        const Vec v = mask ? out[f * s.out_pixels() + i] : Vec{};
        first += v;
        second += v * v;
      }
      sum[f] = first;
      sum[s.outputs + f] = second;
    }
  }
  for (int64_t f = 0; f < 2 * s.outputs; ++f) sums[f] = total(sum[f]);
}

// Zeros around the planes [height + 2, width + 2] of each channel.
static void clear_border(Vec* x, int64_t channels, int64_t height, int64_t width) {
  for (; channels > 0; --channels, x += width + 2) {
    clear(x, width + 2);
    for (int64_t h = 0; h < height; ++h) x += width + 2, x[0] = x[width + 1] = Vec{};
    x += width + 2;
    clear(x, width + 2);
  }
}

// From what the backward pass has x: as it was kept, or to be computed again.
static Input again(const Input& input) { return input.x ? Input{input.x} : input; }

struct Gradients {  // of one group
  Vec* y;           // [C, H, W], unless dense
  Vec* skip;        // the same, or null
  float* affine;    // [2, C] of scale and shift, if separable
  float* taps;      // [9, C], if separable
  float* product;   // [K, F]
};

// Gradients of one channel of a separable convolution, from those of its columns, `g`, which are
// padded by one pixel on each side, and from those of x where it has been kept, `dx`. `pad` and
// `dpad` are scratch for the padded channel.
template <int stride>
static void depthwise_backward(const Shape& s, const Input& input, const Kernels& k, int64_t c,
                               const Vec* g, const Vec* dx, Vec* pad, Vec* dpad,
                               const Gradients& d) {
  const int64_t step = s.width + 2, g_step = s.out_width + 2;
  float t[9];
  for (int i = 0; i < 9; ++i) t[i] = k.taps[i * s.inputs + c];
  padded_rows(again(input), s, c, -1, s.height + 2, pad);
  if (stride != 1) clear(dpad, (s.height + 2) * step);
  const float channel_scale = input.scale[c];
  Vec taps[9] = {}, scale = {}, shift = {};
  for (int64_t h = 0; h < s.out_height; ++h)
    for (int64_t w = 0; w < s.out_width; ++w) {
      const Vec v = g[(h + 1) * g_step + w + 1];
      const int64_t corner = h * stride * step + w * stride;
      for (int i = 0; i < 9; ++i) {
        taps[i] += pad[corner + i / 3 * step + i % 3] * v;
        if (stride != 1) dpad[corner + i / 3 * step + i % 3] += v * t[i];
      }
    }
  for (int64_t h = 0; h < s.height; ++h)
    for (int64_t w = 0; w < s.width; ++w) {
      const Vec* q = g + h * g_step + w;
      const int64_t at = c * s.pixels() + h * s.width + w;
      Vec v = stride != 1 ? dpad[(h + 1) * step + w + 1]
                          : q[0] * t[8] + q[1] * t[7] + q[2] * t[6] + q[g_step] * t[5] +
                                q[g_step + 1] * t[4] + q[g_step + 2] * t[3] + q[2 * g_step] * t[2] +
                                q[2 * g_step + 1] * t[1] + q[2 * g_step + 2] * t[0];
      if (dx) v += dx[at];
      v = pad[(h + 1) * step + w + 1] > 0 ? v : Vec{};
      scale += v * input.y[at];
      shift += v;
      if (d.skip) d.skip[at] = v;
      d.y[at] = v * channel_scale;
    }
  for (int i = 0; i < 9; ++i) d.taps[i * s.inputs + c] = total(taps[i]);
  d.affine[c] = total(scale);
  d.affine[s.inputs + c] = total(shift);
}

// Gradients, from those of z, `dz` [F, H', W'], of the sums, `dsums` [2, F], and of the kept x.
template <Kind kind, int stride>
static void backward_group(const Shape& s, int64_t images, const Input& input, const Kernels& k,
                           const Vec* z, const Vec* dz, const float* dsums, const Vec* dx,
                           const Gradients& d) {
  const Mask mask = first_lanes(images);
  const int64_t K = s.columns(kind), F = s.outputs, most = s.block_rows();
  const int64_t g_step = s.out_width + 2, g_plane = (s.out_height + 2) * g_step;
  Vec* pad = scratch(0, 2 * (s.height + 2) * (s.width + 2));
  Vec* columns = scratch(1, K * most * s.out_width);
  Vec* g = scratch(2, F * most * s.out_width);
  Vec* sum = scratch(3, K * F);
  Vec* padded = scratch(4, kind == kDense ? 0 : K * (kind == kSeparable ? g_plane : s.out_width));
  Vec* row = padded;
  clear(sum, K * F);
  if (kind == kSeparable) clear_border(padded, K, s.out_height, s.out_width);
  if (kind == kPointwise && stride != 1) clear(d.y, s.inputs * s.pixels());
  for (int64_t h = 0; h < s.out_height; h += most) {
    const int64_t rows = std::min(most, s.out_height - h), n = rows * s.out_width;
    make_columns<kind, stride>(again(input), s, k, h, rows, pad, columns);
    for (int64_t f = 0; f < F; ++f)
      for (int64_t i = 0; i < n; ++i) {
        const int64_t at = f * s.out_pixels() + h * s.out_width + i;
        const Vec v = dz[at] + z[at] * (2 * dsums[F + f]) + dsums[f];
        g[f * n + i] = mask ? v : Vec{};
      }
    outer(columns, K, g, F, n, sum);
    if (kind == kDense) continue;
    for (int64_t r = 0; r < rows; ++r) {
      Vec* out = kind == kSeparable ? padded + (h + r + 1) * g_step + 1 : row;
      const int64_t step = kind == kSeparable ? g_plane : s.out_width;
      product(k.product, 1, F, g + r * s.out_width, n, F, out, step, K, s.out_width);
      if (kind == kSeparable) continue;
      for (int64_t c = 0; c < K; ++c)
        for (int64_t w = 0; w < s.out_width; ++w)
          d.y[c * s.pixels() + ((h + r) * s.width + w) * stride] = row[c * s.out_width + w];
    }
  }
  for (int64_t i = 0; i < K * F; ++i) d.product[i] = total(sum[i]);
  if (kind != kSeparable) return;
  for (int64_t c = 0; c < K; ++c)
    depthwise_backward<stride>(s, input, k, c, padded + c * g_plane, dx, pad,
                               pad + (s.height + 2) * (s.width + 2), d);
}
