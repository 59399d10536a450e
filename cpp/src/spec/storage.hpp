// What each kind of artifact keeps its spec in.
#pragma once

#include <map>
#include <string>

#include "vitrify/error.hpp"

namespace vitrify::spec {

// The metadata_props of an ONNX file. Throws ArtifactError for another or a truncated file.
[[nodiscard]] std::map<std::string, std::string> onnx_metadata(const std::string& path);

}  // namespace vitrify::spec
