// How far nvJPEG's pixels are from this project's decoder's, as JSON.
//   test_nvjpeg [--backend auto|hardware|gpu-hybrid|hybrid] [--repeat-chroma] [--small] [JPEG...]    77 without a GPU
//
// Without files it makes some of every sampling itself. Fails where an image that nvJPEG takes is not decoded: skipped,
// shifted or torn images are far away on the mean, and its rounding and its chroma filter are not.
#include <cmath>
#include <cstring>

#include "check.hpp"
#include "cuda_memory.hpp"
#include "gpu_jpeg.hpp"
#include "make_jpeg.hpp"
#include "reader.hpp"
#include "shares.hpp"

namespace {

using namespace vitrify;
using namespace vitrify::engines;

constexpr double kMeanBound = 4;  // in 1/255; of an image that was skipped it is dozens

struct Named {
  std::string name;
  std::vector<std::uint8_t> bytes;
};

struct Arguments {
  NvjpegOptions options;
  bool small = false;
  std::vector<Named> files;
};

std::vector<Named> made(bool small) {
  std::vector<Named> files;
  for (const auto& [horizontal, vertical] : {std::pair{1, 1}, {2, 1}, {1, 2}, {2, 2}}) {
    for (const Size size : {Size{1920, 1080}, Size{500, 375}, Size{333, 777}, Size{17, 19}}) {
      if (small && size.width * size.height > 200'000) {
        continue;
      }
      test::JpegKind kind{horizontal, vertical};
      kind.restart = size.width == 500 ? 5 : 0;
      kind.grey = size.width == 333 && horizontal == 1 && vertical == 1;
      const auto seed = static_cast<unsigned>(files.size());
      files.push_back({std::to_string(size.width) + "x" + std::to_string(size.height) +
                           (kind.grey ? " grey" : " " + std::to_string(horizontal) + "x" + std::to_string(vertical)),
                       test::make_jpeg(test::scene(size, seed), kind)});
    }
  }
  return files;
}

// Sums of one comparison.
struct Drift {
  double sum = 0;
  double values = 0;
  double largest = 0;

