# The libraries that decode images. JPEG is needed; where another is missing, C++ refuses the format and Python leaves it
# to Pillow.
option(VITRIFY_DECODERS "Decode more than BMP and GIF; off where the libraries are not to be had, such as in cross builds" ON)
if(NOT VITRIFY_DECODERS)
  return()
endif()

# libjpeg-turbo decodes rows and columns that the crop needs and no others; plain libjpeg cannot.
find_package(JPEG)
if(JPEG_FOUND)
  include(CheckCXXSourceCompiles)
  set(CMAKE_REQUIRED_INCLUDES ${JPEG_INCLUDE_DIRS})
  set(CMAKE_REQUIRED_LIBRARIES ${JPEG_LIBRARIES})
  check_cxx_source_compiles(
    "#include <cstddef>\n#include <cstdio>\n#include <jpeglib.h>
    int main() { jpeg_crop_scanline(nullptr, nullptr, nullptr); jpeg_skip_scanlines(nullptr, 0); }"
    VITRIFY_LIBJPEG_TURBO)
endif()
if(NOT VITRIFY_LIBJPEG_TURBO)
  if(NOT VITRIFY_PYTHON)
    message(FATAL_ERROR "libjpeg-turbo was not found. hint: apt-get install libjpeg-dev")
  endif()
  message(WARNING "libjpeg-turbo was not found: JPEG is decoded by Pillow, at half the speed. "
    "hint: apt-get install libjpeg-dev, and install vitrify again")
endif()

find_package(PNG)
if(NOT PNG_FOUND)
  message(WARNING "libpng was not found: this build cannot read PNG. hint: apt-get install libpng-dev")
endif()

find_package(PkgConfig)
if(PkgConfig_FOUND)
  pkg_check_modules(VITRIFY_WEBP IMPORTED_TARGET libwebp libwebpdemux)
endif()
if(NOT VITRIFY_WEBP_FOUND)
  message(STATUS "libwebp was not found: this build cannot read WebP. hint: apt-get install libwebp-dev")
endif()
