// A thousand images of mixed sizes and formats, damaged ones among them, through many threads: every answer stays what
// it was, and memory does not grow. Prints what it measured as JSON.
//   test_soak MODEL GOLDEN_FOLDER [--images 1000] [--passes 4] [--threads 8] [--batch 16] [--streams 2]
//             [--decode cpu|nvjpeg] [--pixels auto|cpu] [--engine auto|made] [--host-mb 16] [--device-mb 16]
//
// `made` is an engine that computes by a formula and prepares images as one on a GPU does: it needs no library.
#include <malloc.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <map>
#include <random>
#include <thread>

#include "check.hpp"
#include "engines.hpp"
#include "make_jpeg.hpp"
#include "vitrify/classifier.hpp"
#ifdef VITRIFY_TENSORRT
#include <cuda_runtime.h>
#endif

namespace {

using namespace vitrify;
using namespace vitrify::test;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;  // keeps what was freed; looks for leaks itself
#else
constexpr bool kSanitized = false;
#endif

double host_mb() {
  malloc_trim(0);
  std::ifstream statistics("/proc/self/statm");
  double pages = 0;
  double resident = 0;
  statistics >> pages >> resident;
  return resident * static_cast<double>(sysconf(_SC_PAGESIZE)) / 1e6;
}

// Of the whole device: nothing else should run there.
double device_mb() {
#ifdef VITRIFY_TENSORRT
  std::size_t free = 0;
  std::size_t all = 0;
  if (cudaMemGetInfo(&free, &all) == cudaSuccess) {
    return static_cast<double>(all - free) / 1e6;
  }
#endif
  return 0;
}

std::vector<std::vector<std::uint8_t>> mixed_images(const std::filesystem::path& golden, std::size_t made) {
  std::vector<std::vector<std::uint8_t>> images;
  for (const char* folder : {"images", "hostile"}) {
    std::vector<std::filesystem::path> paths;
    for (const auto& entry : std::filesystem::directory_iterator(golden / folder)) {
      paths.push_back(entry.path());
    }
    std::sort(paths.begin(), paths.end());
    for (const auto& path : paths) {
      images.push_back(read_file(path));
    }
  }
  std::mt19937 random(3);
  for (std::size_t i = 0; i < made; ++i) {
    const Size size{24 + static_cast<int>(random() % 600), 24 + static_cast<int>(random() % 400)};
    JpegKind kind{1 + static_cast<int>(random() % 2), 1 + static_cast<int>(random() % 2)};
    kind.progressive = i % 10 == 9;
    kind.grey = i % 7 == 6;
    images.push_back(make_jpeg(scene(size, static_cast<unsigned>(i)), kind));
  }
  images.push_back(make_jpeg(scene({1920, 1080}, 5), {}));
  return images;
}

bool agree(const Answer& one, const Answer& other) {
  const auto* a = std::get_if<Prediction>(&one);
  const auto* b = std::get_if<Prediction>(&other);
  if (a == nullptr || b == nullptr) {
    return a == b && std::string(std::get<ImageError>(one).what()) == std::get<ImageError>(other).what();
  }
  float scale = 0;
  float difference = 0;
  for (std::size_t i = 0; i < a->logits.size(); ++i) {
    scale = std::max(scale, std::fabs(a->logits[i]));
    difference = std::max(difference, std::fabs(a->logits[i] - b->logits[i]));
  }
  // Another batch size may take another kernel of the library, in half precision.
  return difference <= 1e-3F + 1e-2F * scale;
}

template <typename Work>
void at_once(std::size_t threads, const Work& work) {
  std::vector<std::thread> running;
  for (std::size_t i = 0; i < threads; ++i) {
    running.emplace_back([&, i] { work(i); });
  }
  for (std::thread& thread : running) {
    thread.join();
  }
}

struct Arguments {
  std::map<std::string, std::string> words{{"--decode", "cpu"}, {"--pixels", "auto"}, {"--engine", "auto"}};
  std::map<std::string, int> numbers{{"--images", 1000}, {"--passes", 4},   {"--threads", 8},   {"--batch", 16},
                                     {"--streams", 2},   {"--host-mb", 16}, {"--device-mb", 16}};
};

int run(const std::string& model, const std::filesystem::path& golden, Arguments arguments) {
  const auto number = [&](const char* name) { return static_cast<std::size_t>(arguments.numbers[name]); };
  ClassifierOptions options;
  options.batch_size = arguments.numbers["--batch"];
  options.streams = arguments.numbers["--streams"];
  options.pixels = arguments.words["--pixels"] == "cpu" ? PixelsOn::cpu : PixelsOn::automatic;
  options.jpeg_decoder = arguments.words["--decode"] == "nvjpeg" ? JpegDecoder::nvjpeg : JpegDecoder::cpu;
  const bool made = arguments.words["--engine"] == "made";
  const ModelSpec spec = read_spec(model);
  const auto opened = [&] {
    return made ? Classifier(spec, std::make_unique<PreparingEngine>(spec), options) : Classifier::load(model, options);
  };
  const std::size_t count = number("--images");
  const auto encoded = mixed_images(golden, std::min<std::size_t>(count / 5, 200));
  std::vector<ImageSource> sources;
  for (const auto& bytes : encoded) {
    sources.push_back(ImageSource::encoded(bytes.data(), bytes.size()));
  }
  const std::vector<Answer> on_cpu = [&] {
    ClassifierOptions cpu = options;
    cpu.pixels = PixelsOn::cpu;
    cpu.jpeg_decoder = JpegDecoder::cpu;
    std::swap(options, cpu);
    const std::vector<Answer> answers = opened().classify(sources);
    std::swap(options, cpu);
    return answers;
  }();
  const Classifier classifier = opened();
  // nvJPEG's pixels are others, so that only its own answers are the same; how often the label is, is printed.
  const std::vector<Answer> expected = options.jpeg_decoder == JpegDecoder::cpu ? on_cpu : classifier.classify(sources);
  std::size_t same_label = 0;
  std::size_t other_damage = 0;
  std::size_t unreadable = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const auto* one = std::get_if<Prediction>(&expected[i]);
    const auto* other = std::get_if<Prediction>(&on_cpu[i]);
    if ((one == nullptr) != (other == nullptr)) {
      // Decoders need not agree on what is damaged beyond repair.
      CHECK(options.jpeg_decoder != JpegDecoder::cpu, "image " + std::to_string(i) + " is readable on the CPU alone");
      ++other_damage;
    }
    unreadable += one == nullptr ? 1 : 0;
    same_label += one != nullptr && other != nullptr && one->top[0].index == other->top[0].index ? 1 : 0;
  }
  CHECK(unreadable > 20 && unreadable < expected.size() / 2, std::to_string(unreadable) + " unreadable images");
  // Every stream's memory grows with its largest batch: they get it now.
  const std::vector<ImageSource> largest(number("--batch"), sources.back());
  for (int i = 0; i < (kSanitized ? 1 : 3); ++i) {
    at_once(4 * number("--streams"), [&](std::size_t) { static_cast<void>(classifier.classify(largest)); });
  }

