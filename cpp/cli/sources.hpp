// What a user names on a command line, to images.
#pragma once

#include <istream>
#include <string>
#include <vector>

#include "vitrify/classifier.hpp"

namespace vitrify::cli {

// A file by its path, or the encoded image that standard input held.
struct NamedImage {
  std::string path;  // empty where `bytes` has the image
  std::string bytes;

  // Of this object's memory, which must outlive it.
  [[nodiscard]] ImageSource image() const;
  // As answers call it: its path, or "image 3".
  [[nodiscard]] std::string name(std::size_t number) const;
};

// Files, folders (searched through, sorted) and -, which is an encoded image or one path a line, or paths each ended by
// a NUL. Throws InputError for a folder without images and for empty input; a named file that cannot be read is a
// failure of that image, later.
[[nodiscard]] std::vector<NamedImage> expand_sources(const std::vector<std::string>& names,
                                                     std::istream& standard_input);

}  // namespace vitrify::cli
