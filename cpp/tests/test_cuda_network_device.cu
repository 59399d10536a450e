// The network's kernels on the GPU against float64 on the CPU, on fresh random inputs and poisoned outputs; then how
// long they take and what that is of the memory's rate.
//   test_cuda_network_device            77 without a GPU
//   test_cuda_network_device --small    few images and no times, for compute-sanitizer
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "check.hpp"
#include "patch_order.hpp"
#include "vit_kernels.hpp"

namespace {

using namespace vitrify;
using namespace vitrify::cuda;

void require(cudaError_t status) {
  if (status != cudaSuccess) {
    std::fprintf(stderr, "%s\n", cudaGetErrorString(status));
    std::exit(2);
  }
}

std::mt19937& generator() {
  static std::mt19937 random{std::random_device{}()};
  return random;
}

std::vector<float> noise(std::size_t count, float scale) {
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(count);
  for (float& value : values) {
    value = normal(generator());
  }
  return values;
}

// Values as float16 holds them, on the GPU and here.
struct Halves {
  Halves(std::size_t count, float scale) : host(noise(count, scale)) {
    std::vector<__half> halves(count);
    for (std::size_t i = 0; i < count; ++i) {
      halves[i] = __float2half(host[i]);
      host[i] = __half2float(halves[i]);
    }
    require(cudaMalloc(&device, count * sizeof(__half)));
    require(cudaMemcpy(device, halves.data(), count * sizeof(__half), cudaMemcpyHostToDevice));
  }
  ~Halves() { cudaFree(device); }
  Halves(const Halves&) = delete;
  Halves& operator=(const Halves&) = delete;
  std::vector<float> host;
  __half* device = nullptr;
};

struct Floats {
  explicit Floats(const std::vector<float>& values) {
    require(cudaMalloc(&device, values.size() * sizeof(float)));
    require(cudaMemcpy(device, values.data(), values.size() * sizeof(float), cudaMemcpyHostToDevice));
  }
  ~Floats() { cudaFree(device); }
  Floats(const Floats&) = delete;
  Floats& operator=(const Floats&) = delete;
  float* device = nullptr;
};

// Results, which begin as NaN in either type.
struct Poisoned {
  explicit Poisoned(std::size_t values) : count(values) {
    require(cudaMalloc(&device, count * 2));
    require(cudaMemset(device, 0xFF, count * 2));
  }
  ~Poisoned() { cudaFree(device); }
  Poisoned(const Poisoned&) = delete;
  Poisoned& operator=(const Poisoned&) = delete;
  [[nodiscard]] std::vector<float> read(bool e4m3) const {
    require(cudaDeviceSynchronize());
    std::vector<unsigned char> bytes(count * 2);
    require(cudaMemcpy(bytes.data(), device, bytes.size(), cudaMemcpyDeviceToHost));
    std::vector<float> values(count);
    for (std::size_t i = 0; i < count; ++i) {
      if (e4m3) {
        __nv_fp8_e4m3 value;
        std::memcpy(&value, &bytes[i], 1);
        values[i] = static_cast<float>(value);
      } else {
        __half value;
        std::memcpy(&value, &bytes[2 * i], 2);
        values[i] = __half2float(value);
      }
    }
    return values;
  }
  std::size_t count;
  void* device = nullptr;
};

double relative_error(const std::vector<float>& got, const std::vector<double>& expected, double scale) {
  double difference = 0;
  double size = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double error = static_cast<double>(got[i]) / scale - expected[i];
    difference += std::isfinite(got[i]) ? error * error : 1e30;
    size += expected[i] * expected[i];
  }
  return std::sqrt(difference / size);
}

double bound(bool e4m3) { return e4m3 ? 0.04 : 2e-3; }  // e4m3 keeps four bits of a value

// Either kernel, whole or spread.
struct Way {
  bool warpgroups;
  Attention way;
};

cudaError_t attend(const Way& way, const AttentionShape& shape, const __half* qkv, void* out, const float* scale,
                   bool e4m3, cudaStream_t stream) {
  return (way.warpgroups ? launch_attention_warpgroup : launch_attention)(shape, qkv, out, scale, e4m3, way.way,
                                                                          stream);
}

std::string named(const Way& way) {
  return std::string(way.warpgroups ? "by warpgroups" : "general") + (way.way == Attention::spread ? ", spread" : "");
}

const std::vector<Way>& ways(const AttentionShape& shape) {
  static const std::vector<Way> general{{false, Attention::whole}, {false, Attention::spread}};
  static const std::vector<Way> all{
      {false, Attention::whole}, {false, Attention::spread}, {true, Attention::whole}, {true, Attention::spread}};
  return attention_by_warpgroups({1, 1, 1, shape.head}) ? all : general;
}

