// What the GPU makes of the windows of a batch of mixed sizes equals the CPU core to the last bit, in float32 and,
// rounded, in float16; then how long a batch of photographs takes.
//   test_cuda_device            77 without a GPU
//   test_cuda_device --small    few images and no times, for compute-sanitizer
#include <cuda_fp16.h>

#include <cstdio>
#include <cstring>

#include "check.hpp"
#include "cuda_cases.hpp"
#include "launch.hpp"

namespace {

using namespace vitrify;
using namespace vitrify::cuda;

void require(cudaError_t status) {
  if (status != cudaSuccess) {
    std::fprintf(stderr, "%s\n", cudaGetErrorString(status));
    std::exit(2);
  }
}

template <typename Value>
Value* on_device(const Value* data, std::size_t count) {
  void* memory = nullptr;
  require(cudaMalloc(&memory, count * sizeof(Value) + 1));
  if (data != nullptr) {
    require(cudaMemcpy(memory, data, count * sizeof(Value), cudaMemcpyHostToDevice));
  }
  return static_cast<Value*>(memory);
}

// A plan and its pixels on the GPU.
struct Uploaded {
  Uploaded(const std::vector<test::CudaCase>& cases, const Preprocess& spec) {
    std::vector<std::uint8_t> pixels;
    for (std::size_t i = 0; i < cases.size(); ++i) {
      // Every third one is whole, as the GPU's own decoder leaves it.
      const Window window = plan.add(cases[i].stored.size, cases[i].orientation, spec, i % 3 == 2);
      const std::vector<std::uint8_t> decoded = test::cut(cases[i].stored, window);
      pixels.resize(plan.pixel_bytes);
      std::memcpy(pixels.data() + window.at, decoded.data(), decoded.size());
    }
    const Table table = normalised(spec);
    batch = {on_device(plan.jobs.data(), plan.jobs.size()), on_device(plan.numbers.data(), plan.numbers.size()),
             on_device(pixels.data(), pixels.size()), on_device(table[0].data(), 3 * 256),
             static_cast<unsigned>(cases.size())};
  }
  ~Uploaded() {
    for (const void* memory : {static_cast<const void*>(batch.jobs), static_cast<const void*>(batch.numbers),
                               static_cast<const void*>(batch.pixels), static_cast<const void*>(batch.table)}) {
      cudaFree(const_cast<void*>(memory));
    }
  }
  Plan plan;
  Batch batch{};
};

void test_equality(bool small) {
  const auto cases = test::cuda_cases(small ? 16 : 200);
  auto specs = test::cuda_specs();
  if (small) {
    specs = {specs[1], specs[12]};  // nearest, and bicubic with its sums
  }
  for (const Preprocess& spec : specs) {
    const Uploaded uploaded(cases, spec);
    const std::size_t item = 3 * static_cast<std::size_t>(spec.crop.width) * spec.crop.height;
    std::vector<float> floats(item * cases.size());
    std::vector<__half> halves(item * cases.size());
    float* out = on_device<float>(nullptr, floats.size());
    require(launch(uploaded.batch, spec, false, out, nullptr));
    require(cudaMemcpy(floats.data(), out, floats.size() * sizeof(float), cudaMemcpyDeviceToHost));
    require(launch(uploaded.batch, spec, true, out, nullptr));
    require(cudaMemcpy(halves.data(), out, halves.size() * sizeof(__half), cudaMemcpyDeviceToHost));
    require(cudaFree(out));
    for (std::size_t i = 0; i < cases.size(); ++i) {
      const std::vector<float> expected = test::cpu_tensor(cases[i], spec);
      CHECK(std::memcmp(&floats[i * item], expected.data(), item * sizeof(float)) == 0, "float32, " + std::to_string(i));
      bool same = true;
      for (std::size_t k = 0; k < item; ++k) {
        const __half rounded = __float2half(expected[k]);
        same = same && std::memcmp(&rounded, &halves[i * item + k], sizeof(__half)) == 0;
      }
      CHECK(same, "float16, " + std::to_string(i));
    }
  }
  std::printf("%zu images of mixed sizes, %zu specs, float32 and float16\n", cases.size(), specs.size());
}

void time(Size size, unsigned count) {
  Preprocess spec;
  spec.resize_box = {248, 248};
  spec.crop = {224, 224};
  spec.mean = spec.std = {0.5F, 0.5F, 0.5F};
  test::CudaCase one{{size, std::vector<std::uint8_t>(3 * static_cast<std::size_t>(size.width) * size.height, 127)}, 1};
  const std::vector<test::CudaCase> cases(count, one);
  const Uploaded uploaded(cases, spec);
  const std::size_t values = std::size_t{3} * 224 * 224 * count;
  float* out = on_device<float>(nullptr, values);
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  require(cudaEventCreate(&begin));
  require(cudaEventCreate(&end));
  constexpr int runs = 20;
  require(launch(uploaded.batch, spec, false, out, nullptr));
  require(cudaEventRecord(begin));
  for (int i = 0; i < runs; ++i) {
    require(launch(uploaded.batch, spec, false, out, nullptr));
  }
  require(cudaEventRecord(end));
  require(cudaEventSynchronize(end));
  float milliseconds = 0;
  require(cudaEventElapsedTime(&milliseconds, begin, end));
  const double seconds = milliseconds / runs / 1e3;
  const double bytes = static_cast<double>(uploaded.plan.pixel_bytes) + static_cast<double>(values) * sizeof(float);
  std::printf("%dx%d, batch %u: %.3f ms, %.0f images/s, %.0f GB/s of pixels read and written\n", size.width, size.height,
              count, 1e3 * seconds, count / seconds, bytes / seconds / 1e9);
  require(cudaFree(out));
  require(cudaEventDestroy(begin));
  require(cudaEventDestroy(end));
}

}  // namespace

int main(int count, char** arguments) {
  const bool small = count == 2 && std::strcmp(arguments[1], "--small") == 0;
  if (count > 2 || (count == 2 && !small)) {
    std::fprintf(stderr, "usage: test_cuda_device [--small]\n");
    return 2;
  }
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::fprintf(stderr, "no GPU\n");
    return 77;
  }
  test_equality(small);
  if (!small) {
    time({500, 375}, 1);
    time({500, 375}, 64);
    time({1920, 1080}, 64);
    time({4032, 3024}, 16);
  }
  return test::check_result();
}
