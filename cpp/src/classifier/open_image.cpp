#include "open_image.hpp"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <type_traits>

#include "shares.hpp"

namespace vitrify::classifier {

std::vector<std::uint8_t> read_file(const std::string& path, const DecodeLimits& limits) {
  std::error_code ignored;
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file || std::filesystem::is_directory(path, ignored)) {
    const int reason = !file ? errno : EISDIR;
    throw ImageError("cannot read " + path, reason != 0 ? std::generic_category().message(reason) : "");
  }
  constexpr std::size_t least = 1 << 16;
  const std::uintmax_t known = std::filesystem::file_size(path, ignored);  // of a regular file; else as large as can be
  const auto allowed = static_cast<std::uint64_t>(std::max<std::int64_t>(limits.max_bytes, 0));
  std::vector<std::uint8_t> bytes(known <= allowed ? std::max<std::size_t>(known + 1, least) : least);
  std::size_t size = 0;
  while (true) {
    file.read(reinterpret_cast<char*>(bytes.data() + size), static_cast<std::streamsize>(bytes.size() - size));
    size += static_cast<std::size_t>(file.gcount());
    if (file.bad()) {
      throw ImageError("cannot read " + path, "an error after " + std::to_string(size) + " bytes");
    }
    if (!file || size > allowed) {
      bytes.resize(size);
      return bytes;
    }
    bytes.resize(2 * bytes.size());
  }
}

// Runs `work`, whose errors get the file's name.
template <typename Work>
void OpenImage::named(Work work) const {
  try {
    work();
  } catch (const ImageError& error) {
    if (path_.empty()) {
      throw;
    }
    throw ImageError(path_ + ": " + error.problem(), error.got(), error.expected(), error.hint());
  }
}

void OpenImage::open(const ImageSource& source, const DecodeLimits& limits) {
  const auto read_header = [&](const std::uint8_t* data, std::size_t size) {
    reader_ = pixels::open(data, size, limits);
    stored_.size = reader_->size();
    stored_.orientation = reader_->orientation();
    if (reader_->is_plain_jpeg()) {
      stored_.jpeg = data;
      stored_.jpeg_bytes = size;
    }
  };
  std::visit(
      [&](const auto& value) {
        using Kind = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<Kind, std::string>) {
          bytes_ = read_file(value, limits);
          path_ = value;
          named([&] { read_header(bytes_.data(), bytes_.size()); });
        } else if constexpr (std::is_same_v<Kind, ImageSource::Bytes>) {
          read_header(value.data, value.size);
        } else {
          if (value.rgb == nullptr || value.size.width < 1 || value.size.height < 1) {
            throw ImageError("the image has no pixels",
                             std::to_string(value.size.width) + " x " + std::to_string(value.size.height));
          }
          rgb_ = value.rgb;
          stored_.size = value.size;
        }
      },
      source.value());
}

Size OpenImage::upright() const {
  const bool exchanged = stored_.orientation >= 5;
  return exchanged ? Size{stored_.size.height, stored_.size.width} : stored_.size;
}

void OpenImage::preprocess(const Preprocess& rules, bool fast, pixels::Workers& workers, std::size_t threads,
                           float* out) {
  if (rgb_ != nullptr) {
    preprocess_rgb(rgb_, stored_.size, rules, out);
    return;
  }
  named([&] { pixels::preprocess(*reader_, rules, fast, workers, threads, out); });
}

void OpenImage::decode(const PixelWindow& window, pixels::Workers& workers, std::size_t threads) {
  const pixels::Range columns{window.column, window.column + window.size.width};
  const pixels::Range rows{window.row, window.row + window.size.height};
  const pixels::SinkFrom copy_from = pixels::copy_to(window.rgb, columns, rows.begin);
  if (rgb_ != nullptr) {
    const std::size_t stride = 3 * static_cast<std::size_t>(stored_.size.width);
    const pixels::RowSink copy = copy_from(rows.begin);
    for (int y = rows.begin; y < rows.end; ++y) {
      copy({rgb_ + static_cast<std::size_t>(y) * stride});
    }
    return;
  }
  named([&] { pixels::read_shared(*reader_, columns, rows, copy_from, workers, threads); });
}

}  // namespace vitrify::classifier
