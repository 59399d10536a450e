// Images to tensors: decode, resize as Pillow does, crop, normalise. Standard library types only.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace vitrify {

// Bytes that are no readable image, or more pixels than the limits allow.
class ImageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

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

// Checked before memory is taken for pixels.
struct DecodeLimits {
  std::int64_t max_pixels = 178'956'970;  // Pillow's own threshold
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

// What the first bytes say. `unknown` is for formats that this build cannot read.
enum class Format : std::uint8_t { unknown, jpeg };
[[nodiscard]] Format format_of(const std::uint8_t* data, std::size_t size) noexcept;

// Decodes to the pixels of PIL.ImageOps.exif_transpose(PIL.Image.open(f)).convert("RGB"). Throws ImageError.
[[nodiscard]] Image decode(const std::uint8_t* data, std::size_t size, const DecodeOptions& options = {});

// Resizes with Pillow's 8-bit fixed-point arithmetic, byte for byte. `rgb` is [height, width, 3].
[[nodiscard]] Image resize(const std::uint8_t* rgb, Size from, Size to, Interpolation interpolation);

// The size an image is resized to before the crop, with torchvision's and timm's rounding.
[[nodiscard]] Size resized_size(Size image, const Preprocess& spec);

// Pixels or encoded bytes to [3, crop.height, crop.width] float32, computing no pixel that the crop drops.
void preprocess_rgb(const std::uint8_t* rgb, Size size, const Preprocess& spec, float* out);
void preprocess_encoded(const std::uint8_t* data, std::size_t size, const Preprocess& spec,
                        const DecodeOptions& options, float* out);

// The instruction sets that this processor and build offer, best first, and which one is in use.
// `use_kernels` is for tests and benchmarks; it returns false for a name that is not on offer.
[[nodiscard]] std::vector<std::string> available_kernels();
[[nodiscard]] std::string kernels_in_use();
bool use_kernels(const std::string& name) noexcept;

}  // namespace vitrify
