// JPEG through libjpeg-turbo: what its header says.
#include <string>
#include <string_view>
#include <utility>

#include "jpeg_reader.hpp"
#include "limits.hpp"
#include "orientation.hpp"

namespace vitrify::pixels {
namespace {

constexpr int kExifMarker = JPEG_APP0 + 1;

}  // namespace

JpegReader::JpegReader(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits, JpegSkipping skipping,
                       std::unique_ptr<JpegPart> part)
    : data_(data), bytes_(size), limits_(limits), skipping_(skipping), part_(std::move(part)) {
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
    if (part_ != nullptr) {
      info_.src = part_->source();
    } else {
      jpeg_mem_src(&info_, data_, static_cast<unsigned long>(bytes_));
    }
    jpeg_save_markers(&info_, kExifMarker, 0xFFFF);
    jpeg_read_header(&info_, TRUE);
  });
  check_dimensions(info_.image_width, info_.image_height, bytes_, limits_);
  const int components = info_.num_components;
  if (components != 1 && components != 3 && components != 4) {
    throw unsupported(Format::jpeg, std::to_string(components) + " components are neither grey, RGB nor CMYK");
  }
  info_.out_color_space = components == 4 ? JCS_CMYK : JCS_RGB;
  size_ = {static_cast<int>(info_.image_width), static_cast<int>(info_.image_height)};
  find_orientation();
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
  auto other = std::make_unique<JpegReader>(data_, bytes_, limits_, skipping_);
  other->info_.scale_num = info_.scale_num;
  other->info_.scale_denom = info_.scale_denom;
  return other;
}

std::unique_ptr<Reader> open_jpeg(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits) {
  return open_jpeg(data, size, limits, JpegSkipping::cheapest);
}

std::unique_ptr<Reader> open_jpeg(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits,
                                  JpegSkipping skipping) {
  return std::make_unique<JpegReader>(data, size, limits, skipping);
}

}  // namespace vitrify::pixels
