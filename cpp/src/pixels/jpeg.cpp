// JPEG through libjpeg-turbo, row by row.
#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

// libjpeg's headers need <cstdio> before them.
#include <jerror.h>
#include <jpeglib.h>

#include "jpeg_baseline.hpp"
#include "jpeg_errors.hpp"
#include "limits.hpp"
#include "orientation.hpp"
#include "reader.hpp"

namespace vitrify::pixels {
namespace {

constexpr int kExifMarker = JPEG_APP0 + 1;
constexpr std::uint8_t kScanMarker = 0xDA;
constexpr std::int64_t kCoefficientBytes =
    9;  // for each pixel of several scans: all coefficients in 16 bits, the pixels

// Cropped decoding has no neighbours to interpolate chroma from at its edges: this many columns more on each side, a
// full minimum coded unit at its largest, keep the wanted ones exact.
constexpr int kEdge = 32;

// Rows that are decoded before any is used. What was stored a moment ago is slow to load in other widths.
constexpr std::size_t kRows = 8;

// What the parts of decoding take, in nanoseconds: measured on an AMD EPYC with AVX-512, over qualities, samplings and
// scales. Mostly it is their ratio that counts, which says where to part an image among threads.
constexpr double kBitNs = 0.9;      // of Huffman codes
constexpr double kStoredNs = 0.35;  // for each sample that is stored, its coefficient
constexpr double kSampleNs = 0.3;   // for each sample that comes out, its transform
constexpr double kPixelNs = 1.2;    // upsampling, colours, and the resize that follows

int muldiv255(int a, int b) {
  const int product = a * b + 128;
  return ((product >> 8) + product) >> 8;
}

// Pillow's conversion of the inverted CMYK that Adobe writes.
void rgb_from_cmyk(const std::uint8_t* cmyk, std::size_t pixels, std::uint8_t* rgb) {
  for (std::size_t x = 0; x < pixels; ++x) {
    const int key = cmyk[4 * x + 3];  // already 255 - K, because the file holds the inverse
    for (std::size_t c = 0; c < 3; ++c) {
      const int value = key - muldiv255(255 - cmyk[4 * x + c], key);
      rgb[3 * x + c] = static_cast<std::uint8_t>(std::clamp(value, 0, 255));
    }
  }
}

class JpegReader final : public Reader {
 public:
  JpegReader(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits);
  ~JpegReader() override;

  [[nodiscard]] bool is_plain_jpeg() const override;
  Size scale_towards(Size target) override;
  void read_rows(Range columns, Range rows, const RowSink& sink) override;
  void finish() override;
  [[nodiscard]] std::unique_ptr<Reader> again() const override;
  [[nodiscard]] RowCost row_cost(Range columns) const override;

 private:
  void open();
  void check_several_scans();
  void find_orientation();
  [[nodiscard]] bool ends_properly() const;
  void read_by_libjpeg(Range columns, Range rows, const RowSink& sink);

  // Runs calls into libjpeg, whose errors come back by longjmp: `calls` must own nothing that needs destroying.
  template <typename Calls>
  void guarded(const Calls& calls) {
    if (setjmp(errors_.escape) != 0) {
      throw damaged(Format::jpeg, errors_.message.data());
    }
    calls();
  }

