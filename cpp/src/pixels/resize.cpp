// Pixels to pixels and pixels to tensors.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

#include "limits.hpp"
#include "orientation.hpp"
#include "pipeline.hpp"
#include "reader.hpp"
#include "shares.hpp"
#include "vitrify/image.hpp"

namespace vitrify {
namespace {

using pixels::Pipeline;
using pixels::place;
using pixels::Placement;
using pixels::Range;
using pixels::round_even;

// Far above any image, and low enough that no count of taps or bytes of a row overflows.
constexpr int kMaxSide = 1 << 26;

void check_size(Size size) {
  if (size.width < 1 || size.height < 1) {
    throw ImageError("the image has no pixels", std::to_string(size.width) + " x " + std::to_string(size.height),
                     "at least 1 x 1");
  }
  if (size.width > kMaxSide || size.height > kMaxSide) {
    throw ImageError("an image of " + std::to_string(size.width) + " x " + std::to_string(size.height) +
                     " pixels is too large to resize");
  }
}

// A side that a rule asks for: at least one pixel, and no more than an int holds, which check_size then refuses.
int side(double value) { return static_cast<int>(std::clamp(std::trunc(value), 1.0, kMaxSide + 1.0)); }

// The crop of one image as a tensor, fed row by row.
class TensorWriter {
 public:
  TensorWriter(Size resized, const Preprocess& spec)
      : spec_(spec), x_(place(resized.width, spec.crop.width)), y_(place(resized.height, spec.crop.height)) {}

  [[nodiscard]] Range columns() const { return x_.from; }
  [[nodiscard]] Range rows() const { return y_.from; }

  void write(Pipeline& pipeline, float* out) const {
    const pixels::Kernels& kernels = pixels::kernels();
    std::array<pixels::Normalisation, 3> normalisations;
    for (std::size_t c = 0; c < 3; ++c) {
      normalisations[c] = pixels::make_normalisation(spec_.mean[c], spec_.std[c], kernels);
    }
    const auto width = static_cast<std::size_t>(spec_.crop.width);
    const auto height = static_cast<std::size_t>(spec_.crop.height);
    std::vector<std::uint8_t> line(3 * width);
    std::vector<std::uint8_t> empty(3 * width);
    const std::size_t plane_size = width + pixels::kPadding;
    std::vector<std::uint8_t> split(3 * plane_size);
    std::uint8_t* const planes[3] = {split.data(), split.data() + plane_size, split.data() + 2 * plane_size};
    for (std::size_t x = 0; x < width; ++x) {
      std::copy(spec_.fill.begin(), spec_.fill.end(), empty.begin() + static_cast<std::ptrdiff_t>(3 * x));
    }
    for (std::size_t y = 0; y < height; ++y) {
      const int row = static_cast<int>(y) - y_.to;
      std::memcpy(line.data(), empty.data(), empty.size());
      if (row >= 0 && row < y_.from.size()) {
        pipeline.row(row, line.data() + 3 * static_cast<std::size_t>(x_.to));
      }
      kernels.split(line.data(), width, planes);
      for (std::size_t c = 0; c < 3; ++c) {
        kernels.normalise(planes[c], width, normalisations[c], out + (c * height + y) * width);
      }
    }
  }

 private:
  const Preprocess& spec_;
  Placement x_;
  Placement y_;
};

void check_spec(const Preprocess& spec) {
  check_size(spec.crop);
  check_size(spec.resize_box);
}

void push_all(Pipeline& pipeline, const std::uint8_t* rgb, Size size) {
  const std::size_t stride = 3 * static_cast<std::size_t>(size.width);
  const Range rows = pipeline.input_rows();
  Pipeline::Feed feed(pipeline, rows.begin);
  for (int y = rows.begin; y < rows.end; ++y) {
    feed.push({rgb + static_cast<std::size_t>(y) * stride});
  }
}

}  // namespace

Image resize(const std::uint8_t* rgb, Size from, Size to, Interpolation interpolation) {
  check_size(from);
  check_size(to);
  Pipeline pipeline(from, to, {0, to.width}, {0, to.height}, interpolation);
  push_all(pipeline, rgb, from);
  const std::size_t stride = 3 * static_cast<std::size_t>(to.width);
  Image result{to, std::vector<std::uint8_t>(stride * static_cast<std::size_t>(to.height))};
  for (int y = 0; y < to.height; ++y) {
    pipeline.row(y, result.rgb.data() + static_cast<std::size_t>(y) * stride);
  }
  return result;
}

Size resized_size(Size image, const Preprocess& spec) {
  check_size(image);
  check_spec(spec);
  const double width = image.width;
  const double height = image.height;
  const Size box = spec.resize_box;
  if (spec.resize_rule == ResizeRule::squash) {
    return box;
  }
  Size result;
  if (spec.resize_rule == ResizeRule::shortest && box.width == box.height) {
    result = image.width <= image.height ? Size{box.width, side(box.width * height / width)}
                                         : Size{side(box.height * width / height), box.height};
  } else {
    const double x = width / box.width;
    const double y = height / box.height;
    const double ratio = spec.resize_rule == ResizeRule::longest ? std::max(x, y) : std::min(x, y);
    result = {side(round_even(width / ratio)), side(round_even(height / ratio))};
  }
  check_size(result);
  return result;
}

void preprocess_rgb(const std::uint8_t* rgb, Size size, const Preprocess& spec, float* out) {
  const Size resized = resized_size(size, spec);
  const TensorWriter writer(resized, spec);
  Pipeline pipeline(size, resized, writer.columns(), writer.rows(), spec.interpolation);
  push_all(pipeline, rgb, size);
  writer.write(pipeline, out);
}

void pixels::preprocess(Reader& reader, const Preprocess& spec, bool fast, Workers& workers, std::size_t threads,
                        float* out) {
  if (reader.orientation() != kUpright) {
    const Image image = decode(reader, workers, threads);
    preprocess_rgb(image.rgb.data(), image.size, spec, out);
    return;
  }
  // Rows go from the decoder straight into the resize: the whole image is never in memory.
  const Size resized = resized_size(reader.size(), spec);
  const Size scaled = fast ? reader.scale_towards(resized) : reader.size();
  const TensorWriter writer(resized, spec);
  Pipeline pipeline(scaled, resized, writer.columns(), writer.rows(), spec.interpolation);
  const auto feed_from = [&pipeline](int first) -> RowSink {
    return [feed = Pipeline::Feed(pipeline, first)](const Row& row) mutable { feed.push(row); };
  };
  read_shared(reader, pipeline.input_columns(), pipeline.input_rows(), feed_from, workers, threads);
  writer.write(pipeline, out);
}

void preprocess_encoded(const std::uint8_t* data, std::size_t size, const Preprocess& spec,
                        const DecodeOptions& options, float* out, int threads) {
  const auto most = static_cast<std::size_t>(std::max(threads, 1));
  pixels::Workers workers(most);
  pixels::preprocess(*pixels::open(data, size, options.limits), spec, options.fast, workers, most, out);
}

}  // namespace vitrify