  void add(double difference) {
    sum += difference;
    values += 1;
    largest = std::max(largest, difference);
  }
  void add(const Drift& other) {
    sum += other.sum;
    values += other.values;
    largest = std::max(largest, other.largest);
  }
  [[nodiscard]] double mean() const { return values > 0 ? sum / values : 0; }
};

Drift of_pixels(const Image& ours, const std::vector<std::uint8_t>& theirs) {
  Drift drift;
  for (std::size_t i = 0; i < theirs.size(); ++i) {
    drift.add(std::abs(int{ours.rgb[i]} - int{theirs[i]}));
  }
  return drift;
}

// After the resize and the crop that most models have, where single pixels no longer count.
Drift of_tensors(const Image& ours, const std::vector<std::uint8_t>& theirs) {
  Preprocess spec;
  spec.resize_box = {256, 256};
  spec.crop = {224, 224};
  std::vector<float> one(std::size_t{3} * 224 * 224);
  std::vector<float> other(one.size());
  preprocess_rgb(ours.rgb.data(), ours.size, spec, one.data());
  preprocess_rgb(theirs.data(), ours.size, spec, other.data());
  Drift drift;
  for (std::size_t i = 0; i < one.size(); ++i) {
    drift.add(255.0 * std::fabs(one[i] - other[i]));
  }
  return drift;
}

void print(const char* name, const Drift& drift, const char* end) {
  std::printf("\"%s\": {\"mean\": %.4f, \"largest\": %.1f}%s", name, drift.mean(), drift.largest, end);
}

// The image as it is stored: nvJPEG turns nothing.
Image stored(const std::vector<std::uint8_t>& bytes, bool& plain) {
  const auto reader = pixels::open(bytes.data(), bytes.size(), {});
  plain = reader->is_plain_jpeg();
  Image image{reader->size(), {}};
  image.rgb.resize(3 * static_cast<std::size_t>(image.size.width) * static_cast<std::size_t>(image.size.height));
  const pixels::Range columns{0, image.size.width};
  reader->read(columns, {0, image.size.height}, pixels::copy_to(image.rgb.data(), columns, 0)(0));
  return image;
}

int run(const Arguments& arguments) {
  const auto library = open_nvjpeg(arguments.options);
  const auto decoder = library->decoder();
  const Stream stream = create_stream();
  std::vector<const Named*> taken;
  std::vector<Image> ours;
  std::vector<EncodedJpeg> batch;
  std::vector<DeviceMemory> memory;
  for (const Named& file : arguments.files) {
    bool plain = false;
    Image image = stored(file.bytes, plain);
    if (!plain || !decoder->takes(file.bytes.data(), file.bytes.size(), image.size)) {
      std::fprintf(stderr, "%s: for the CPU\n", file.name.c_str());
      continue;
    }
    memory.push_back(device_memory(image.rgb.size()));
    check(cudaMemset(memory.back().get(), 0, image.rgb.size()), "CUDA does not clear");
    batch.push_back(
        {file.bytes.data(), file.bytes.size(), image.size, static_cast<std::uint8_t*>(memory.back().get())});
    taken.push_back(&file);
    ours.push_back(std::move(image));
  }
  CHECK(!batch.empty(), "nvJPEG takes none of the images");
  check(cudaDeviceSynchronize(), "the GPU failed");
  Drift pixels;
  Drift tensors;
  const bool decoded = !batch.empty() && decoder->decode(batch, stream.get());
  CHECK(decoded || batch.empty(), "nvJPEG refuses the batch");
  for (std::size_t i = 0; !decoded && i < batch.size(); ++i) {
    CHECK(decoder->decode({batch[i]}, stream.get()), "nvJPEG refuses " + taken[i]->name);  // which of them it is
  }
  check(cudaStreamSynchronize(stream.get()), "the GPU failed");
  for (std::size_t i = 0; decoded && i < batch.size(); ++i) {
    std::vector<std::uint8_t> theirs(ours[i].rgb.size());
    check(cudaMemcpy(theirs.data(), batch[i].rgb, theirs.size(), cudaMemcpyDeviceToHost), "CUDA does not copy");
    const Drift of_image = of_pixels(ours[i], theirs);
    const Drift of_tensor = of_tensors(ours[i], theirs);
    std::fprintf(stderr, "%s: pixels %.4f, largest %.0f; tensor %.4f, largest %.1f\n", taken[i]->name.c_str(),
                 of_image.mean(), of_image.largest, of_tensor.mean(), of_tensor.largest);
    CHECK(of_image.mean() < kMeanBound, taken[i]->name + " was not decoded as it should be");
    pixels.add(of_image);
    tensors.add(of_tensor);
  }
  std::printf("{\"decoder\": \"%s\", \"interpolated\": %s, \"images\": %zu, \"taken\": %zu, ", library->name().c_str(),
              arguments.options.interpolate ? "true" : "false", arguments.files.size(), batch.size());
  print("pixels", pixels, ", ");
  print("tensor_224", tensors, "}\n");
  return test::check_result();
}

}  // namespace

int main(int count, char** texts) {
  Arguments arguments;
  for (int i = 1; i < count; ++i) {
    const std::string text = texts[i];
    if (text == "--backend" && i + 1 < count) {
      arguments.options.backend = texts[++i];
    } else if (text == "--repeat-chroma") {
      arguments.options.interpolate = false;
    } else if (text == "--small") {
      arguments.small = true;
    } else {
      arguments.files.push_back({text, test::read_file(text)});
    }
  }
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::fprintf(stderr, "no GPU\n");
    return 77;
  }
  if (arguments.files.empty()) {
    arguments.files = made(arguments.small);
  }
  try {
    return run(arguments);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 2;
  }
}
