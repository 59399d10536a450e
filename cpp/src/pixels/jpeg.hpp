// How a JPEG's reader skips rows, for tests to choose.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "reader.hpp"

namespace vitrify::pixels {

// By libjpeg, or by walking the codes (jpeg_scan.hpp) wherever that can be done. The cheapest is libjpeg until the walk
// gives its pixels for every file: of a damaged one that the fuzzer made, the last row differs without a warning.
enum class JpegSkipping : std::uint8_t { cheapest, libjpeg, walk };

[[nodiscard]] std::unique_ptr<Reader> open_jpeg(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits,
                                                JpegSkipping skipping);

}  // namespace vitrify::pixels
