// Times the cuda engine's network on tensors that lie on the GPU, and holds its logits to a reference:
//   cuda_engine MODEL.onnx TENSORS.f32 LOGITS.f32 fp16|fp8 BATCH...
// TENSORS are as many as the largest batch or more, LOGITS the reference's for each. fp8 is calibrated on
// CALIBRATION.f32, which VITRIFY_CALIBRATION names. A line of JSON a batch size.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "engines/cuda/network.hpp"
#include "engines/cuda/scales.hpp"
#include "machine/cache.hpp"
#include "vitrify/spec.hpp"

namespace {

using namespace vitrify;
using namespace vitrify::engines;

std::vector<float> floats_in(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) {
    std::fprintf(stderr, "cannot open %s\n", path.c_str());
    std::exit(2);
  }
  std::vector<float> values(static_cast<std::size_t>(file.tellg()) / sizeof(float));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(float)));
  return values;
}

// The median of nine means, in milliseconds.
double time(Network& network, int count, bool half) {
  const Event begin = create_event(cudaEventDefault);
  const Event end = create_event(cudaEventDefault);
  const int repeats = std::max(5, 768 / count);
  std::vector<float> times;
  for (int round = 0; round < 10; ++round) {
    check(cudaEventRecord(begin.get(), network.stream()), "event");
    for (int i = 0; i < repeats; ++i) {
      network.run(count, half);
    }
    check(cudaEventRecord(end.get(), network.stream()), "event");
    check(cudaEventSynchronize(end.get()), "batch");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()), "time");
    if (round > 0) {
      times.push_back(milliseconds / static_cast<float>(repeats));
    }
  }
  std::sort(times.begin(), times.end());
  return static_cast<double>(times[times.size() / 2]);
}

int run(int count, char** arguments) {
  const std::string path = arguments[1];
  const std::vector<float> tensors = floats_in(arguments[2]);
  const std::vector<float> expected = floats_in(arguments[3]);
  const std::string precision = arguments[4];
  const ModelSpec spec = read_spec(path);
  const auto start = std::chrono::steady_clock::now();
  const OnnxGraph graph = read_onnx_graph(path);
  const Vit vit = vit_from_graph(graph, spec, path);
  std::vector<Magnitudes> magnitudes;
  const std::size_t item = spec.tensor_size();
  const std::size_t classes = spec.labels.size();
  if (precision == "fp8") {
    const std::vector<float> seen = floats_in(std::getenv("VITRIFY_CALIBRATION"));
    const Weights weights(vit, {});
    Network network(weights);
    const auto images = static_cast<int>(seen.size() / item);
    network.reserve(images);
    check(cudaMemcpy(network.pixels(), seen.data(), seen.size() * sizeof(float), cudaMemcpyHostToDevice), "copy");
    magnitudes = network.magnitudes(images, false);
    write_scales(path, magnitudes);
  }
  const Weights weights(vit, magnitudes);
  Network network(weights, Tunings(machine::cache_folder() / "cublaslt"));
  check(cudaDeviceSynchronize(), "weights");
  const double opened = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  int largest = 0;
  for (int i = 5; i < count; ++i) {
    largest = std::max(largest, std::atoi(arguments[i]));
  }
  network.reserve(largest);
  for (int i = 5; i < count; ++i) {
    const int batch = std::atoi(arguments[i]);
    const auto images = static_cast<std::size_t>(batch);
    check(cudaMemcpy(network.pixels(), tensors.data(), images * item * sizeof(float), cudaMemcpyHostToDevice), "copy");
    const auto before = std::chrono::steady_clock::now();
    network.run(batch, false);
    check(cudaStreamSynchronize(network.stream()), "batch");
    const double tuned = std::chrono::duration<double>(std::chrono::steady_clock::now() - before).count();
    std::vector<float> logits(images * classes);
    check(cudaMemcpy(logits.data(), network.logits(), logits.size() * sizeof(float), cudaMemcpyDeviceToHost), "copy");
    double difference = 0;
    double size = 0;
    std::size_t agree = 0;
    for (std::size_t row = 0; row < images; ++row) {
      const auto at = static_cast<std::ptrdiff_t>(row * classes);
      const auto end = at + static_cast<std::ptrdiff_t>(classes);
      for (auto k = static_cast<std::size_t>(at); k < static_cast<std::size_t>(end); ++k) {
        const double error = static_cast<double>(logits[k]) - static_cast<double>(expected[k]);
        difference += std::isfinite(logits[k]) ? error * error : 1e30;
        size += static_cast<double>(expected[k]) * static_cast<double>(expected[k]);
      }
      agree += std::max_element(logits.begin() + at, logits.begin() + end) - logits.begin() ==
                       std::max_element(expected.begin() + at, expected.begin() + end) - expected.begin()
                   ? 1U
                   : 0U;
    }
    const double ms = time(network, batch, false);
    std::printf(
        "{\"engine\": \"vitrify cuda\", \"precision\": \"%s\", \"batch\": %d, \"ms\": %.4f, \"images_per_s\": %.0f, "
        "\"piece\": %d, \"relative_error\": %.5f, \"top1_agreement\": %.4f, \"open_s\": %.2f, \"tune_s\": %.2f}\n",
        precision.c_str(), batch, ms, batch / ms * 1e3, network.piece_of(batch, false), std::sqrt(difference / size),
        static_cast<double>(agree) / batch, opened, tuned);
    std::fflush(stdout);
    for (const ProductShape& shape : network.products().started()) {
      std::fprintf(stderr, "  %6d x %4d x %6d by %4d  %8.2f us\n", shape.images, shape.rows, shape.inputs,
                   shape.outputs, static_cast<double>(network.products().microseconds(shape)));
    }
  }
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 6) {
    std::fprintf(stderr, "usage: cuda_engine MODEL.onnx TENSORS.f32 LOGITS.f32 fp16|fp8 BATCH...\n");
    return 2;
  }
  try {
    return run(count, arguments);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
