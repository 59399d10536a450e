// `model.onnx.fp8.json`: the magnitudes that calibration saw, beside the artifact that it saw them in.
#pragma once

#include <string>
#include <vector>

#include "network.hpp"

namespace vitrify::engines {

// Throws ArtifactError where there is no such file, or it is not of a network of so many blocks.
[[nodiscard]] std::vector<Magnitudes> read_scales(const std::string& model, std::size_t blocks);

void write_scales(const std::string& model, const std::vector<Magnitudes>& magnitudes);

}  // namespace vitrify::engines