  std::vector<double> host;
  std::vector<double> device;
  const auto start = std::chrono::steady_clock::now();
  for (std::size_t pass = 0; pass < number("--passes"); ++pass) {
    std::atomic<std::size_t> next{0};
    at_once(number("--threads"), [&](std::size_t thread) {
      // Single images, broken batches, whole ones and several.
      const std::size_t sizes[] = {1, 3, number("--batch"), 2 * number("--batch") + 1};
      const std::size_t size = sizes[thread % 4];
      for (std::size_t begin = next.fetch_add(size); begin < count; begin = next.fetch_add(size)) {
        std::vector<ImageSource> images;
        std::vector<std::size_t> which;
        for (std::size_t i = begin; i < std::min(begin + size, count); ++i) {
          which.push_back(i % sources.size());
          images.push_back(sources[which.back()]);
        }
        const std::vector<Answer> answers = classifier.classify(images);
        for (std::size_t i = 0; i < answers.size(); ++i) {
          CHECK(agree(answers[i], expected[which[i]]), "image " + std::to_string(which[i]) + " has another answer");
        }
      }
    });
    host.push_back(host_mb());
    device.push_back(device_mb());
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  // The first half may still find a batch that is larger, or a size that is new.
  const std::size_t warm = (host.size() - 1) / 2;
  const double host_growth = host.back() - host[warm];
  const double device_growth = device.back() - device[warm];
  CHECK(kSanitized || host_growth <= arguments.numbers["--host-mb"],
        "host memory grew by " + std::to_string(host_growth) + " MB");
  CHECK(device_growth <= arguments.numbers["--device-mb"],
        "the GPU's memory grew by " + std::to_string(device_growth) + " MB");
  const auto list = [](const std::vector<double>& values) {
    std::string text;
    for (const double value : values) {
      text += (text.empty() ? "" : ", ") + std::to_string(std::lround(value));
    }
    return text;
  };
  std::printf(
      "{\"engine\": \"%s\", \"pixels\": \"%s\", \"jpeg_decoder\": \"%s\", \"images\": %zu, \"passes\": %zu, "
      "\"different\": %zu, \"unreadable\": %zu, \"other_damage\": %zu, \"same_label\": %zu, \"images_per_s\": %.0f, "
      "\"host_mb\": [%s], "
      "\"device_mb\": [%s]}\n",
      classifier.engine().name().c_str(), classifier.pixels_on_gpu() ? "gpu" : "cpu",
      classifier.engine().jpeg_decoder().c_str(), count, host.size(), sources.size(), unreadable, other_damage,
      same_label, static_cast<double>(count * host.size()) / seconds, list(host).c_str(), list(device).c_str());
  return check_result();
}

}  // namespace

int main(int count, char** texts) {
  Arguments arguments;
  bool known = count >= 3;
  for (int i = 3; i < count; i += 2) {
    const std::string name = texts[i];
    const bool value = i + 1 < count;
    if (value && arguments.words.count(name) > 0) {
      arguments.words[name] = texts[i + 1];
    } else if (value && arguments.numbers.count(name) > 0) {
      arguments.numbers[name] = std::max(1, std::atoi(texts[i + 1]));
    } else {
      known = false;
    }
  }
  if (!known) {
    std::fprintf(stderr, "usage: test_soak MODEL GOLDEN_FOLDER [--images 1000] [--passes 4] ...; see its source\n");
    return 2;
  }
  mallopt(M_ARENA_MAX, 1);  // as many arenas as threads grow for a long time, without a leak
  try {
    return run(texts[1], texts[2], std::move(arguments));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 2;
  }
}
