// Bytes to a tensor: the first four bytes choose the spec, the rest is the image. A tensor that comes out must be the
// one that the decoded pixels make, so that no row or column goes astray between the decoder and the crop. Rows that
// several readers share must be those of one reader, and their error that reader's; and whoever decodes a JPEG, its
// rows and errors must be libjpeg's.
#include <array>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "reader.hpp"
#include "shares.hpp"
#include "vitrify/image.hpp"
#include "workers.hpp"

#ifdef VITRIFY_JPEG
namespace {

using vitrify::pixels::Range;

struct Decoded {
  std::vector<std::uint8_t> rows;
  std::string error;
};

// Some rows and columns, by a reader for each share.
Decoded decoded(const std::uint8_t* data, std::size_t size, const vitrify::DecodeLimits& limits, Range columns,
                const std::vector<Range>& shares) {
  static vitrify::pixels::Workers alone(1);
  const std::size_t stride = 3 * static_cast<std::size_t>(columns.size());
  Decoded result{std::vector<std::uint8_t>(stride * static_cast<std::size_t>(shares.back().end - shares.front().begin)),
                 {}};
  try {
    vitrify::pixels::read_shares(*vitrify::pixels::open_jpeg(data, size, limits), columns, shares,
                                 vitrify::pixels::copy_to(result.rows.data(), columns, shares.front().begin), alone);
  } catch (const vitrify::ImageError& error) {
    return {{}, error.what()};
  }
  return result;
}

// Parts the image's rows at two places of the fuzzer's choice.
void check_shares(const std::uint8_t* data, std::size_t size, const vitrify::DecodeLimits& limits, int choice) {
  vitrify::Size image;
  try {
    const auto reader = vitrify::pixels::open(data, size, limits);
    image = reader->size();
    if (vitrify::format_of(data, size) != vitrify::Format::jpeg || image.height < 3 ||
        reader->row_cost({0, image.width}).decode_ns == 0) {
      return;
    }
  } catch (const vitrify::ImageError&) {
    return;
  }
  const Range columns{choice % image.width, image.width};
  const int one = 1 + choice % (image.height - 2);
  const int other = one + 1 + choice / 7 % (image.height - one - 1);
  const std::string kernels = vitrify::kernels_in_use();
  vitrify::use_kernels("scalar");  // leaves all to libjpeg
  const Decoded alone = decoded(data, size, limits, columns, {{0, image.height}});
  const Decoded window = decoded(data, size, limits, columns, {{one, other}});
  vitrify::use_kernels(kernels);
  const Decoded shared = decoded(data, size, limits, columns, {{0, one}, {one, other}, {other, image.height}});
  const Decoded same = decoded(data, size, limits, columns, {{one, other}});
  if (alone.rows != shared.rows || alone.error != shared.error || window.rows != same.rows ||
      window.error != same.error) {
    std::abort();
  }
}

}  // namespace
#endif

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 4) {
    return 0;
  }
  vitrify::Preprocess spec;
  spec.resize_rule = static_cast<vitrify::ResizeRule>(data[0] % 3);
  spec.interpolation = static_cast<vitrify::Interpolation>(data[0] / 3 % 6);
  spec.resize_box = {1 + data[1] % 64, data[2] % 2 == 0 ? 1 + data[1] % 64 : 1 + data[2] % 64};
  spec.crop = {1 + data[3] % 48, 1 + data[2] % 48};
  vitrify::DecodeOptions options;
  options.limits.max_pixels = 1 << 18;
  options.fast = data[3] >= 192;
#ifdef VITRIFY_JPEG
  check_shares(data + 4, size - 4, options.limits, data[1] * 256 + data[2]);
#endif
  const std::size_t values = 3 * static_cast<std::size_t>(spec.crop.width) * static_cast<std::size_t>(spec.crop.height);
  std::vector<float> fused(values);
  try {
    vitrify::preprocess_encoded(data + 4, size - 4, spec, options, fused.data());
  } catch (const vitrify::ImageError&) {
    return 0;
  }
  if (options.fast) {
    return 0;
  }
  try {
    const vitrify::Image image = vitrify::decode(data + 4, size - 4, options);
    std::vector<float> apart(values);
    vitrify::preprocess_rgb(image.rgb.data(), image.size, spec, apart.data());
    if (std::memcmp(fused.data(), apart.data(), values * sizeof(float)) != 0) {
      std::abort();
    }
  } catch (const vitrify::ImageError&) {
    // Damage in rows that the crop does not need.
  }
  return 0;
}