void test_attention(const AttentionShape& shape, const Way& variant, float spread) {
  const auto tokens = static_cast<std::size_t>(shape.tokens);
  const auto head = static_cast<std::size_t>(shape.head);
  const std::size_t width = static_cast<std::size_t>(shape.heads) * head;
  const std::size_t rows = static_cast<std::size_t>(shape.images) * tokens;
  const Halves qkv(rows * 3 * width, spread);
  std::vector<double> expected(rows * width);
  for (std::size_t image = 0; image < static_cast<std::size_t>(shape.images); ++image) {
    for (std::size_t h = 0; h < static_cast<std::size_t>(shape.heads); ++h) {
      const float* base = &qkv.host[image * tokens * 3 * width + h * head];
      for (std::size_t q = 0; q < tokens; ++q) {
        std::vector<double> scores(tokens);
        double largest = -1e300;
        for (std::size_t k = 0; k < tokens; ++k) {
          for (std::size_t d = 0; d < head; ++d) {
            scores[k] += static_cast<double>(base[q * 3 * width + d]) * base[(k * 3 + 1) * width + d];
          }
          largest = std::max(largest, scores[k]);
        }
        double sum = 0;
        for (double& score : scores) {
          score = std::exp2(score - largest);
          sum += score;
        }
        for (std::size_t k = 0; k < tokens; ++k) {
          for (std::size_t d = 0; d < head; ++d) {
            expected[(image * tokens + q) * width + h * head + d] +=
                scores[k] / sum * static_cast<double>(base[(k * 3 + 2) * width + d]);
          }
        }
      }
    }
  }
  for (const bool e4m3 : {false, true}) {
    const float scale = 20 / spread;  // so that nothing is cut off
    const Floats factor({scale});
    const Poisoned out(rows * width);
    require(attend(variant, shape, qkv.device, out.device, e4m3 ? factor.device : nullptr, e4m3, nullptr));
    const double error = relative_error(out.read(e4m3), expected, e4m3 ? scale : 1);
    CHECK(error < bound(e4m3), "attention of " + std::to_string(shape.tokens) + " tokens, heads of " +
                                   std::to_string(shape.head) + ", " + named(variant) + ": " + std::to_string(error));
  }
}

void test_token_attention(const AttentionShape& shape) {
  const auto tokens = static_cast<std::size_t>(shape.tokens);
  const auto head = static_cast<std::size_t>(shape.head);
  const std::size_t width = static_cast<std::size_t>(shape.heads) * head;
  const auto images = static_cast<std::size_t>(shape.images);
  const Halves q(images * width, 0.7F);
  const Halves kv(images * tokens * 2 * width, 0.7F);
  std::vector<double> expected(images * width);
  for (std::size_t image = 0; image < images; ++image) {
    for (std::size_t h = 0; h < static_cast<std::size_t>(shape.heads); ++h) {
      const float* keys = &kv.host[image * tokens * 2 * width + h * head];
      std::vector<double> scores(tokens);
      double sum = 0;
      for (std::size_t k = 0; k < tokens; ++k) {
        for (std::size_t d = 0; d < head; ++d) {
          scores[k] += static_cast<double>(q.host[image * width + h * head + d]) * keys[k * 2 * width + d];
        }
        scores[k] = std::exp2(scores[k]);
        sum += scores[k];
      }
      for (std::size_t k = 0; k < tokens; ++k) {
        for (std::size_t d = 0; d < head; ++d) {
          expected[image * width + h * head + d] +=
              scores[k] / sum * static_cast<double>(keys[(k * 2 + 1) * width + d]);
        }
      }
    }
  }
  const Poisoned out(images * width);
  require(launch_token_attention(shape, q.device, kv.device, static_cast<__half*>(out.device), nullptr));
  const double error = relative_error(out.read(false), expected, 1);
  CHECK(error < bound(false),
        "attention of one token among " + std::to_string(shape.tokens) + ": " + std::to_string(error));
}

