// Weights that a kernel brings into the GPU's cache for the product behind it.
#pragma once

#include <cstddef>

namespace vitrify::cuda {

struct Ahead {
  const void* begin = nullptr;  // aligned to 16 bytes
  std::size_t bytes = 0;        // a multiple of 16
};

}  // namespace vitrify::cuda
