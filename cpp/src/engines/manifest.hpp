// `model.engine.json`: what stands beside a TensorRT plan, because a plan itself says nothing of where it may run, and
// may carry code. docs/how-to/tensorrt.md has its fields.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vitrify/spec.hpp"

namespace vitrify::engines {

struct Gpu {
  std::string name;                // as the driver says it
  std::string compute_capability;  // such as "9.0"
};

// The TensorRT that would run an engine.
struct Release {
  bool rtx = false;     // TensorRT-RTX
  std::string version;  // such as "8.5.3.1"
};

struct Manifest {
  std::string plan_sha256;
  std::uint64_t plan_bytes = 0;
  ModelSpec spec;
  Release built_by;
  std::optional<Gpu> gpu;                         // that built it; none for TensorRT-RTX without one
  std::vector<std::string> compute_capabilities;  // of TensorRT-RTX: GPUs that it was compiled for
  bool version_compatible = false;
  std::string hardware_compatible;  // none, ampere+ or same-compute-capability
};

// Reads the manifest beside a plan. Throws EngineError where there is none or it cannot be used, SpecError for its
// spec.
[[nodiscard]] Manifest read_manifest(const std::string& plan);

// Reads a plan and holds it to its manifest, byte by byte. Throws EngineError.
[[nodiscard]] std::string read_plan(const std::string& plan, const Manifest& manifest);

// Holds a manifest to this machine. Throws EngineError, which says what differs.
void require_fit(const std::string& plan, const Manifest& manifest, const Release& here, const Gpu& gpu);

}  // namespace vitrify::engines