void test_normalise(int rows, int width, std::int64_t stride) {
  const Halves x(static_cast<std::size_t>(rows) * static_cast<std::size_t>(stride), 3);
  const std::vector<float> constant = noise(static_cast<std::size_t>(width), 1);
  const Floats added(constant);
  std::vector<double> expected;
  for (int row = 0; row < rows; ++row) {
    double mean = 0;
    double squares = 0;
    const float* values = &x.host[static_cast<std::size_t>(row * stride)];
    for (int i = 0; i < width; ++i) {
      mean += (static_cast<double>(values[i]) + constant[static_cast<std::size_t>(i)]) / width;
    }
    for (int i = 0; i < width; ++i) {
      const double value = static_cast<double>(values[i]) + constant[static_cast<std::size_t>(i)] - mean;
      squares += value * value / width;
    }
    for (int i = 0; i < width; ++i) {
      expected.push_back((static_cast<double>(values[i]) + constant[static_cast<std::size_t>(i)] - mean) /
                         std::sqrt(squares + 1e-6));
    }
  }
  for (const bool e4m3 : {false, true}) {
    const float scale = 90;
    const Floats factor({scale});
    const Poisoned out(expected.size());
    require(launch_normalise({rows, width, stride, 1e-6F}, x.device, added.device, out.device,
                             e4m3 ? factor.device : nullptr, e4m3, nullptr));
    const double error = relative_error(out.read(e4m3), expected, e4m3 ? scale : 1);
    CHECK(error < bound(e4m3), "norm of " + std::to_string(width) + ": " + std::to_string(error));
  }
}

void test_patches(const PatchShape& shape) {
  const std::size_t area = static_cast<std::size_t>(shape.height) * static_cast<std::size_t>(shape.width);
  const Halves pixels(static_cast<std::size_t>(shape.images) * 3 * area, 1);
  const Floats wide(pixels.host);
  const int across = shape.width / shape.patch;
  const int down = shape.height / shape.patch;
  const int tokens = shape.prefix + across * down;
  const std::size_t count = static_cast<std::size_t>(shape.images * tokens) * static_cast<std::size_t>(shape.depth);
  for (const bool half : {false, true}) {
    const Poisoned out(count);
    require(launch_patches(shape, half ? static_cast<const void*>(pixels.device) : wide.device, half,
                           static_cast<__half*>(out.device), nullptr));
    const std::vector<float> got = out.read(false);
    std::size_t wrong = 0;
    std::size_t seen = 0;
    for (int image = 0; image < shape.images; ++image) {
      for (int c = 0; c < 3; ++c) {
        for (int y = 0; y < shape.height; ++y) {
          for (int x = 0; x < shape.width; ++x) {
            const int row = image * tokens + shape.prefix + y / shape.patch * across + x / shape.patch;
            const int column = (c * shape.patch + y % shape.patch) * shape.patch + x % shape.patch;
            const float expected = pixels.host[static_cast<std::size_t>(image * 3 + c) * area +
                                               static_cast<std::size_t>(y * shape.width + x)];
            const float value = got[static_cast<std::size_t>(row) * static_cast<std::size_t>(shape.depth) +
                                    static_cast<std::size_t>(column)];
            wrong += value == expected ? 0 : 1;
            ++seen;
          }
        }
      }
    }
    std::size_t untouched = 0;
    for (const float value : got) {
      untouched += std::isnan(value) ? 1 : 0;
    }
    CHECK(wrong == 0 && untouched == count - seen, "patches of " + std::to_string(shape.patch) + ": " +
                                                       std::to_string(wrong) + " wrong, " + std::to_string(untouched) +
                                                       " not written");
  }
}

void test_mean(int images, int tokens, int first, int width) {
  const Halves x(static_cast<std::size_t>(images * tokens * width), 1);
  std::vector<double> expected(static_cast<std::size_t>(images * width));
  for (int image = 0; image < images; ++image) {
    for (int token = first; token < tokens; ++token) {
      for (int i = 0; i < width; ++i) {
        expected[static_cast<std::size_t>(image * width + i)] +=
            static_cast<double>(x.host[static_cast<std::size_t>((image * tokens + token) * width + i)]) /
            (tokens - first);
      }
    }
  }
  const Poisoned out(expected.size());
  require(launch_mean(x.device, static_cast<__half*>(out.device), images, tokens, first, width, nullptr));
  CHECK(relative_error(out.read(false), expected, 1) < bound(false), "mean of tokens");
}

// Microseconds of one of many launches in a recorded graph.
template <typename Launch>
double time(Launch launch) {
  cudaStream_t stream = nullptr;
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  require(cudaStreamCreate(&stream));
  require(cudaEventCreate(&begin));
  require(cudaEventCreate(&end));
  constexpr int runs = 20;
  require(launch(stream));
  require(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < runs; ++i) {
    require(launch(stream));
  }
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  require(cudaStreamEndCapture(stream, &graph));
  require(cudaGraphInstantiate(&executable, graph, 0));
  float best = 1e9F;
  for (int round = 0; round < 6; ++round) {
    require(cudaEventRecord(begin, stream));
    require(cudaGraphLaunch(executable, stream));
    require(cudaEventRecord(end, stream));
    require(cudaEventSynchronize(end));
    float milliseconds = 0;
    require(cudaEventElapsedTime(&milliseconds, begin, end));
    best = std::min(best, milliseconds);
  }
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  cudaStreamDestroy(stream);
  return 1e3 * static_cast<double>(best) / runs;
}

