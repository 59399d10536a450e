#include "engines.hpp"

#include <algorithm>
#include <filesystem>

#include "text.hpp"

namespace vitrify {
namespace {

const std::vector<engines::Row>& rows() {
  static const std::vector<engines::Row> all{
#ifdef VITRIFY_OPENVINO
      {"openvino", {".onnx"}, engines::open_openvino, engines::openvino_has_native},
#endif
#ifdef VITRIFY_CUDA_ENGINE
      // Behind OpenVINO, which `auto` takes: who wants this one names it, and a precision that it has.
      {"cuda", {".onnx"}, engines::open_cuda, engines::cuda_has_native},
#endif
#ifdef VITRIFY_TENSORRT
      {"tensorrt", {".engine", ".plan"}, engines::open_tensorrt, engines::tensorrt_has_native},
#endif
  };
  return all;
}

// The row for a file. `name` is "auto" or a row's.
const engines::Row& row_for(const std::string& path, const std::string& name) {
  const std::string suffix = std::filesystem::path(path).extension().string();
  for (const engines::Row& row : rows()) {
    const bool runs = std::find(row.suffixes.begin(), row.suffixes.end(), suffix) != row.suffixes.end();
    if (name == row.name && !runs) {
      throw OptionError(name + " cannot run " + path, {}, joined(row.suffixes, " or "),
                        "leave the runtime out, or name an artifact of that kind");
    }
    if (runs && (name == row.name || name == "auto")) {
      return row;
    }
  }
  if (name == "auto") {
    const bool plan = suffix == ".engine" || suffix == ".plan";
    throw OptionError("no runtime of this build runs " + path, {}, {},
                      std::string("build vitrify where CMake finds ") + (plan ? "TensorRT and CUDA" : "OpenVINO"));
  }
  std::vector<std::string> expected = available_runtimes();
  expected.insert(expected.begin(), "auto");
  throw OptionError("no runtime is called '" + name + "'", {}, joined(expected));
}

}  // namespace

void Engine::infer_images(const std::vector<StoredImage>& /*images*/, const Decode& /*decode*/, float* /*logits*/,
                          StageTimes* /*times*/) {
  throw RuntimeFailureError(name() + " does not prepare images");
}

std::vector<std::string> available_runtimes() {
  std::vector<std::string> names;
  for (const engines::Row& row : rows()) {
    names.emplace_back(row.name);
  }
  return names;
}

std::string runtime_for(const std::string& path, const std::string& name) { return row_for(path, name).name; }

bool has_native(const std::string& runtime, Precision precision) {
  return std::any_of(rows().begin(), rows().end(),
                     [&](const engines::Row& row) { return runtime == row.name && row.has_native(precision); });
}

std::unique_ptr<Engine> open_engine(const std::string& path, const ModelSpec& spec, const EngineOptions& options,
                                    const std::string& name) {
  if (options.threads < 0 || options.streams < 1) {
    throw OptionError("threads or streams cannot be used",
                      std::to_string(options.threads) + " threads, " + std::to_string(options.streams) + " streams",
                      "0 or more threads, 1 or more streams");
  }
  return row_for(path, name).open(path, spec, options);
}

}  // namespace vitrify
