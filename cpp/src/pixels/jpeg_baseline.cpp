#include "jpeg_baseline.hpp"

#include <algorithm>
#include <cstring>

#include "kernels.hpp"

namespace vitrify::pixels {
namespace {

constexpr std::size_t kChunk = std::size_t{1} << 15;
// Bytes that an MCU may take: of its 6 blocks, 64 codes and values of 27 bits; and what is loaded ahead.
constexpr std::size_t kMostOfMcu = 6 * 64 * 27 / 8 + 16;
constexpr int kLongestCode = 16;
// Of a dequantised coefficient; a valid one is about a thousand.
constexpr int kLargestCoefficient = 8191;
// Columns and rows beyond the last sample that kernels may read.
constexpr std::size_t kSlack = 64;

// All entries that begin with a code: a half of them for each sign of its value.
void add_entries(HuffmanTable& table, std::uint32_t code, int length, int run, int size) {
  const int spare = HuffmanTable::kLook - length;
  const bool ends = size == 0 && run != 15;
  if (spare < (ends ? 0 : 1) || length + size > HuffmanTable::kMostBits || (size == 0 && !ends)) {
    return;
  }
  const auto advance = static_cast<std::uint64_t>(ends ? HuffmanTable::kEnds : run + 1);
  const std::uint64_t entry = static_cast<std::uint64_t>(length + size) | advance << 8 |
                              static_cast<std::uint64_t>(length) << 16 |
                              static_cast<std::uint64_t>((64 - size) % 64) << 24;
  std::uint64_t* const first = table.entries + (std::size_t{code} << spare);
  const std::size_t half = (std::size_t{1} << spare) / 2;
  std::fill_n(first, 2 * half + (spare == 0 ? 1 : 0), entry);
  if (!ends) {
    const auto lowest = static_cast<std::uint32_t>(1 - (1 << size));
    std::fill_n(first, half, entry | std::uint64_t{lowest} << 32);
  }
}

bool make_table(const JHUFF_TBL* codes, bool is_dc, HuffmanTable& table) {
  if (codes == nullptr) {
    return false;
  }
  std::fill(std::begin(table.entries), std::end(table.entries), std::uint64_t{HuffmanTable::kLong} << 8);
  std::uint32_t code = 0;
  std::size_t index = 0;
  for (int length = 1; length <= kLongestCode; ++length, code <<= 1) {
    const std::size_t count = codes->bits[length];
    if (index + count > std::size(table.symbols) || code + count > (std::uint32_t{1} << length)) {
      return false;
    }
    table.offset[length] = static_cast<std::int32_t>(index) - static_cast<std::int32_t>(code);
    for (std::size_t i = 0; i < count; ++i, ++index, ++code) {
      const int symbol = codes->huffval[index];
      table.symbols[index] = static_cast<std::uint8_t>(symbol);
      if (is_dc && symbol > 11) {
        return false;
      }
      add_entries(table, code, length, symbol >> 4, symbol & 15);
    }
    table.last_code[length] = count > 0 ? static_cast<std::int32_t>(code) - 1 : -1;
  }
  return true;
}

int rounded_up(int number, int divisor) { return (number + divisor - 1) / divisor; }

}  // namespace

bool BaselineJpeg::can_read(const jpeg_decompress_struct& info) {
  if (kernels().jpeg == nullptr || info.num_components != 3 || info.comps_in_scan != 3 ||
      info.jpeg_color_space != JCS_YCbCr || info.out_color_space != JCS_RGB || info.data_precision != 8 ||
      info.progressive_mode != FALSE || info.arith_code != FALSE || info.restart_interval != 0 || info.Ss != 0 ||
      info.Se != DCTSIZE2 - 1 || info.Ah != 0 || info.Al != 0 || info.scale_num != info.scale_denom) {
    return false;
  }
  const jpeg_component_info* parts = info.comp_info;
  const int horizontal = parts[0].h_samp_factor;
  const int vertical = parts[0].v_samp_factor;
  for (int c = 1; c < 3; ++c) {
    if (parts[c].h_samp_factor != 1 || parts[c].v_samp_factor != 1) {
      return false;
    }
  }
  // libjpeg repeats chroma where it has one or two columns.
  constexpr JDIMENSION least_width = 6;
  return info.image_width >= least_width && ((horizontal == 1 && vertical == 1) || (horizontal == 2 && vertical <= 2));
}

std::unique_ptr<BaselineJpeg> BaselineJpeg::make(const jpeg_decompress_struct& info, const std::uint8_t* end) {
  std::unique_ptr<BaselineJpeg> jpeg(new BaselineJpeg());
  jpeg->kernels_ = kernels().jpeg;
  jpeg->source_ = info.src->next_input_byte;
  jpeg->end_ = end;
  jpeg->width_ = static_cast<int>(info.image_width);
  jpeg->height_ = static_cast<int>(info.image_height);
  jpeg->mcu_width_ = DCTSIZE * info.max_h_samp_factor;
  jpeg->mcu_height_ = DCTSIZE * info.max_v_samp_factor;
  jpeg->mcu_rows_ = rounded_up(jpeg->height_, jpeg->mcu_height_);

  Scan& scan = jpeg->scan_;
  scan.owner = jpeg.get();
  scan.count = info.comps_in_scan;
  scan.mcus = rounded_up(jpeg->width_, jpeg->mcu_width_);
  scan.more = more;
  jpeg->tables_.resize(2 * NUM_HUFF_TBLS);
  bool made[2 * NUM_HUFF_TBLS] = {};
  for (int i = 0; i < scan.count; ++i) {
    const jpeg_component_info& part = *info.cur_comp_info[i];
    JpegComponent& component = scan.components[i];
    if (part.component_index < 0 || part.component_index >= 3 || part.quant_tbl_no < 0 ||
        part.quant_tbl_no >= NUM_QUANT_TBLS || info.quant_tbl_ptrs[part.quant_tbl_no] == nullptr) {
      return nullptr;
    }
    for (const bool is_dc : {true, false}) {
      const int number = is_dc ? part.dc_tbl_no : part.ac_tbl_no;
      if (number < 0 || number >= NUM_HUFF_TBLS) {
        return nullptr;
      }
      const auto place = static_cast<std::size_t>(number) + (is_dc ? 0 : NUM_HUFF_TBLS);
      if (!made[place] &&
          !make_table((is_dc ? info.dc_huff_tbl_ptrs : info.ac_huff_tbl_ptrs)[number], is_dc, jpeg->tables_[place])) {
        return nullptr;
      }
      made[place] = true;
      (is_dc ? component.dc : component.ac) = &jpeg->tables_[place];
    }
    const UINT16* quantiser = info.quant_tbl_ptrs[part.quant_tbl_no]->quantval;
    for (std::size_t k = 0; k < DCTSIZE2; ++k) {
      if (quantiser[k] < 1 || quantiser[k] > 255) {
        return nullptr;
      }
      component.quantiser[k] = static_cast<std::int16_t>(quantiser[k]);
      component.largest[k] = static_cast<std::int16_t>(kLargestCoefficient / quantiser[k]);
    }
    component.horizontal = part.h_samp_factor;
    component.vertical = part.v_samp_factor;
    jpeg->planes_of_[i] = part.component_index;
    Plane& plane = jpeg->planes_[part.component_index];
    plane.horizontal = part.h_samp_factor;
    plane.vertical = part.v_samp_factor;
    plane.stride = static_cast<std::size_t>(scan.mcus * plane.horizontal * DCTSIZE) + kSlack;
  }
  jpeg->codes_.resize(kChunk + kMostOfMcu);
  jpeg->codes_end_ = jpeg->codes_.data();
  scan.reader = {jpeg->codes_.data(), jpeg->codes_.data(), 0, 0};
  more(scan);
  return jpeg;
}

bool BaselineJpeg::more(JpegScan& scan) {
  BaselineJpeg& jpeg = *static_cast<Scan&>(scan).owner;
  BitReader& reader = scan.reader;
  if (jpeg.ended_) {
    return false;
  }
  std::uint8_t* const codes = jpeg.codes_.data();
  const auto left = static_cast<std::size_t>(jpeg.codes_end_ - reader.next);
  std::memmove(codes, reader.next, left);
  const std::uint8_t* const from = jpeg.source_;
  const std::size_t read = jpeg.kernels_->unstuff(jpeg.source_, jpeg.end_, codes + left, kChunk - left);
  jpeg.ended_ = read < kChunk - left || from == jpeg.source_;
  std::uint8_t* const end = codes + left + read;
  std::memset(end, 0, static_cast<std::size_t>(codes + jpeg.codes_.size() - end));
  jpeg.codes_end_ = end;
  reader.next = codes;
  // Behind the last code there are zeros enough for an MCU, whose use `bits_left` then finds. The last codes may all be
  // in `reader.bits` already, and zeros with them.
  reader.limit =
      jpeg.ended_ ? end + sizeof reader.bits : end - std::min(kMostOfMcu, static_cast<std::size_t>(end - codes));
  return true;
}

std::int64_t BaselineJpeg::bits_left() const { return 8 * (codes_end_ - scan_.reader.next) + scan_.reader.count; }

// Decodes the next row of MCUs, and transforms columns [begin, end) of them.
bool BaselineJpeg::decode_row(int begin, int end) {
  for (int i = 0; i < scan_.count; ++i) {
    Plane& plane = planes_[planes_of_[i]];
    JpegComponent& component = scan_.components[i];
    component.stride = plane.stride;
    const std::size_t rows = static_cast<std::size_t>(plane.vertical) * DCTSIZE;
    component.out = plane.samples.data() + static_cast<std::size_t>(next_row_ % 2) * rows * plane.stride;
  }
  if (!kernels_->decode(scan_, begin, end) || bits_left() < 0) {
    return false;
  }
  ++next_row_;
  return true;
}

int BaselineJpeg::read(Range columns, Range rows, const RowSink& sink) {
  // Interpolated chroma looks one sample further to each side, and one row up and down.
  const int begin = std::max(0, columns.begin - 1) / mcu_width_;
  const int end = std::min(scan_.mcus, columns.end / mcu_width_ + 1);
  const int first_mcu_row = std::max(0, rows.begin - 1) / mcu_height_;
  const int first_column = begin * mcu_width_;
  const int last_column = std::min(width_, end * mcu_width_);
  const auto pixels = static_cast<std::size_t>(last_column - first_column);
  for (Plane& plane : planes_) {
    plane.samples.resize(2 * static_cast<std::size_t>(plane.vertical) * DCTSIZE * plane.stride + kSlack);
  }
  sums_.resize(2 * (pixels + 2 * kSumsMargin));
  const std::size_t size = pixels + std::max(kRowSlack, kPadding);
  std::vector<std::uint8_t> memory(3 * size);
  std::uint8_t* const planes[3] = {memory.data(), memory.data() + size, memory.data() + 2 * size};
  const int lag = planes_[0].vertical == 2 ? 1 : 0;  // its last row waits for the next row's chroma
  int row = rows.begin;
  while (row < rows.end) {
    const bool wanted = next_row_ >= first_mcu_row;
    if (!decode_row(wanted ? begin : 0, wanted ? end : 0)) {
      return row;
    }
    const int decoded = next_row_ == mcu_rows_ ? height_ : next_row_ * mcu_height_ - lag;
    for (; row < std::min(decoded, rows.end); ++row) {
      convert_row(row, first_column, pixels, planes);
      sink({nullptr, first_column, {planes[0], planes[1], planes[2]}});
    }
  }
  return row;
}

void BaselineJpeg::convert_row(int row, int first_column, std::size_t pixels, std::uint8_t* const planes[3]) {
  const auto line = [&](const Plane& plane, int y) {
    const int column = first_column * plane.horizontal / planes_[0].horizontal;
    return plane.samples.data() + static_cast<std::size_t>(y % (2 * DCTSIZE * plane.vertical)) * plane.stride + column;
  };
  const int vertical = planes_[0].vertical;
  const int horizontal = planes_[0].horizontal;
  JpegRow source{};
  source.luma = line(planes_[0], row);
  const int near = row / vertical;
  const int far = std::clamp(row % vertical == 0 ? near - 1 : near + 1, 0, rounded_up(height_, vertical) - 1);
  for (int c = 0; c < 2; ++c) {
    source.chroma[c][0] = line(planes_[c + 1], near);
    source.chroma[c][1] = line(planes_[c + 1], far);
    source.sums[c] = sums_.data() + static_cast<std::size_t>(c) * (pixels + 2 * kSumsMargin);
  }
  source.horizontal = horizontal;
  source.vertical = vertical;
  source.pixels = pixels;
  source.samples = static_cast<std::size_t>(rounded_up(static_cast<int>(pixels), horizontal));
  kernels_->convert(source, planes);
}

bool BaselineJpeg::finish() {
  while (next_row_ < mcu_rows_) {
    if (!decode_row(0, 0)) {
      return false;
    }
  }
  // What is left of the last byte is padding. Another byte of codes would be one too many.
  while (!ended_) {
    if (bits_left() >= 8 || !more(scan_)) {
      return false;
    }
  }
  return bits_left() < 8 && end_ - source_ >= 2 && source_[0] == 0xFF && source_[1] == JPEG_EOI;
}

}  // namespace vitrify::pixels
