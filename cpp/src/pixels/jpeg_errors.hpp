// How libjpeg says what is wrong.
#pragma once

#include <array>
#include <csetjmp>
#include <cstdio>

// libjpeg's header needs <cstdio> before it.
#include <jpeglib.h>

namespace vitrify::pixels {

// Errors come back by longjmp to `escape`. Warnings are counted; one that means a truncated file is an error while
// pixels are missing.
struct JpegErrors {
  jpeg_error_mgr base;  // must come first: libjpeg knows only this
  std::jmp_buf escape;
  std::array<char, JMSG_LENGTH_MAX> message;
  bool pixels_missing = true;
};

// Before the decompressor is created.
void set_errors(jpeg_decompress_struct& info, JpegErrors& errors);

// Once it is: refuses files of too many scans.
void set_progress(jpeg_decompress_struct& info, jpeg_progress_mgr& progress);

}  // namespace vitrify::pixels
