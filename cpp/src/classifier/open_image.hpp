// An image of any kind of source whose header has been read, ready to be prepared, or decoded where an engine wants it.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "reader.hpp"
#include "workers.hpp"
#include "vitrify/classifier.hpp"

namespace vitrify::classifier {

// Reads to the end, whatever kind of file that is, but no further than one byte past the limit: enough for the decoder
// to refuse it. Throws ImageError.
[[nodiscard]] std::vector<std::uint8_t> read_file(const std::string& path, const DecodeLimits& limits);

class OpenImage {
 public:
  // Throws ImageError, which names the file where it is one.
  void open(const ImageSource& source, const DecodeLimits& limits);

  [[nodiscard]] StoredImage stored() const { return stored_; }
  [[nodiscard]] Size upright() const;

  // Decodes and prepares it on the CPU, to [3, crop.height, crop.width]. Once only. Throws ImageError. `threads` of the
  // workers may do it together, those that have nothing to do.
  void preprocess(const Preprocess& rules, bool fast, pixels::Workers& workers, std::size_t threads, float* out);

  // Decodes the window's rows and columns. Once only. Throws ImageError.
  void decode(const PixelWindow& window, pixels::Workers& workers, std::size_t threads);

 private:
  template <typename Work>
  void named(Work work) const;

  std::string path_;                   // empty where it is no file
  std::vector<std::uint8_t> bytes_;    // of a file
  const std::uint8_t* rgb_ = nullptr;  // the caller's pixels
  std::unique_ptr<pixels::Reader> reader_;
  StoredImage stored_;
};

}  // namespace vitrify::classifier
