// The table of engines. Adding one is a file, a row and a line in CMake.
#pragma once

#include <memory>
#include <string>

#include "vitrify/engine.hpp"

namespace vitrify::engines {

struct Row {
  const char* name;
  std::unique_ptr<Engine> (*open)(const std::string& path, const ModelSpec& spec, const EngineOptions& options);
  bool (*has_native)(Precision precision);
};

#ifdef VITRIFY_OPENVINO
[[nodiscard]] std::unique_ptr<Engine> open_openvino(const std::string& path, const ModelSpec& spec,
                                                    const EngineOptions& options);
[[nodiscard]] bool openvino_has_native(Precision precision);
#endif

}  // namespace vitrify::engines
