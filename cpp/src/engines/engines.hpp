// The table of engines. Adding one is a file, a row and a line in CMake.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "vitrify/engine.hpp"

namespace vitrify::engines {

struct Row {
  const char* name;
  std::vector<std::string> suffixes;  // of the files that it runs
  std::unique_ptr<Engine> (*open)(const std::string& path, const ModelSpec& spec, const EngineOptions& options);
  bool (*has_native)(Precision precision);
};

#ifdef VITRIFY_OPENVINO
[[nodiscard]] std::unique_ptr<Engine> open_openvino(const std::string& path, const ModelSpec& spec,
                                                    const EngineOptions& options);
[[nodiscard]] bool openvino_has_native(Precision precision);
#endif

#ifdef VITRIFY_CUDA_ENGINE
[[nodiscard]] std::unique_ptr<Engine> open_cuda(const std::string& path, const ModelSpec& spec,
                                                const EngineOptions& options);
[[nodiscard]] bool cuda_has_native(Precision precision);
#endif

#ifdef VITRIFY_TENSORRT
[[nodiscard]] std::unique_ptr<Engine> open_tensorrt(const std::string& path, const ModelSpec& spec,
                                                    const EngineOptions& options);
[[nodiscard]] bool tensorrt_has_native(Precision precision);
#endif

}  // namespace vitrify::engines