void report(const std::string& what, double microseconds, double bytes, double operations) {
  std::printf("%-44s %9.2f us %8.0f GB/s %8.1f TFLOP/s\n", what.c_str(), microseconds, bytes / microseconds / 1e3,
              operations / microseconds / 1e6);
}

void time_all(int images) {
  const AttentionShape shape{images, 197, 12, 64};
  const std::size_t rows = static_cast<std::size_t>(images) * 197;
  Halves qkv(rows * 2304, 0.5F);
  const Poisoned out(rows * 3072);
  const Floats scale({30});
  const std::vector<float> zeros(768);
  const Floats constant(zeros);
  const std::string batch = " batch " + std::to_string(images);
  for (const AttentionShape& one : {shape, AttentionShape{images, 257, 6, 64}}) {
    for (const Way& way : ways(one)) {
      for (const bool e4m3 : {false, true}) {
        const double us = time(
            [&](cudaStream_t stream) { return attend(way, one, qkv.device, out.device, scale.device, e4m3, stream); });
        const double values = static_cast<double>(images) * one.tokens * one.heads * one.head;
        report("attention " + named(way) + ", " + std::to_string(one.tokens) + (e4m3 ? ", e4m3," : ", fp16,") + batch,
               us, values * (e4m3 ? 7 : 8), 4 * values * one.tokens);
      }
    }
  }
  for (const bool e4m3 : {false, true}) {
    const double us = time([&](cudaStream_t stream) {
      return launch_normalise({static_cast<int>(rows), 768, 768, 1e-6F}, qkv.device, constant.device, out.device,
                              scale.device, e4m3, stream);
    });
    report(std::string("norm") + (e4m3 ? " e4m3" : " fp16") + batch, us,
           static_cast<double>(rows) * 768 * (e4m3 ? 3 : 4), 0);
  }
  {
    const double us = time([&](cudaStream_t stream) {
      return launch_token_attention(shape, qkv.device, qkv.device, static_cast<__half*>(out.device), stream);
    });
    report("attention of one token" + batch, us, static_cast<double>(rows) * 768 * 4, 0);
  }
  for (const bool half : {false, true}) {
    Halves pixels(static_cast<std::size_t>(images) * 3 * 224 * 224 * 2, 1);
    const double us = time([&](cudaStream_t stream) {
      return launch_patches({images, 224, 224, 16, 1, 768}, pixels.device, half, static_cast<__half*>(out.device),
                            stream);
    });
    report(std::string("patches from ") + (half ? "fp16" : "fp32") + batch, us,
           static_cast<double>(images) * 3 * 224 * 224 * (half ? 4 : 6), 0);
  }
}

}  // namespace

int main(int count, char** arguments) {
  const bool small = count == 2 && std::strcmp(arguments[1], "--small") == 0;
  if (count > 2 || (count == 2 && !small)) {
    std::fprintf(stderr, "usage: test_cuda_network_device [--small]\n");
    return 2;
  }
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::fprintf(stderr, "no GPU\n");
    return 77;
  }
  for (const AttentionShape& shape : std::vector<AttentionShape>{{2, 197, 2, 64},
                                                                 {1, 17, 2, 64},
                                                                 {1, 208, 1, 64},
                                                                 {1, 209, 1, 64},
                                                                 {2, 261, 2, 64},
                                                                 {1, 577, 1, 64},
                                                                 {1, 17, 2, 32},
                                                                 {1, 100, 1, 48},
                                                                 {1, 65, 1, 80},
                                                                 {1, 50, 1, 96},
                                                                 {1, 197, 1, 128}}) {
    for (const Way& way : ways(shape)) {
      if (shape.tokens < 500 || !small) {
        test_attention(shape, way, 0.8F);
      }
      if (shape.tokens < 64) {
        test_attention(shape, way, 4);  // scores far apart
      }
    }
  }
  test_token_attention({2, 197, 3, 64});
  test_token_attention({1, 50, 2, 32});
  test_token_attention({1, 261, 1, 128});
  for (const int width : {16, 192, 384, 768, 1024, 1152, 1280, 1664, 2048}) {
    test_normalise(7, width, width);
    test_normalise(5, width, 3 * width);
  }
  test_normalise(small ? 64 : 9000, 768, 768);
  test_patches({2, 224, 224, 16, 1, 768});
  test_patches({2, 56, 42, 14, 5, 592});
  test_patches({1, 32, 48, 8, 0, 192});
  test_patches({1, 64, 64, 32, 1, 3072});
  test_mean(3, 197, 1, 768);
  test_mean(2, 50, 0, 96);
  if (!small) {
    for (const int images : {1, 8, 64, 256}) {
      time_all(images);
    }
  }
  return test::check_result();
}
