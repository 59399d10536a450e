// OpenVINO on the CPU.
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <system_error>
#include <utility>
#include <vector>

#include <openvino/openvino.hpp>
#include <openvino/pass/constant_folding.hpp>

#include "engines.hpp"
#include "machine/processor.hpp"
#include "machine/threads.hpp"
#include "pool.hpp"
#include "saturation.hpp"
#include "spec/onnx_form.hpp"

namespace vitrify::engines {
namespace {

// OpenVINO stacks the C++ call sites first; the cause comes last.
std::string cause(const std::exception& error) {
  std::string text = error.what();
  text.erase(text.find_last_not_of(" \n") + 1);
  const std::size_t line = text.find_last_of('\n');
  return line == std::string::npos ? text : text.substr(line + 1);
}

// A folder of this file's own below the cache. OpenVINO tells files apart by their time in whole seconds, so that a
// file replaced within one would get the network of the file before it.
std::string cache_of(const std::string& path, const EngineOptions& options) {
  const std::string& folder = options.cache_folder;
  namespace fs = std::filesystem;
  std::error_code failed;
  fs::create_directories(folder, failed);
  if (failed || !fs::is_directory(folder, failed)) {
    throw OptionError("the cache cannot be used", folder + ": " + failed.message(), "a folder that can be written");
  }
  const fs::path file = fs::absolute(path);
  const std::string key = file.string() + '\n' + std::to_string(fs::file_size(file)) + '\n' +
                          std::to_string(fs::last_write_time(file).time_since_epoch().count()) +
                          (options.dequantize ? "\ndequantised" : "");
  std::uint64_t hash = 0xCBF29CE484222325;  // FNV-1a
  for (const char letter : key) {
    hash = (hash ^ static_cast<unsigned char>(letter)) * 0x100000001B3;
  }
  char digits[17];
  std::snprintf(digits, sizeof(digits), "%016llx", static_cast<unsigned long long>(hash));
  return (fs::path(folder) / (file.stem().string() + "-" + digits)).string();
}

ov::AnyMap properties_of(const std::string& path, const EngineOptions& options) {
  // The precision is always stated: left alone, OpenVINO computes in bf16 wherever the processor has it.
  ov::AnyMap properties{
      ov::hint::inference_precision(options.precision == Precision::bf16 ? ov::element::bf16 : ov::element::f32),
      ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY)};
  if (options.streams > 1) {
    properties.insert(ov::num_streams(options.streams));
  }
  if (options.threads > 0) {
    properties.insert(ov::inference_num_threads(options.threads));
  } else if (machine::quota_threads()) {  // which OpenVINO does not see, unlike the affinity mask
    properties.insert(ov::inference_num_threads(machine::available_threads()));
  }
  if (options.dequantize) {
    // OpenVINO would multiply two activations in 8 bits, where both are rounded.
    properties.insert({"LP_TRANSFORMS_MODE", false});
  }
  if (!options.cache_folder.empty()) {
    properties.insert(ov::cache_dir(cache_of(path, options)));
  }
  return properties;
}

// One for each process, for good: the CPU plugin gives the thread that makes it another stack for signals, and unmaps
// it when its last user is gone, on whatever thread that is. The next signal whose handler wants that stack, as
// Python's and Go's do, would then end the process.
ov::Core& core() {
  static std::mutex mutex;
  static auto* const cores = new std::map<pid_t, ov::Core>;
  const std::lock_guard<std::mutex> lock(mutex);
  return (*cores)[::getpid()];
}

ov::CompiledModel compiled(const std::string& path, const EngineOptions& options) {
  const std::string content = spec::known_content(path);  // OpenVINO trusts what it parses
  const ov::AnyMap properties = properties_of(path, options);
  if (!options.dequantize) {
    return core().compile_model(content, ov::Tensor(), "CPU", properties);
  }
  const std::shared_ptr<ov::Model> model = core().read_model(content, ov::Tensor());
  ov::pass::ConstantFolding().run_on_model(model);  // 8-bit weights, their scales and zero points to floats
  return core().compile_model(model, "CPU", properties);
}

std::string shown(const ov::Output<const ov::Node>& port) {
  const auto& names = port.get_names();
  return (names.empty() ? "unnamed" : *names.begin()) + " " + port.get_element_type().to_string() + " " +
         port.get_partial_shape().to_string();
}

// The port of that name, if it has one of the types and the shape [batch, sizes...]; a dynamic axis fits any size.
ov::Output<const ov::Node> port_of(const std::vector<ov::Output<const ov::Node>>& ports, const std::string& name,
                                   const std::vector<std::int64_t>& sizes, const std::vector<ov::element::Type>& types,
                                   const std::string& path) {
  std::string got;
  for (const auto& port : ports) {
    const ov::PartialShape& shape = port.get_partial_shape();
    bool fits = port.get_names().count(name) == 1 && shape.rank() == static_cast<std::int64_t>(sizes.size() + 1);
    for (std::size_t i = 0; fits && i < sizes.size(); ++i) {
      fits = shape[static_cast<std::ptrdiff_t>(i) + 1].compatible(sizes[i]);
    }
    if (fits && std::find(types.begin(), types.end(), port.get_element_type()) != types.end()) {
      return port;
    }
    got += (got.empty() ? "" : ", ") + shown(port);
  }
  std::string expected = name + " " + types.front().to_string() + " [B";
  for (const std::int64_t size : sizes) {
    expected += "," + std::to_string(size);
  }
  throw ArtifactError("the graph and the spec of " + path + " disagree", got, expected + "]", "export it again");
}

class OpenVinoEngine final : public Engine {
 public:
  OpenVinoEngine(const std::string& path, const ModelSpec& spec, const EngineOptions& options)
      : item_{1, 3, static_cast<std::size_t>(spec.preprocess.crop.height),
              static_cast<std::size_t>(spec.preprocess.crop.width)},
        classes_(spec.labels.size()) {
    try {
      model_ = compiled(path, options);
      const auto type = spec.input.dtype == ElementType::float16 ? ov::element::f16 : ov::element::f32;
      input_ = port_of(model_.inputs(), spec.input.name, {3, spec.preprocess.crop.height, spec.preprocess.crop.width},
                       {type}, path);
      output_ = port_of(model_.outputs(), spec.output.name, {static_cast<std::int64_t>(classes_)},
                        {ov::element::f32, ov::element::f16}, path);
      if (model_.inputs().size() != 1) {
        throw ArtifactError("the graph of " + path + " has further inputs", std::to_string(model_.inputs().size()),
                            "one, the image", "export it again");
      }
      for (int i = 0; i < options.streams; ++i) {
        requests_.add(model_.create_infer_request());
      }
    } catch (const Error&) {
      throw;
    } catch (const std::exception& error) {
      throw RuntimeFailureError("OpenVINO refuses " + path, cause(error), {}, "export the artifact again");
    }
  }

