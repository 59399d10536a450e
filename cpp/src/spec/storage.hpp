// What each kind of artifact keeps its spec in.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "vitrify/error.hpp"

namespace vitrify::spec {

// More than any true spec or manifest: a hostile file must not choose how much memory it takes.
inline constexpr std::size_t kMaxBytes = 64 << 20;

// A text file, or its first kMaxBytes; nothing where it cannot be opened.
[[nodiscard]] std::optional<std::string> text_of(const std::string& path);

// The metadata_props of an ONNX file. Throws ArtifactError for another or a truncated file.
[[nodiscard]] std::map<std::string, std::string> onnx_metadata(const std::string& path);

}  // namespace vitrify::spec
