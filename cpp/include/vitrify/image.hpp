// Images to tensors: decode, resize as Pillow does, crop, normalise. Standard library types only.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "vitrify/error.hpp"
#include "vitrify/export.h"

namespace vitrify {

// Pillow's filters, antialiased except nearest.
enum class Interpolation : std::uint8_t { nearest, box, bilinear, hamming, bicubic, lanczos };

// How an image's size becomes the resize box's: see docs/reference/spec.md.
enum class ResizeRule : std::uint8_t { shortest, squash, longest };

struct Size {
  int width = 0;
  int height = 0;
};

// The part of a model spec that turns pixels into the network's input.
struct Preprocess {
  ResizeRule resize_rule = ResizeRule::shortest;
  Size resize_box;
  Size crop;
  Interpolation interpolation = Interpolation::bicubic;
  std::array<float, 3> mean{};
  std::array<float, 3> std{1.0F, 1.0F, 1.0F};
  std::array<std::uint8_t, 3> fill{};
};

// Checked before memory is taken for pixels. Whatever they say, no side may be longer than a million pixels.
struct DecodeLimits {
  std::int64_t max_bytes = 256 * 1024 * 1024;  // of the encoded file
  std::int64_t max_pixels = 178'956'970;       // Pillow's own threshold
  // Decoded bytes for each encoded one. Deflate reaches 1,032:1, and a 1-bit grey PNG decodes to 24 times its bits:
  // 24,768:1. JPEG (500:1) and GIF (LZW: 8,182:1) stay below. Lossless WebP has no bound, as a solid image takes 40
  // bytes whatever its size; files below 4 KiB therefore count as 4 KiB, which lets solid ones of up to 34 megapixels
  // pass.
  std::int64_t max_ratio = 25'000;
  // Bytes that decoding takes at its most, where that is far more than the pixels: estimated from the header. An
  // animated WebP's canvas takes 14 bytes a pixel, a JPEG in several scans 9.
  std::int64_t max_memory = 1 << 30;
  // Pixels times scans of a JPEG in several, which is its time; an arithmetic-coded one counts eight times.
  std::int64_t max_scan_pixels = std::int64_t{1} << 31;
};

struct DecodeOptions {
  DecodeLimits limits;
  // Lets libjpeg decode at 1/2, 1/4 or 1/8 where the resize box is far smaller. Other pixels than Pillow's; off.
  bool fast = false;
};

// 8-bit RGB, rows without padding.
struct Image {
  Size size;
  std::vector<std::uint8_t> rgb;
};

// What the first bytes say, whether or not this build can read it.
enum class Format : std::uint8_t { unknown, jpeg, png, bmp, webp, gif };
[[nodiscard]] VITRIFY_API Format format_of(const std::uint8_t* data, std::size_t size) noexcept;
[[nodiscard]] VITRIFY_API bool can_decode(Format format) noexcept;
[[nodiscard]] VITRIFY_API const char* name_of(Format format) noexcept;

// Decodes to the pixels of PIL.ImageOps.exif_transpose(PIL.Image.open(f)).convert("RGB"), except that 16-bit greyscale
// keeps its high byte. Throws ImageError.
[[nodiscard]] VITRIFY_API Image decode(const std::uint8_t* data, std::size_t size, const DecodeOptions& options = {});

// Resizes with Pillow's 8-bit fixed-point arithmetic, byte for byte. `rgb` is [height, width, 3].
[[nodiscard]] VITRIFY_API Image resize(const std::uint8_t* rgb, Size from, Size to, Interpolation interpolation);

// The size an image is resized to before the crop, with torchvision's and timm's rounding.
[[nodiscard]] VITRIFY_API Size resized_size(Size image, const Preprocess& spec);

// Pixels or encoded bytes to [3, crop.height, crop.width] float32, computing no pixel that the crop drops. A large
// baseline JPEG is decoded on up to `threads` threads, the caller's included; the tensor is the same.
VITRIFY_API void preprocess_rgb(const std::uint8_t* rgb, Size size, const Preprocess& spec, float* out);
VITRIFY_API void preprocess_encoded(const std::uint8_t* data, std::size_t size, const Preprocess& spec,
                                    const DecodeOptions& options, float* out, int threads = 1);

// The instruction sets that this processor and build offer, best first, and which one is in use.
// `use_kernels` is for tests and benchmarks; it returns false for a name that is not on offer.
[[nodiscard]] VITRIFY_API std::vector<std::string> available_kernels();
[[nodiscard]] VITRIFY_API std::string kernels_in_use();
VITRIFY_API bool use_kernels(const std::string& name) noexcept;

}  // namespace vitrify