  void infer(const float* tensors, std::size_t count, float* logits) override {
    ov::Shape shape = item_;
    shape[0] = count;
    Pool<ov::InferRequest>::Lease lease(requests_);
    ov::InferRequest& request = lease.item();
    try {
      request.set_tensor(input_, input_tensor(tensors, shape));
      request.infer();
      const ov::Tensor answer = request.get_tensor(output_);
      // A graph whose axes are dynamic may give another shape than the spec says; this is known only now.
      const ov::Shape expected{count, classes_};
      if (answer.get_shape() != expected) {
        throw ArtifactError("the network gives another shape than its spec says", answer.get_shape().to_string(),
                            expected.to_string(), "export it again");
      }
      if (answer.get_element_type() == ov::element::f32) {
        std::copy_n(answer.data<const float>(), answer.get_size(), logits);
      } else {
        std::copy_n(answer.data<const ov::float16>(), answer.get_size(), logits);
      }
    } catch (const Error&) {
      throw;
    } catch (const std::exception& error) {
      throw RuntimeFailureError("OpenVINO failed on a batch of " + std::to_string(count), cause(error),
                                input_.get_partial_shape().to_string());
    }
  }

  [[nodiscard]] std::string name() const override { return "openvino"; }

  [[nodiscard]] std::string version() const override {
    const std::string build = ov::get_openvino_version().buildNumber;
    return build.substr(0, build.find('-'));
  }

 private:
  // The caller's memory as it is where the network takes float32, a narrowed copy where it takes float16.
  [[nodiscard]] ov::Tensor input_tensor(const float* tensors, const ov::Shape& shape) const {
    // OpenVINO has no tensor of constant memory; it does not write to an input.
    ov::Tensor whole(ov::element::f32, shape, const_cast<float*>(tensors));
    if (input_.get_element_type() == ov::element::f32) {
      return whole;
    }
    ov::Tensor half(ov::element::f16, shape);
    std::transform(tensors, tensors + whole.get_size(), half.data<ov::float16>(),
                   [](float value) { return ov::float16(value); });
    return half;
  }

  ov::CompiledModel model_;
  ov::Output<const ov::Node> input_;
  ov::Output<const ov::Node> output_;
  ov::Shape item_;
  std::size_t classes_;
  Pool<ov::InferRequest> requests_;  // each holds the buffers of one inference
};

}  // namespace

bool openvino_has_native(Precision precision) {
  if (precision != Precision::bf16) {
    return precision == Precision::fp32;
  }
  try {
    const auto capabilities = core().get_property("CPU", ov::device::capabilities);
    return std::find(capabilities.begin(), capabilities.end(), ov::device::capability::BF16) != capabilities.end();
  } catch (const ov::Exception&) {
    return false;  // an OpenVINO without its CPU plugin, which opening the artifact will say
  }
}

std::unique_ptr<Engine> open_openvino(const std::string& path, const ModelSpec& spec, const EngineOptions& options) {
  if (options.precision != Precision::fp32 && options.precision != Precision::bf16) {
    throw OptionError(std::string("openvino cannot run in ") + name_of(options.precision), {}, "fp32 or bf16");
  }
  require_exact_products(path, spec, options, machine::processor());
  return std::make_unique<OpenVinoEngine>(path, spec, options);
}

}  // namespace vitrify::engines