  jpeg_decompress_struct info_{};
  jpeg_progress_mgr progress_{};
  JpegErrors errors_{};
  const std::uint8_t* data_;
  std::size_t bytes_;
  DecodeLimits limits_;
  std::unique_ptr<BaselineJpeg> baseline_;  // what has read the rows in libjpeg's place
  Range columns_;                           // that were read
  Range rows_;
};

}  // namespace

JpegReader::JpegReader(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits)
    : data_(data), bytes_(size), limits_(limits) {
  try {
    open();
  } catch (...) {
    jpeg_destroy_decompress(&info_);  // a constructor that throws has no destructor
    throw;
  }
}

JpegReader::~JpegReader() { jpeg_destroy_decompress(&info_); }

void JpegReader::open() {
  set_errors(info_, errors_);
  guarded([&] {
    jpeg_create_decompress(&info_);
    set_progress(info_, progress_);
    jpeg_mem_src(&info_, data_, static_cast<unsigned long>(bytes_));
    jpeg_save_markers(&info_, kExifMarker, 0xFFFF);
    jpeg_read_header(&info_, TRUE);
  });
  check_dimensions(info_.image_width, info_.image_height, bytes_, limits_);
  // A file whose first scan holds all components is decoded as it comes, unless it is progressive.
  if (jpeg_has_multiple_scans(&info_) != 0) {
    check_several_scans();
  }
  const int components = info_.num_components;
  if (components != 1 && components != 3 && components != 4) {
    throw unsupported(Format::jpeg, std::to_string(components) + " components are neither grey, RGB nor CMYK");
  }
  info_.out_color_space = components == 4 ? JCS_CMYK : JCS_RGB;
  size_ = {static_cast<int>(info_.image_width), static_cast<int>(info_.image_height)};
  find_orientation();
}

void JpegReader::check_several_scans() {
  check_memory("the JPEG in several scans", info_.image_width, info_.image_height, kCoefficientBytes, limits_);
  // In coded data 0xFF is followed by 0 or a restart: outside of segments this is a scan's beginning.
  std::int64_t scans = 0;
  const std::uint8_t* const end = data_ + bytes_;
  for (const std::uint8_t* at = data_; (at = std::find(at, end, 0xFF)) != end; ++at) {
    scans += end - at > 1 && at[1] == kScanMarker ? 1 : 0;
  }
  check_scans(info_.image_width, info_.image_height, scans, info_.arith_code != 0, limits_);
}

void JpegReader::find_orientation() {
  Metadata metadata;
  for (jpeg_saved_marker_ptr marker = info_.marker_list; marker != nullptr; marker = marker->next) {
    const std::string_view segment = view_of(marker->data, marker->data_length);
    if (marker->marker != kExifMarker) {
      continue;
    }
    if (starts_with(segment, kExifHeader)) {
      // EXIF of more than 64 KiB goes on in a second segment.
      metadata.exif += metadata.exif.empty() ? segment : segment.substr(kExifHeader.size());
    } else if (starts_with(segment, kXmpHeader)) {
      metadata.xmp = segment.substr(kXmpHeader.size());
    }
  }
  orientation_ = orientation_of(metadata);
}

bool JpegReader::ends_properly() const {
  return bytes_ >= 2 && data_[bytes_ - 2] == 0xFF && data_[bytes_ - 1] == JPEG_EOI;
}

bool JpegReader::is_plain_jpeg() const {
  // A truncated file has to be an error, and other decoders may make pixels up: they only get what ends properly.
  if (info_.progressive_mode || info_.arith_code || info_.data_precision != 8 || !ends_properly()) {
    return false;
  }
  if (info_.num_components == 1) {
    return info_.jpeg_color_space == JCS_GRAYSCALE;
  }
  const jpeg_component_info* parts = info_.comp_info;
  return info_.num_components == 3 && info_.jpeg_color_space == JCS_YCbCr && parts[0].h_samp_factor <= 2 &&
         parts[0].v_samp_factor <= 2 && parts[1].h_samp_factor == 1 && parts[1].v_samp_factor == 1 &&
         parts[2].h_samp_factor == 1 && parts[2].v_samp_factor == 1;
}

Size JpegReader::scale_towards(Size target) {
  info_.scale_num = 1;
  for (const unsigned denominator : {8U, 4U, 2U, 1U}) {
    info_.scale_denom = denominator;
    guarded([&] { jpeg_calc_output_dimensions(&info_); });
    if (info_.output_width >= kScaleMargin * target.width && info_.output_height >= kScaleMargin * target.height) {
      break;
    }
  }
  return {static_cast<int>(info_.output_width), static_cast<int>(info_.output_height)};
}

std::unique_ptr<Reader> JpegReader::again() const {
  auto other = std::make_unique<JpegReader>(data_, bytes_, limits_);
  other->info_.scale_num = info_.scale_num;
  other->info_.scale_denom = info_.scale_denom;
  return other;
}

void JpegReader::read_rows(Range columns, Range rows, const RowSink& sink) {
  columns_ = columns;
  rows_ = rows;
  if (BaselineJpeg::can_read(info_)) {
    baseline_ = BaselineJpeg::make(info_, data_ + bytes_);
    if (baseline_ != nullptr) {
      rows.begin = baseline_->read(columns, rows, sink);
      if (rows.begin == rows.end) {
        return;
      }
      baseline_.reset();
    }
  }
  read_by_libjpeg(columns, rows, sink);
}

void JpegReader::read_by_libjpeg(Range columns, Range rows, const RowSink& sink) {
  JDIMENSION offset = 0;
  bool too_narrow = false;
  guarded([&] {
    jpeg_start_decompress(&info_);
    too_narrow = columns.end > static_cast<int>(info_.output_width);
    const int begin = std::max(0, columns.begin - kEdge);
    const int end = std::min(static_cast<int>(info_.output_width), columns.end + kEdge);
    auto width = static_cast<JDIMENSION>(end - begin);
    offset = static_cast<JDIMENSION>(begin);
    if (width < info_.output_width) {
      jpeg_crop_scanline(&info_, &offset, &width);
    }
  });
  if (too_narrow) {
    throw damaged(Format::jpeg, "another width than its header tells");
  }
  const std::size_t width = info_.output_width;
  const auto channels = static_cast<std::size_t>(info_.output_components);
  std::vector<std::uint8_t> lines(kRows * width * channels);
  std::vector<std::uint8_t> rgb(channels == 4 ? width * 3 : 0);
  std::array<JSAMPROW, kRows> row{};
  for (std::size_t i = 0; i < kRows; ++i) {
    row[i] = lines.data() + i * width * channels;
  }
  guarded([&] {
    if (rows.begin > 0) {
      jpeg_skip_scanlines(&info_, static_cast<JDIMENSION>(rows.begin));
    }
  });
  for (int y = rows.begin; y < rows.end; y += kRows) {
    const auto wanted = static_cast<JDIMENSION>(std::min(rows.end - y, static_cast<int>(kRows)));
    guarded([&] {
      JDIMENSION got = 0;
      while (got < wanted) {
        const JDIMENSION more = jpeg_read_scanlines(&info_, &row[got], wanted - got);
        if (more == 0) {
          ERREXIT(&info_, JERR_INPUT_EOF);
        }
        got += more;
      }
    });
    for (JDIMENSION i = 0; i < wanted; ++i) {
      if (channels == 4) {
        rgb_from_cmyk(row[i], width, rgb.data());
      }
      sink({channels == 4 ? rgb.data() : row[i], static_cast<int>(offset)});
    }
  }
}

void JpegReader::finish() {
  if (baseline_ != nullptr) {
    const bool looks_no_further = rows_.end < size_.height && ends_properly();
    if (looks_no_further || baseline_->finish()) {
      return;
    }
    baseline_.reset();
    read_by_libjpeg(columns_, rows_, [](const Row& /*row*/) {});
  }
  const JDIMENSION left = info_.output_height - info_.output_scanline;
  if (left == 0) {
    // Looks for the end: it may be missing, but no marker before it may be one that JPEG does not have.
    errors_.pixels_missing = false;
    guarded([&] { jpeg_finish_decompress(&info_); });
    return;
  }
  if (!ends_properly()) {
    // Nobody needs these rows, but a truncated file is an error wherever the crop lies. libjpeg does not look at the
    // data of rows that it skips up to the last one, so that one is decoded.
    std::vector<std::uint8_t> line(info_.output_width * static_cast<std::size_t>(info_.output_components));
    JSAMPROW row = line.data();
    guarded([&] {
      if (left > 1) {
        jpeg_skip_scanlines(&info_, left - 1);
      }
      jpeg_read_scanlines(&info_, &row, 1);
    });
  }
  guarded([&] { jpeg_abort_decompress(&info_); });
}

RowCost JpegReader::row_cost(Range columns) const {
  // Where the header tells of one scan of Huffman codes, rows that are skipped are neither transformed nor stored.
  // Where there are more, all of them are read before the first row is.
  const bool one_scan = info_.comps_in_scan == info_.num_components && info_.Ss == 0 && info_.Se == DCTSIZE2 - 1;
  if (!one_scan || info_.progressive_mode || info_.arith_code) {
    return {};
  }
  double samples = 0;  // for each pixel
  for (int i = 0; i < info_.num_components; ++i) {
    samples += info_.comp_info[i].h_samp_factor * info_.comp_info[i].v_samp_factor;
  }
  samples /= info_.max_h_samp_factor * info_.max_v_samp_factor;
  const double scale = static_cast<double>(info_.scale_denom) / info_.scale_num;
  const double entropy = kBitNs * 8 * static_cast<double>(bytes_) * scale / info_.image_height;
  const double pixel = samples * (kStoredNs * scale * scale + kSampleNs) + kPixelNs;
  return {entropy + pixel * columns.size(), entropy};
}

std::unique_ptr<Reader> open_jpeg(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits) {
  return std::make_unique<JpegReader>(data, size, limits);
}

}  // namespace vitrify::pixels
