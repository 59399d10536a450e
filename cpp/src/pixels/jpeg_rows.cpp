// JPEG through libjpeg-turbo, row by row.
#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <vector>

#include <jerror.h>

#include "jpeg_reader.hpp"
#include "jpeg_scan.hpp"

namespace vitrify::pixels {
namespace {

// Cropped decoding has no neighbours to interpolate chroma from at its edges: this many columns more on each side, a
// full minimum coded unit at its largest, keep the wanted ones exact.
constexpr int kEdge = 32;

// Rows that are decoded before any is used. What was stored a moment ago is slow to load in other widths.
constexpr std::size_t kRows = 8;

// What the parts of decoding take, in nanoseconds: measured on an AMD EPYC with AVX-512, over qualities, samplings and
// scales. Mostly it is their ratio that counts, which says where to part an image among threads.
constexpr double kBitNs = 0.9;      // of Huffman codes
constexpr double kWalkedNs = 0.4;   // of those that only have to be passed
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

bool same_table(const JQUANT_TBL* one, const JQUANT_TBL* other) {
  return one != nullptr && other != nullptr && std::memcmp(one->quantval, other->quantval, sizeof one->quantval) == 0;
}

bool same_table(const JHUFF_TBL* one, const JHUFF_TBL* other) {
  return one != nullptr && other != nullptr && std::memcmp(one->bits + 1, other->bits + 1, sizeof one->bits - 1) == 0 &&
         std::memcmp(one->huffval, other->huffval, sizeof one->huffval) == 0;
}

// Whether two headers, read up to their scans, tell of the same pixels but for the height.
bool same_but_for_height(const jpeg_decompress_struct& one, const jpeg_decompress_struct& other) {
  bool same = one.image_width == other.image_width && one.num_components == other.num_components &&
              one.jpeg_color_space == other.jpeg_color_space && one.out_color_space == other.out_color_space &&
              one.data_precision == other.data_precision && one.progressive_mode == other.progressive_mode &&
              one.arith_code == other.arith_code && one.restart_interval == other.restart_interval &&
              one.comps_in_scan == other.comps_in_scan && one.saw_Adobe_marker == other.saw_Adobe_marker &&
              one.Adobe_transform == other.Adobe_transform && one.CCIR601_sampling == other.CCIR601_sampling;
  for (int i = 0; same && i < one.comps_in_scan; ++i) {
    const jpeg_component_info& a = *one.cur_comp_info[i];
    const jpeg_component_info& b = *other.cur_comp_info[i];
    same = a.component_index == b.component_index && a.h_samp_factor == b.h_samp_factor &&
           a.v_samp_factor == b.v_samp_factor && a.quant_tbl_no == b.quant_tbl_no && a.dc_tbl_no == b.dc_tbl_no &&
           a.ac_tbl_no == b.ac_tbl_no && a.quant_tbl_no >= 0 && a.quant_tbl_no < NUM_QUANT_TBLS && a.dc_tbl_no >= 0 &&
           a.dc_tbl_no < NUM_HUFF_TBLS && a.ac_tbl_no >= 0 && a.ac_tbl_no < NUM_HUFF_TBLS &&
           same_table(one.quant_tbl_ptrs[a.quant_tbl_no], other.quant_tbl_ptrs[a.quant_tbl_no]) &&
           same_table(one.dc_huff_tbl_ptrs[a.dc_tbl_no], other.dc_huff_tbl_ptrs[a.dc_tbl_no]) &&
           same_table(one.ac_huff_tbl_ptrs[a.ac_tbl_no], other.ac_huff_tbl_ptrs[a.ac_tbl_no]);
  }
  return same;
}

}  // namespace

void JpegReader::read_rows(Range columns, Range rows, const RowSink& sink) {
  if (walks()) {
    // Whatever libjpeg has to say about the part, it says about the file: from there on, the file is read.
    int next = rows.begin;
    Range part_rows = rows;
    try {
      lower_ = lower_part(part_rows);
      if (lower_ != nullptr) {
        lower_->read_on(columns, part_rows, [&](const std::uint8_t* rgb, int first_column) {
          sink(rgb, first_column);
          ++next;
        });
      }
    } catch (const ImageError&) {
    } catch (const std::bad_alloc&) {
    }
    if (next == rows.end) {
      return;
    }
    lower_.reset();
    rows.begin = next;
  }
  read_on(columns, rows, sink);
}

// Whether codes are walked up to the first row, and libjpeg reads what follows.
bool JpegReader::walks() const {
  // Only where it is asked for: a fuzzed file was found whose last row comes out otherwise, without a warning.
  return skipping_ == JpegSkipping::walk && part_ == nullptr && JpegScan::can_walk(info_);
}

// A reader of what is needed from `rows` on, which become its rows.
std::unique_ptr<JpegReader> JpegReader::lower_part(Range& rows) const {
  // Rows of pixels that a row of MCUs makes. The one before the first row's is decoded for the chroma between them, and
  // the one before that is made up.
  const auto height =
      static_cast<int>(DCTSIZE * static_cast<unsigned>(info_.max_v_samp_factor) * info_.scale_num / info_.scale_denom);
  const int first = rows.begin / height - 2;
  if (first < 1) {
    return nullptr;
  }
  auto part = JpegPart::make(info_, data_, bytes_, first);
  if (part == nullptr) {
    return nullptr;
  }
  rows = {rows.begin - first * height, rows.end - first * height};
  auto reader = std::make_unique<JpegReader>(data_, bytes_, limits_, skipping_, std::move(part));
  if (!same_but_for_height(info_, reader->info_)) {
    return nullptr;
  }
  reader->info_.scale_num = info_.scale_num;
  reader->info_.scale_denom = info_.scale_denom;
  return reader;
}

// Reads the source at hand. A part gives no row any more once libjpeg has warned of anything.
void JpegReader::read_on(Range columns, Range rows, const RowSink& sink) {
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
    if (part_ != nullptr && errors_.base.num_warnings != 0) {
      return;
    }
    for (JDIMENSION i = 0; i < wanted; ++i) {
      if (channels == 4) {
        rgb_from_cmyk(row[i], width, rgb.data());
      }
      sink(channels == 4 ? rgb.data() : row[i], static_cast<int>(offset));
    }
  }
}

void JpegReader::finish() {
  if (lower_ != nullptr) {
    lower_->finish();
    return;
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
  return {entropy + pixel * columns.size(), walks() ? entropy * kWalkedNs / kBitNs : entropy};
}

}  // namespace vitrify::pixels
