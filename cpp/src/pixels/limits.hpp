// What is refused before memory is taken for it, and the errors that every decoder raises.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "vitrify/image.hpp"

namespace vitrify::pixels {

// libpng's own default. It bounds the resize weights of one axis, which grow with the side and not with the area.
inline constexpr std::int64_t kMaxSide = 1'000'000;
inline constexpr std::int64_t kSmallFile = 4096;

// Throws ImageError for a file of `bytes` bytes that is empty or too large.
void check_bytes(std::size_t bytes, const DecodeLimits& limits);

// Throws ImageError for dimensions, as a header states them, that are nothing or too much.
void check_dimensions(std::int64_t width, std::int64_t height, std::size_t bytes, const DecodeLimits& limits);

// Throws ImageError where decoding `what`, at `pixel_bytes` for each pixel of its canvas, would take too much memory.
void check_memory(const std::string& what, std::int64_t width, std::int64_t height, std::int64_t pixel_bytes,
                  const DecodeLimits& limits);

// Throws ImageError where a JPEG's scans, each of which passes over the whole image, would take too long.
void check_scans(std::int64_t width, std::int64_t height, std::int64_t scans, bool arithmetic,
                 const DecodeLimits& limits);

[[nodiscard]] ImageError damaged(Format format, const std::string& detail);
[[nodiscard]] ImageError unsupported(Format format, const std::string& detail);

}  // namespace vitrify::pixels
