#include "jpeg_errors.hpp"

#include <jerror.h>

namespace vitrify::pixels {
namespace {

// A progressive file can hold thousands of scans of a few bytes, each of which passes over the whole image. libjpeg's
// own script has 10, encoders that search for the best one a few dozen; djpeg's -maxscans exists for the same reason.
constexpr int kMaxScans = 100;

[[noreturn]] void on_error(j_common_ptr info) {
  auto* errors = reinterpret_cast<JpegErrors*>(info->err);
  (*info->err->format_message)(info, errors->message.data());
  std::longjmp(errors->escape, 1);
}

void on_message(j_common_ptr info, int level) {
  if (level >= 0) {
    return;
  }
  ++info->err->num_warnings;
  // A source makes an end up where the data has none, and only warns. Pillow calls that truncated.
  auto* errors = reinterpret_cast<JpegErrors*>(info->err);
  if (info->err->msg_code == JWRN_JPEG_EOF && errors->pixels_missing) {
    std::snprintf(errors->message.data(), errors->message.size(), "the image file is truncated");
    std::longjmp(errors->escape, 1);
  }
}

void on_output(j_common_ptr /*info*/) {}

void on_progress(j_common_ptr info) {
  if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number > kMaxScans) {
    auto* errors = reinterpret_cast<JpegErrors*>(info->err);
    std::snprintf(errors->message.data(), errors->message.size(), "more than %d scans", kMaxScans);
    std::longjmp(errors->escape, 1);
  }
}

}  // namespace

void set_errors(jpeg_decompress_struct& info, JpegErrors& errors) {
  info.err = jpeg_std_error(&errors.base);
  info.err->error_exit = on_error;
  info.err->emit_message = on_message;
  info.err->output_message = on_output;
}

void set_progress(jpeg_decompress_struct& info, jpeg_progress_mgr& progress) {
  progress.progress_monitor = on_progress;
  info.progress = &progress;
}

}  // namespace vitrify::pixels
